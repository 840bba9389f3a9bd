//! How a registry is spoken to: TLS and whom it trusts, plain text and where, proxies.

use std::path::Path;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use super::super::test_server::{
    Access, Authority, Clients, PASSWORD, Proxy, Reply, Setup, TestRegistry, Tokens, USERNAME, quick_settings,
};
use super::super::{
    Credentials, FetchedManifest, Registries, RegistryError, RegistryErrorKind, RegistrySettings,
};
use super::{content, headers};
use crate::image::{Repository, Selector};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

async fn manifest_of(
    settings: RegistrySettings,
    repository: &Repository,
) -> Result<FetchedManifest, RegistryError> {
    let registries = Registries::new(settings).unwrap();
    let repository = registries.repository(repository, Credentials::Anonymous);
    repository.manifest(&Selector::Tag("latest".to_owned())).await
}

async fn secure_registry(authority: &Authority, clients: Clients) -> TestRegistry {
    let tls = Some(authority.server("127.0.0.1", clients));
    let registry = TestRegistry::with(Setup { tls, ..Setup::default() }).await;
    registry.add_manifest("a/b", "latest", OCI, "{}");
    registry
}

fn settings_with(certs_directory: &Path) -> RegistrySettings {
    RegistrySettings { certs_directory: certs_directory.to_owned(), ..quick_settings() }
}

#[tokio::test]
async fn an_unknown_authority_is_not_trusted_and_plain_text_is_no_way_out() {
    let registry = secure_registry(&Authority::new(), Clients::Everybody).await;
    let error = manifest_of(quick_settings(), &registry.repository("a/b")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unreachable);
    for words in [registry.host(), "certificate is not accepted", "HOST[:PORT]/ca.crt", "insecure"] {
        assert!(error.message.contains(words), "{error}");
    }
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn an_authority_in_the_hosts_folder_is_trusted_there_only() {
    let (authority, certs) = (Authority::new(), TempDir::new().unwrap());
    let registry = secure_registry(&authority, Clients::Everybody).await;
    authority.trust(certs.path(), registry.host());
    manifest_of(settings_with(certs.path()), &registry.repository("a/b")).await.unwrap();

    let other = secure_registry(&authority, Clients::Everybody).await;
    let error = manifest_of(settings_with(certs.path()), &other.repository("a/b")).await.unwrap_err();
    assert!(error.message.contains("certificate is not accepted"), "{error}");
}

#[tokio::test]
async fn an_authority_that_is_taken_away_is_trusted_no_longer() {
    let (authority, certs) = (Authority::new(), TempDir::new().unwrap());
    let registry = secure_registry(&authority, Clients::Everybody).await;
    let registries = Registries::new(settings_with(certs.path())).unwrap();
    let ask = async || {
        let repository = registries.repository(&registry.repository("a/b"), Credentials::Anonymous);
        repository.manifest(&Selector::Tag("latest".to_owned())).await
    };
    authority.trust(certs.path(), registry.host());
    ask().await.unwrap();
    Authority::new().trust(certs.path(), registry.host());
    ask().await.unwrap_err();
    authority.trust(certs.path(), registry.host());
    ask().await.unwrap();
    std::fs::remove_dir_all(certs.path().join(registry.host())).unwrap();
    ask().await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_accepted() {
    let (authority, certs) = (Authority::new(), TempDir::new().unwrap());
    let tls = Some(authority.server("registry.example", Clients::Everybody));
    let registry = TestRegistry::with(Setup { tls, ..Setup::default() }).await;
    authority.trust(certs.path(), registry.host());
    let error = manifest_of(settings_with(certs.path()), &registry.repository("a/b")).await.unwrap_err();
    assert!(error.message.contains("certificate is not accepted"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_opens_who_wants_one() {
    let (authority, certs) = (Authority::new(), TempDir::new().unwrap());
    let registry = secure_registry(&authority, Clients::Certified).await;
    authority.trust(certs.path(), registry.host());
    let registries = Registries::new(settings_with(certs.path())).unwrap();
    let ask = async || {
        let repository = registries.repository(&registry.repository("a/b"), Credentials::Anonymous);
        repository.manifest(&Selector::Tag("latest".to_owned())).await
    };
    let error = ask().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unreachable);
    assert!(error.message.contains("HOST[:PORT]/client.cert"), "{error}");
    // The same daemon finds what was put there meanwhile.
    authority.certify_client(certs.path(), registry.host());
    ask().await.unwrap();
}

#[tokio::test]
async fn storage_is_trusted_by_the_registrys_authority_but_not_shown_our_certificate() {
    let (authority, certs) = (Authority::new(), TempDir::new().unwrap());
    for (clients, arrives) in [(Clients::Everybody, true), (Clients::Certified, false)] {
        let registry = secure_registry(&authority, Clients::Certified).await;
        let storage = secure_registry(&authority, clients).await;
        authority.trust(certs.path(), registry.host());
        authority.certify_client(certs.path(), registry.host());
        let digest = storage.add_blob("s", content(10));
        for _ in 0..5 {
            let place = storage.url(&format!("/v2/s/blobs/{digest}"));
            let redirect = Reply::Answer(StatusCode::FOUND, headers(&[("location", &place)]), Bytes::new());
            registry.once(Method::GET, "/blobs/", redirect);
        }
        let registries = Registries::new(settings_with(certs.path())).unwrap();
        let repository = registries.repository(&registry.repository("a/b"), Credentials::Anonymous);
        let read = repository.blob(digest, 10).read_to_end(&mut Vec::new()).await;
        assert_eq!(read.is_ok(), arrives);
    }
}

#[tokio::test]
async fn a_broken_folder_is_an_error_that_names_the_file() {
    let certs = TempDir::new().unwrap();
    let registry = TestRegistry::start().await;
    let folder = certs.path().join(registry.host());
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("me.cert"), "").unwrap();
    let error = manifest_of(settings_with(certs.path()), &registry.repository("a/b")).await.unwrap_err();
    assert!(error.message.contains("me.cert has no key beside it"), "{error}");
}

#[tokio::test]
async fn a_listed_registry_is_believed_without_a_certificate_anybody_knows() {
    let registry = secure_registry(&Authority::new(), Clients::Everybody).await;
    for entry in [registry.host(), "127.0.0.0/8"] {
        let settings = RegistrySettings { insecure: vec![entry.to_owned()], ..quick_settings() };
        manifest_of(settings, &registry.repository("a/b")).await.unwrap();
    }
}

#[tokio::test]
async fn plain_text_is_for_loopback_and_listed_registries() {
    // A name that is not this machine's; the proxy leads to the registry all the same.
    let registry = TestRegistry::start().await;
    registry.add_manifest("a/b", "latest", OCI, "{}");
    let repository = Repository::parse("registry.example/a/b").unwrap();
    let mut settings = quick_settings();
    settings.proxies.http = Some(registry.url(""));
    let proxy = Proxy::to("127.0.0.1:1").await;
    settings.proxies.https = Some(proxy.url.clone());

    let error = manifest_of(settings.clone(), &repository).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unreachable);
    assert!(registry.seen().is_empty());

    settings.insecure = vec!["registry.example".to_owned()];
    manifest_of(settings, &repository).await.unwrap();
    assert!(registry.seen().iter().all(|seen| seen.headers["host"] == "registry.example"));
    assert!(proxy.asked().iter().all(|line| line == "CONNECT registry.example:443 HTTP/1.1"));
}

#[tokio::test]
async fn tls_goes_through_the_proxy() {
    let (authority, certs) = (Authority::new(), TempDir::new().unwrap());
    let tls = Some(authority.server("registry.example", Clients::Everybody));
    let registry = TestRegistry::with(Setup { tls, ..Setup::default() }).await;
    registry.add_manifest("a/b", "latest", OCI, "{}");
    let proxy = Proxy::to(registry.host()).await;
    authority.trust(certs.path(), "registry.example:8443");
    let mut settings = settings_with(certs.path());
    settings.proxies.https = Some(proxy.url.clone());
    manifest_of(settings, &Repository::parse("registry.example:8443/a/b").unwrap()).await.unwrap();
    assert_eq!(proxy.asked()[0], "CONNECT registry.example:8443 HTTP/1.1");
}

#[tokio::test]
async fn loopback_is_never_asked_through_a_proxy() {
    let registry = TestRegistry::start().await;
    registry.add_manifest("a/b", "latest", OCI, "{}");
    let proxy = Proxy::to("127.0.0.1:1").await;
    let mut settings = quick_settings();
    settings.proxies.http = Some(proxy.url.clone());
    settings.proxies.https = Some(proxy.url.clone());
    manifest_of(settings, &registry.repository("a/b")).await.unwrap();
    assert!(proxy.asked().is_empty());
}

#[tokio::test]
async fn who_is_reached_by_tls_does_not_lead_to_plain_text() {
    let (authority, certs) = (Authority::new(), TempDir::new().unwrap());
    let plain = TestRegistry::start().await;
    let registry = secure_registry(&authority, Clients::Everybody).await;
    authority.trust(certs.path(), registry.host());
    let away = || Reply::Answer(StatusCode::FOUND, headers(&[("location", &plain.url("/x"))]), Bytes::new());
    registry.once(Method::GET, "/manifests/", away());
    let error = manifest_of(settings_with(certs.path()), &registry.repository("a/b")).await.unwrap_err();
    assert!(error.message.contains("it leads from https to plain http"), "{error}");

    let registries = Registries::new(settings_with(certs.path())).unwrap();
    let repository = registries.repository(&registry.repository("a/b"), Credentials::Anonymous);
    let session = headers(&[("location", &plain.url("/v2/a/b/blobs/uploads/x"))]);
    registry.once(Method::POST, "/uploads/", Reply::Answer(StatusCode::ACCEPTED, session, Bytes::new()));
    let digest = crate::image::Digest::of(b"x");
    let error = repository.upload_blob(digest, 1, |_| Ok(&b"x"[..]), |_| {}).await.unwrap_err();
    assert!(error.message.contains("it leads from https to plain http"), "{error}");
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn passwords_go_to_no_token_server_in_plain_text() {
    let (authority, certs) = (Authority::new(), TempDir::new().unwrap());
    let plain = TestRegistry::start().await;
    let rules = Tokens { realm: Some(plain.url("/token")), ..Tokens::default() };
    let tls = Some(authority.server("127.0.0.1", Clients::Everybody));
    let registry = TestRegistry::with(Setup { tls, access: Access::Token(rules) }).await;
    authority.trust(certs.path(), registry.host());
    let registries = Registries::new(settings_with(certs.path())).unwrap();
    let credentials = Credentials::Basic { username: USERNAME.into(), password: PASSWORD.into() };
    let error = registries.check_login(registry.host(), credentials).await.unwrap_err();
    assert!(error.message.contains("which is not https"), "{error}");
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named_with_the_reason() {
    let repository = Repository::parse("127.0.0.1:1/a/b").unwrap();
    let error = manifest_of(quick_settings(), &repository).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unreachable);
    let words = "registry 127.0.0.1:1: manifest of 127.0.0.1:1/a/b:latest: cannot connect: ";
    assert!(error.message.starts_with(words), "{error}");
}

#[tokio::test]
async fn whoever_answers_the_ping_is_asked_though_it_says_no() {
    for status in [200, 401, 403, 404, 418] {
        let registry = TestRegistry::start().await;
        registry.add_manifest("a/b", "latest", OCI, "{}");
        let status = StatusCode::from_u16(status).unwrap();
        registry.once(Method::GET, "/v2/", Reply::Answer(status, Vec::new(), Bytes::new()));
        manifest_of(quick_settings(), &registry.repository("a/b")).await.unwrap();
    }
    let registry = TestRegistry::start().await;
    registry.add_manifest("a/b", "latest", OCI, "{}");
    let busy = Reply::Answer(StatusCode::SERVICE_UNAVAILABLE, Vec::new(), Bytes::new());
    registry.once(Method::GET, "/v2/", busy);
    manifest_of(quick_settings(), &registry.repository("a/b")).await.unwrap();
}
