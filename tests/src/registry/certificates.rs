//! A certificate authority of a test's own, and those whom it vouches for.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Signs certificates; nobody trusts it who is not told to.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Identity {
    certificate_pem: String,
    key_pem: String,
}

impl Authority {
    /// # Panics
    /// Never, for the parameters are constant.
    #[must_use]
    pub fn new() -> Self {
        let mut parameters = CertificateParams::new([]).expect("no names are no wrong names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self { issuer: CertifiedIssuer::self_signed(parameters, key).expect("a certificate can be made") }
    }

    /// The certificate of who is called so: a host's name or address, or a client's name.
    ///
    /// # Panics
    /// If the name is none.
    #[must_use]
    pub fn vouches_for(&self, name: &str) -> Identity {
        let parameters = CertificateParams::new([name.to_owned()]).expect("a name or an address");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate can be made");
        Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// Writes `NAME.cert` and `NAME.key`, the names that Docker gives to a client's.
    ///
    /// # Panics
    /// If the directory cannot be written to.
    pub fn write_to(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = directory.join(format!("{name}.cert"));
        let key = directory.join(format!("{name}.key"));
        fs::write(&certificate, &self.certificate_pem).expect("a file can be written");
        fs::write(&key, &self.key_pem).expect("a file can be written");
        (certificate, key)
    }
}
