//! The verbs of networks: what they ask for, what they print, how they exit.

use serde_json::json;

use crate::support::FakeDaemon;

#[test]
fn networks_are_listed_by_name() {
    let daemon = FakeDaemon::idle();
    let network = |name: &str| json!({ "Id": name.repeat(20), "Name": name, "Driver": "bridge", "Scope": "local", "Labels": { "a": "b" } });
    daemon.answer("GET /networks", 200, &json!([network("web"), network("data")]).to_string());
    let said = daemon.berth(&["network", "ls", "--filter", "driver=bridge"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let lines: Vec<Vec<&str>> = said.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]);
    assert_eq!(lines[1], ["datadatadata", "data", "bridge", "local"]);
    assert_eq!(lines[2][1], "web");
    assert_eq!(daemon.requests(), ["GET /networks?filters=%7B%22driver%22%3A%7B%22bridge%22%3Atrue%7D%7D"]);
    assert_eq!(daemon.berth(&["network", "ls", "-q"]).stdout, "datadatadata\nwebwebwebweb\n");
}

#[test]
fn a_network_is_made_looked_at_and_removed() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /networks/create", 201, &json!({ "Id": "c0ffee", "Warning": "" }).to_string());
    let said = daemon.berth(&["network", "create", "--internal", "--subnet", "10.9.0.0/24", "lab"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "c0ffee\n"));
    daemon.answer("GET /networks/lab", 200, &json!({ "Name": "lab", "Internal": true }).to_string());
    let said = daemon.berth(&["network", "inspect", "-f", "{{.Name}} {{.Internal}}", "lab"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "lab true\n"));
    daemon.answer("DELETE /networks/lab", 204, "");
    assert_eq!(daemon.berth(&["network", "rm", "lab"]).stdout, "lab\n");
    daemon.answer("POST /networks/prune", 200, &json!({ "NetworksDeleted": ["old"] }).to_string());
    assert_eq!(daemon.berth(&["network", "prune", "-f"]).stdout, "Deleted Networks:\nold\n\n");
}
