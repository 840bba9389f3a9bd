//! The registry itself, as skopeo sees it: what the stories rely on.

use super::*;
use crate::made_image::{MadeImage, noise_layer};
use crate::skopeo::Skopeo;

#[test]
fn the_port_is_the_one_it_chose() {
    let said = "level=info msg=\"redis not configured\"\nlevel=info msg=\"listening on 127.0.0.1:36423\" x=1";
    assert_eq!(listening_port(said), Some(36423));
    assert_eq!(listening_port("level=info msg=\"listening on 10.1.1.1:5000, tls\""), Some(5000));
    assert_eq!(listening_port("level=info msg=\"redis\""), None);
}

/// An archive of a small image.
fn archive(directory: &Path) -> (MadeImage, String) {
    let image = MadeImage::of_layers(&[noise_layer(1, 2, 1000), noise_layer(2, 2, 1000)]);
    let path = directory.join("made.tar");
    image.write_archive(&path, "made:latest");
    (image, format!("oci-archive:{}", path.display()))
}

#[test]
fn an_open_registry_keeps_what_it_gets() {
    let (Some(mut registry), Some(skopeo)) = (Registry::plain(), Skopeo::find()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (image, archive) = archive(directory.path());
    skopeo.copy(&archive, &format!("docker://{}", registry.image("made:latest")));
    assert_eq!(registry.blobs().len(), 4);
    registry.stop();
    registry.start();
    let manifest = skopeo.raw_manifest(&registry.image("made:latest"));
    assert_eq!(manifest.as_bytes(), image.manifest.content);
}

#[test]
fn a_closed_registry_asks_for_a_password_or_a_token() {
    let Some(skopeo) = Skopeo::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (_image, archive) = archive(directory.path());
    let tokens = TokenServer::start();
    for access in [Access::Password, Access::Token(&tokens)] {
        let Some(registry) = Registry::with(&Settings { access, ..Settings::PLAIN }) else { return };
        let target = format!("docker://{}", registry.image("made:latest"));
        let push = ["copy", "--quiet", "--dest-tls-verify=false", &archive, &target];
        skopeo.run(push).exits_with(1);
        let wrong = format!("--dest-creds={USER}:wrong");
        skopeo.run(push.into_iter().chain([wrong.as_str()])).exits_with(1);
        let right = format!("--dest-creds={USER}:{PASSWORD}");
        skopeo.run(push.into_iter().chain([right.as_str()])).exits_with(0);
    }
    assert!(tokens.issued() > 0);
}

#[test]
fn a_registry_with_tls_is_believed_by_who_knows_its_authority() {
    let (Some(namespace), Some(skopeo)) = (Namespace::new(), Skopeo::find()) else { return };
    let skopeo = skopeo.inside(&namespace);
    let directory = tempfile::tempdir().unwrap();
    let (_image, archive) = archive(directory.path());
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = authority.vouches_for(&namespace.ip().to_string());
    let settings = Settings {
        identity: Some(&identity),
        clients: Some(&clients),
        namespace: Some(&namespace),
        ..Settings::PLAIN
    };
    let Some(registry) = Registry::with(&settings) else { return };
    let target = format!("docker://{}", registry.image("made:latest"));
    let certificates = directory.path().join("certs");
    fs::create_dir(&certificates).unwrap();
    let known = format!("--dest-cert-dir={}", certificates.display());
    let push = ["copy", "--quiet", known.as_str(), &archive, &target];
    skopeo.run(push).exits_with(1).complains("unknown authority");
    fs::write(certificates.join("ca.crt"), authority.certificate_pem()).unwrap();
    skopeo.run(push).exits_with(1);
    clients.vouches_for("tester").write_to(&certificates, "client");
    skopeo.run(push).exits_with(0);
}
