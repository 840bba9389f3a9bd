//! Who we are: passwords, tokens, logins; and who never hears of it.

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::super::test_server::{
    Access, IDENTITY, PASSWORD, Reply, Setup, TestRegistry, Tokens, USERNAME, error_body,
};
use super::super::{Credentials, Registries, RegistryErrorKind};
use super::{content, headers, repository_with};
use crate::image::{Digest, Selector};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

fn somebody() -> Credentials {
    Credentials::Basic { username: USERNAME.to_owned(), password: PASSWORD.to_owned() }
}

fn stranger() -> Credentials {
    Credentials::Basic { username: USERNAME.to_owned(), password: "guessed".to_owned() }
}

fn latest() -> Selector {
    Selector::Tag("latest".to_owned())
}

fn password() -> Setup {
    Setup { access: Access::Password, ..Setup::default() }
}

fn tokens(tokens: Tokens) -> Setup {
    Setup { access: Access::Token(tokens), ..Setup::default() }
}

#[tokio::test]
async fn a_password_opens_what_wants_one() {
    let (registry, repository) = repository_with(password(), "a/b", somebody()).await;
    registry.add_manifest("a/b", "latest", OCI, "{}");
    repository.manifest(&latest()).await.unwrap();
    // The question how to authenticate is asked without proof; nothing else is.
    let proven: Vec<_> =
        registry.seen().iter().map(|seen| seen.headers.contains_key("authorization")).collect();
    assert_eq!(proven, [false, true]);
}

#[tokio::test]
async fn without_the_right_password_the_error_says_unauthorized() {
    for credentials in [Credentials::Anonymous, stranger(), Credentials::IdentityToken(IDENTITY.into())] {
        let (registry, repository) = repository_with(password(), "a/b", credentials).await;
        let error = repository.manifest(&latest()).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Unauthorized);
        let expected = format!(
            "registry {0}: manifest of {0}/a/b:latest: unauthorized: authentication required",
            registry.host()
        );
        assert_eq!(error.message, expected);
        assert_eq!(registry.count(&Method::GET, "/manifests/"), 1);
    }
}

#[tokio::test]
async fn anonymous_tokens_open_what_is_public_and_are_kept() {
    let (registry, repository) =
        repository_with(tokens(Tokens::default()), "public/a", Credentials::Anonymous).await;
    registry.add_manifest("public/a", "latest", OCI, "{}");
    for _ in 0..3 {
        repository.manifest(&latest()).await.unwrap();
    }
    assert_eq!(registry.count(&Method::GET, "/token"), 1);
    // The ping, the token, and not one request in vain.
    assert_eq!(registry.seen().len(), 5);
}

#[tokio::test]
async fn what_is_not_public_is_denied_in_dockers_words() {
    let (registry, repository) =
        repository_with(tokens(Tokens::default()), "private/a", Credentials::Anonymous).await;
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    let expected = format!(
        "pull access denied for {}/private/a, repository does not exist or may require 'docker login': \
         denied: requested access to the resource is denied",
        registry.host()
    );
    assert_eq!(error.message, expected);
}

#[tokio::test]
async fn a_token_is_for_what_is_done_with_it() {
    let (registry, repository) = repository_with(tokens(Tokens::default()), "private/a", somebody()).await;
    repository.put_manifest(&latest(), OCI, Bytes::from_static(b"{}")).await.unwrap();
    // The right to push includes that to pull.
    repository.manifest(&latest()).await.unwrap();
    let asked: Vec<_> = registry.seen().into_iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].path.contains("scope=repository%3Aprivate%2Fa%3Apull%2Cpush"), "{}", asked[0].path);
    assert!(asked[0].path.contains("service=test") && asked[0].path.contains("account=somebody"));
}

#[tokio::test]
async fn a_scope_that_answers_no_question_is_not_asked_for() {
    let (registry, repository) =
        repository_with(tokens(Tokens::default()), "public/a", Credentials::Anonymous).await;
    registry.add_manifest("public/a", "latest", OCI, "{}");
    let realm = registry.url("/token");
    let challenge = format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:user/image:pull\"");
    let reply =
        Reply::Answer(StatusCode::UNAUTHORIZED, headers(&[("www-authenticate", &challenge)]), Bytes::new());
    registry.once(Method::GET, "/v2/", reply);
    repository.manifest(&latest()).await.unwrap();
    let asked = registry.seen().into_iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert_eq!(asked.path.matches("scope=").count(), 1, "{}", asked.path);
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories() {
    let (registry, repository) = repository_with(tokens(Tokens::default()), "private/a", somebody()).await;
    let digest = registry.add_blob("private/b", content(5));
    assert!(repository.mount_blob(&digest, &registry.repository("private/b")).await.unwrap());
    let asked = registry.seen().into_iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert!(asked.path.contains("scope=repository%3Aprivate%2Fa%3Apull%2Cpush"), "{}", asked.path);
    assert!(asked.path.contains("scope=repository%3Aprivate%2Fb%3Apull&"), "{}", asked.path);
}

#[tokio::test]
async fn a_token_that_ended_is_renewed_once() {
    let rules = Tokens { uses: Some(2), ..Tokens::default() };
    let (registry, repository) = repository_with(tokens(rules), "public/a", Credentials::Anonymous).await;
    registry.add_manifest("public/a", "latest", OCI, "{}");
    for _ in 0..5 {
        repository.manifest(&latest()).await.unwrap();
    }
    assert_eq!(registry.count(&Method::GET, "/token"), 3);
    assert_eq!(registry.count(&Method::GET, "/manifests/"), 7);
    // One that is turned down at once is not asked for again.
    let rules = Tokens { uses: Some(0), ..Tokens::default() };
    let (registry, repository) = repository_with(tokens(rules), "public/a", Credentials::Anonymous).await;
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unauthorized);
    assert_eq!(registry.count(&Method::GET, "/token"), 1);
}

#[tokio::test]
async fn several_requests_share_one_token() {
    let (registry, repository) =
        repository_with(tokens(Tokens::default()), "public/a", Credentials::Anonymous).await;
    registry.add_manifest("public/a", "latest", OCI, "{}");
    let tag = latest();
    let all = futures_util::future::join_all((0..8).map(|_| repository.manifest(&tag))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((registry.count(&Method::GET, "/token"), registry.count(&Method::GET, "/v2/?")), (1, 0));
    let pings = registry.seen().into_iter().filter(|seen| seen.path == "/v2/").count();
    assert_eq!(pings, 1);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_a_registry_token_is_sent() {
    let identity = Credentials::IdentityToken(IDENTITY.to_owned());
    let (registry, repository) = repository_with(tokens(Tokens::default()), "a/b", identity).await;
    // The test's token server does not read forms: it grants what a query names, so nothing.
    repository.manifest(&latest()).await.unwrap_err();
    let asked = registry.seen().into_iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert_eq!((asked.method, asked.path.as_str()), (Method::POST, "/token"));
    assert_eq!(asked.headers["content-type"], "application/x-www-form-urlencoded");
    let form = String::from_utf8(asked.body.to_vec()).unwrap();
    for pair in ["grant_type=refresh_token", "refresh_token=identity-of-somebody", "service=test"] {
        assert!(form.contains(pair), "{form}");
    }
    assert!(form.contains("scope=repository%3Aa%2Fb%3Apull"), "{form}");

    let given = Credentials::RegistryToken("given".to_owned());
    let (registry, repository) = repository_with(tokens(Tokens::default()), "a/b", given).await;
    repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(registry.count(&Method::GET, "/token"), 0);
    assert_eq!(registry.seen().last().unwrap().headers["authorization"], "Bearer given");
}

#[tokio::test]
async fn token_servers_that_talk_nonsense_are_named() {
    for (status, body, kind, words) in [
        (200, "<html>", RegistryErrorKind::InvalidAnswer, "no token"),
        (200, "{}", RegistryErrorKind::InvalidAnswer, "an answer without a token"),
        (200, r#"{"token": "a\nb"}"#, RegistryErrorKind::InvalidAnswer, "characters that no token has"),
        (403, "", RegistryErrorKind::Denied, "403 Forbidden"),
        (404, "", RegistryErrorKind::NotFound, "404 Not Found"),
    ] {
        let (registry, repository) =
            repository_with(tokens(Tokens::default()), "public/a", Credentials::Anonymous).await;
        let status = StatusCode::from_u16(status).unwrap();
        registry.once(Method::GET, "/token", Reply::Answer(status, Vec::new(), body.into()));
        let error = repository.manifest(&latest()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        let named = error.message.contains(&format!("token server {}", registry.host()));
        assert!(named && error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_endless_token_is_not_read() {
    let (registry, repository) =
        repository_with(tokens(Tokens::default()), "public/a", Credentials::Anonymous).await;
    let endless = Bytes::from(vec![b'x'; 3 << 20]);
    registry.once(Method::GET, "/token", Reply::Answer(StatusCode::OK, Vec::new(), endless));
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(error.message.contains("an answer of more than 1048576 bytes"), "{error}");
}

#[tokio::test]
async fn a_realm_has_to_be_a_url() {
    for realm in ["", "nonsense", "file:///etc/passwd", "ftp://x/"] {
        let rules = Tokens { realm: Some(realm.to_owned()), ..Tokens::default() };
        let (_registry, repository) = repository_with(tokens(rules), "public/a", somebody()).await;
        repository.manifest(&latest()).await.unwrap_err();
    }
}

#[tokio::test]
async fn passwords_go_to_the_realm_and_not_where_it_redirects() {
    let other = TestRegistry::start().await;
    let (registry, repository) = repository_with(tokens(Tokens::default()), "a/b", somebody()).await;
    let away = headers(&[("location", &other.url("/token"))]);
    registry.once(Method::GET, "/token", Reply::Answer(StatusCode::FOUND, away, Bytes::new()));
    repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(other.seen().len(), 1);
    assert!(!other.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_login_tells_whether_the_password_is_right() {
    for access in [Access::Password, Access::Token(Tokens::default())] {
        let expected = if matches!(access, Access::Password) { "" } else { IDENTITY };
        let registry = TestRegistry::with(Setup { access, ..Setup::default() }).await;
        let registries = Registries::new(registry.settings()).unwrap();
        // The default registry is this one too.
        let host = registry.host().to_owned();
        for server in
            [host.clone(), format!("http://{host}/v2/"), String::new(), "https://index.docker.io/v1/".into()]
        {
            let login = registries.check_login(&server, somebody()).await.unwrap();
            assert_eq!(login.status, "Login Succeeded");
            assert_eq!(login.identity_token, expected);
            assert!(!format!("{login:?}").contains("identity-of"));
        }
        let error = registries.check_login(&host, stranger()).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Unauthorized);
        assert!(error.message.contains(&host), "{error}");
    }
}

#[tokio::test]
async fn a_login_needs_a_registry() {
    let registries = Registries::new(super::super::test_server::quick_settings()).unwrap();
    for server in ["a b", "://", "user@host"] {
        registries.check_login(server, somebody()).await.unwrap_err();
    }
    let error = registries.check_login("127.0.0.1:1", somebody()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unreachable);
    assert!(error.message.contains("127.0.0.1:1") && error.message.contains("onnection refused"), "{error}");
}

#[tokio::test]
async fn a_search_shows_what_the_index_found() {
    let registry = TestRegistry::start().await;
    let registries = Registries::new(registry.settings()).unwrap();
    let found = r#"{"num_results": 2, "results": [
        {"name": "busybox", "description": "Small.", "star_count": 3, "is_official": true},
        {"name": "a/b", "description": null}]}"#;
    for term in ["busy box", "docker.io/busy box"] {
        registry.once(
            Method::GET,
            "/v1/search?q=busy+box&n=25",
            Reply::Answer(StatusCode::OK, Vec::new(), found.into()),
        );
        let results = registries.search(term, 25, Credentials::Anonymous).await.unwrap();
        assert_eq!(results.len(), 2);
        assert_eq!((results[0].name.as_str(), results[0].star_count), ("busybox", 3));
        assert!(results[0].is_official && results[1].description.is_empty());
    }
    registry.once(Method::GET, "n=1", Reply::Answer(StatusCode::OK, Vec::new(), found.into()));
    assert_eq!(registries.search("a", 1, somebody()).await.unwrap().len(), 1);
    assert!(registry.seen().last().unwrap().headers.contains_key("authorization"));
    let there = format!("{}/x", registry.host());
    let error = registries.search(&there, 25, Credentials::Anonymous).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::NotFound);
    assert!(error.message.contains("it does not search"), "{error}");
}

#[test]
fn credentials_are_not_shown() {
    for credentials in
        [somebody(), Credentials::IdentityToken("secret".into()), Credentials::RegistryToken("secret".into())]
    {
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("secret") && !shown.contains(PASSWORD), "{shown}");
    }
}

#[tokio::test]
async fn errors_of_a_push_name_the_blob() {
    let (registry, repository) = repository_with(Setup::default(), "a/b", Credentials::Anonymous).await;
    let refused = error_body("UNSUPPORTED", "The operation is unsupported.");
    registry.once(
        Method::POST,
        "/uploads/",
        Reply::Answer(StatusCode::METHOD_NOT_ALLOWED, Vec::new(), refused),
    );
    let digest = Digest::of(b"x");
    let error = repository.upload_blob(digest, 1, |_| Ok(&b"x"[..]), |_| {}).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Refused);
    let expected = format!(
        "registry {0}: storing blob {digest} in {0}/a/b: unsupported: The operation is unsupported.",
        registry.host()
    );
    assert_eq!(error.message, expected);
}
