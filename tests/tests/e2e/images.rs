//! Images: loaded, listed, refused.

use berth_tests::Host;

#[test]
fn an_archive_is_loaded_and_listed() {
    let Some(host) = Host::empty() else { return };
    for client in host.clients() {
        let archive = host.image_archive("busybox");
        client.run(["load", "-i", &archive]).exits_with(0).prints("Loaded image: busybox:latest");
        client.run(["images", "--format", "{{.Repository}}:{{.Tag}}"]).prints_exactly("busybox:latest");
        client.run(["run", "--rm", "busybox:latest", "echo", "works"]).exits_with(0).prints_exactly("works");
    }
}

#[test]
fn an_image_arrives_on_stdin() {
    let Some(host) = Host::empty() else { return };
    for client in host.clients() {
        let archive = std::fs::read(host.image_archive("hello-world")).unwrap();
        client.run_with_input(["load"], &archive).exits_with(0).prints("Loaded image: hello-world:latest");
    }
}

#[test]
fn what_is_no_archive_is_refused_and_leaves_nothing() {
    let Some(host) = Host::empty() else { return };
    for client in host.clients() {
        client.run_with_input(["load"], &[0xa5; 5000]).exits_with(1);
        client.run(["images", "-q"]).exits_with(0).prints_exactly("");
    }
}

#[test]
fn an_image_that_is_not_here_is_named() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let unknown = client.run(["run", "--rm", "nosuch", "true"]).exits_with(125);
        unknown.complains("Unable to find image 'nosuch:latest' locally");
        let never = client.run(["run", "--rm", "--pull", "never", "nosuch", "true"]).exits_with(125);
        never.complains("No such image: nosuch:latest");
    }
}
