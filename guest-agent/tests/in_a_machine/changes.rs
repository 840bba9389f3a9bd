//! What a container has changed: of one that runs, and of one that does not.

use berth_protocol::agent::{ChangesForm, ErrorCode, StreamKind};

use crate::container::{container, script};
use crate::machine::Machine;

#[test]
fn the_changes_of_a_container_are_told_whether_it_runs_or_not() {
    let Some(machine) = Machine::boot("the_changes_of_a_container_are_told_whether_it_runs_or_not") else {
        return;
    };
    let mut client = machine.client();
    client.start(container("c1", &["true"])).unwrap();
    client.wait("c1");
    assert_eq!(client.changes("c1").unwrap(), [""; 0], "it has written nothing");
    assert_eq!(client.layer("c1").unwrap(), [0; 1024]);
    client.remove("c1").unwrap();

    let change = "echo x >> /etc/passwd; rm /etc/group; rm -r /home; mkdir -p /home/web/new; chmod 700 /root; \
                  mkdir /mine; ln /bin/garbage /mine/link; touch /tmp/x; rm /tmp/x; echo > /dev/shm/x; echo ready; \
                  sleep 1000";
    client.start(script("c1", change)).unwrap();
    client.stream("c1", StreamKind::Stdout, 0).unwrap().read_until("ready");
    let expected = [
        "C /bin",
        "C /bin/garbage",
        "C /etc",
        "D /etc/group",
        "C /etc/passwd",
        "C /home",
        "C /home/web",
        "A /home/web/new",
        "A /mine",
        "A /mine/link",
        "C /root",
    ];
    let changed: Vec<_> = client.changes("c1").unwrap();
    // That of which only the number of names has changed is as it was, for who lists.
    let changed: Vec<_> = changed.into_iter().filter(|line| line != "C /bin/garbage").collect();
    let expected: Vec<_> =
        expected.into_iter().filter(|line| !["C /bin/garbage", "C /bin"].contains(line)).collect();
    assert_eq!(changed, expected);
    let layer = client.layer("c1").unwrap();
    client.remove("c1").unwrap();

    client.mount("c1").unwrap();
    assert_eq!(client.changes("c1").unwrap(), expected);
    assert!(client.layer("c1").unwrap() == layer, "the same changes make the same layer");
    let mut archive = tar::Archive::new(layer.as_slice());
    let names = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let target = entry.link_name_bytes().map(|name| format!(" = {}", String::from_utf8_lossy(&name)));
        format!("{}{}", String::from_utf8_lossy(&entry.path_bytes()), target.unwrap_or_default())
    });
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "bin/",
            "bin/garbage",
            "etc/",
            "etc/.wh.group",
            "etc/passwd",
            "home/",
            "home/.wh..wh..opq",
            "home/web/",
            "home/web/new/",
            "mine/",
            "mine/link = bin/garbage",
            "root/",
            "tmp/",
        ]
    );
    client.remove("c1").unwrap();
    assert_eq!(client.changes("c1").unwrap_err().code(), ErrorCode::NoSuchContainer);
    let no_form = client.read_changes("c1", ChangesForm::Unset).unwrap_err();
    assert_eq!(no_form.code(), ErrorCode::InvalidRequest);
}
