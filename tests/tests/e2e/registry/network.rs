//! Registries that are not on loopback: certificates, exceptions by name, mirrors, proxies. In a network of the test's own.

use std::fs;
use std::path::Path;

use berth_tests::made_image::MadeImage;
use berth_tests::registry::{Authority, Registry, Settings};
use berth_tests::{Host, Namespace, Skopeo};

use super::{fill_with, noise, tiny};

/// Where the daemon looks for certificates of that registry.
fn directory_of(certificates: &Path, registry: &Registry) -> std::path::PathBuf {
    let directory = certificates.join(registry.address());
    fs::create_dir_all(&directory).expect("a directory can be made");
    directory
}

/// Puts the image there past every check; with a client's certificate where one is needed.
fn fill_inside(namespace: &Namespace, made: &MadeImage, name: &str, known: Option<&Path>) -> Option<()> {
    let skopeo = Skopeo::find()?.inside(namespace);
    match known {
        None => fill_with(&skopeo, made, name),
        Some(directory) => {
            let archive = directory.with_extension("tar");
            made.write_archive(&archive, "made:latest");
            let known = format!("--dest-cert-dir={}", directory.display());
            let (from, to) = (format!("oci-archive:{}", archive.display()), format!("docker://{name}"));
            skopeo.run(["copy", "--quiet", &known, &from, &to]).exits_with(0);
        }
    }
    Some(())
}

#[test]
fn a_certificate_is_believed_if_its_authority_is_known_for_that_registry() {
    let Some(namespace) = Namespace::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let certificates = directory.path().join("certs.d");
    let flags = ["--certs-dir", certificates.to_str().unwrap()];
    let Some(host) = Host::inside(&namespace, &flags) else { return };
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = authority.vouches_for(&namespace.ip().to_string());
    let settings = Settings {
        identity: Some(&identity),
        clients: Some(&clients),
        namespace: Some(&namespace),
        ..Settings::PLAIN
    };
    let Some(registry) = Registry::with(&settings) else { return };
    let known = directory_of(&directory.path().join("skopeo"), &registry);
    fs::write(known.join("ca.crt"), authority.certificate_pem()).unwrap();
    clients.vouches_for("tester").write_to(&known, "client");
    let name = registry.image("safe:latest");
    let image = noise(1, 2);
    let Some(()) = fill_inside(&namespace, &image, &name, Some(&known)) else { return };

    for client in host.clients() {
        let unknown = client.run(["pull", &name]).exits_with(1);
        assert!(unknown.stderr.contains("certificate"), "{unknown:?}");
        let trusted = directory_of(&certificates, &registry);
        fs::write(trusted.join("ca.crt"), authority.certificate_pem()).unwrap();
        // The registry does not believe us yet.
        client.run(["pull", &name]).exits_with(1);
        clients.vouches_for("berth").write_to(&trusted, "client");
        client.run(["pull", &name]).exits_with(0).prints(&image.manifest.digest());
        client.run(["tag", &name, &registry.image("pushed:latest")]).exits_with(0);
        client.run(["push", &registry.image("pushed:latest")]).exits_with(0);
        client.run(["rmi", &name, &registry.image("pushed:latest")]).exits_with(0);
        fs::remove_dir_all(trusted).unwrap();
    }
}

#[test]
fn plain_text_is_spoken_to_nobody_but_who_is_listed() {
    let Some(namespace) = Namespace::new() else { return };
    let settings = Settings { namespace: Some(&namespace), ..Settings::PLAIN };
    let Some(registry) = Registry::with(&settings) else { return };
    let name = registry.image("plain:latest");
    let Some(()) = fill_inside(&namespace, &tiny("plain"), &name, None) else { return };
    let Some(strict) = Host::inside(&namespace, &[]) else { return };
    for client in strict.clients() {
        client.run(["pull", &name]).exits_with(1);
        client.run(["images", "--quiet"]).prints_exactly("");
    }
    let address = registry.address();
    for listed in [address.as_str(), "192.0.2.0/24"] {
        let Some(host) = Host::inside(&namespace, &["--insecure-registry", listed]) else { return };
        for client in host.clients() {
            client.run(["pull", &name]).exits_with(0);
            client.run(["rmi", &name]).exits_with(0);
        }
    }
}

#[test]
fn a_listed_registry_may_have_any_certificate() {
    let Some(namespace) = Namespace::new() else { return };
    let identity = Authority::new().vouches_for("somebody.else");
    let settings = Settings { identity: Some(&identity), namespace: Some(&namespace), ..Settings::PLAIN };
    let Some(registry) = Registry::with(&settings) else { return };
    let name = registry.image("doubtful:latest");
    let Some(()) = fill_inside(&namespace, &tiny("doubtful"), &name, None) else { return };
    let Some(host) = Host::inside(&namespace, &["--insecure-registry", &registry.address()]) else { return };
    host.berth().run(["pull", &name]).exits_with(0);
}

#[test]
fn a_mirror_is_asked_for_what_has_no_registry_in_its_name() {
    let Some(namespace) = Namespace::new() else { return };
    let settings = Settings { namespace: Some(&namespace), ..Settings::PLAIN };
    let (Some(first), Some(second)) = (Registry::with(&settings), Registry::with(&settings)) else { return };
    let image = noise(1, 2);
    let Some(()) = fill_inside(&namespace, &image, &second.image("library/mirrored:latest"), None) else {
        return;
    };
    // The first has nothing, and a third is not there: they are passed over.
    let mirrors = ["192.0.2.1:9".to_owned(), first.address(), second.address()]
        .map(|mirror| format!("http://{mirror}"));
    let flags: Vec<&str> = mirrors.iter().flat_map(|mirror| ["--registry-mirror", mirror]).collect();
    let listed = ["--insecure-registry", "192.0.2.0/24"];
    let Some(host) = Host::inside(&namespace, &[&flags[..], &listed].concat()) else { return };
    for client in host.clients() {
        let pulled = client.run(["pull", "mirrored"]).exits_with(0);
        pulled.prints("Downloaded newer image for mirrored:latest");
        let inspected = &client.run(["image", "inspect", "mirrored"]).json()[0];
        assert_eq!(inspected["RepoDigests"][0], format!("mirrored@{}", image.manifest.digest()));
        client.run(["rmi", "mirrored"]).exits_with(0);
    }
}
