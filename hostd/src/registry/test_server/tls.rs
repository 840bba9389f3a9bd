//! Certificates for the test registry, and the folders in which the client finds their authority.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// An authority of a test's own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Whom a server talks to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Clients {
    Everybody,
    /// Who shows a certificate of the same authority.
    Certified,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server of this name or address.
    pub(crate) fn server(&self, name: &str, clients: Clients) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Clients::Everybody => builder.with_no_client_auth(),
            Clients::Certified => {
                let mut roots = RootCertStore::empty();
                roots.add(self.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }

    /// Has a host trusted: `HOST/ca.crt`.
    pub(crate) fn trust(&self, certs_directory: &Path, host: &str) {
        let folder = certs_directory.join(host);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.crt"), self.0.pem()).unwrap();
    }

    /// Gives us a certificate for a host: `HOST/client.{cert,key}`.
    pub(crate) fn certify_client(&self, certs_directory: &Path, host: &str) {
        let (certificate, key) = self.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        let folder = certs_directory.join(host);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("client.cert"), certificate.pem()).unwrap();
        fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();
    }

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.insert_extended_key_usage(purpose);
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}
