//! Variables that tell a container of those it is linked to on the default network, as Docker made them before there were
//! names: where each of their ports is, and what their own environment says.

use std::net::IpAddr;

use super::super::Shared;
use super::super::container::Container;
use super::super::error::EngineError;
use super::files::linked_address;

/// Of a build, not of what the image is for.
const NOT_PASSED_ON: [&str; 2] = ["HOME", "PATH"];

/// Those of all links of this container, in their order.
///
/// # Errors
/// A container that it is linked to and cannot be.
pub(in crate::engine) fn variables(
    shared: &Shared,
    container: &Container,
) -> Result<Vec<String>, EngineError> {
    let mut all = Vec::new();
    for link in &container.spec().network.links {
        let (other, address) = linked_address(shared, container, link)?;
        let spec = other.spec();
        let linked = Linked {
            path: format!("/{}/{}", container.name(), link.alias),
            prefix: link.alias.to_uppercase().replace('-', "_"),
            address,
            ports: ports(&spec.exposed_ports),
        };
        all.extend(linked.of_ports());
        all.extend(linked.of_environment(&spec.env));
    }
    Ok(all)
}

struct Linked {
    path: String,
    prefix: String,
    address: IpAddr,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    number: u16,
    protocol: String,
}

/// TCP's first, then by protocol and number.
fn ports(exposed: &[String]) -> Vec<Port> {
    let port = |text: &String| {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        Some(Port { number: number.parse().ok()?, protocol: protocol.to_lowercase() })
    };
    let mut ports: Vec<Port> = exposed.iter().filter_map(port).collect();
    ports.sort_by(|one, other| {
        let key = |port: &Port| (port.protocol != "tcp", port.protocol.clone(), port.number);
        key(one).cmp(&key(other))
    });
    ports
}

impl Linked {
    fn of_ports(&self) -> Vec<String> {
        let prefix = &self.prefix;
        let mut variables = vec![format!("{prefix}_NAME={}", self.path)];
        variables.extend(self.ports.first().map(|first| format!("{prefix}_PORT={}", self.place(first))));
        for port in &self.ports {
            let name = self.name(port);
            variables.extend([
                format!("{name}={}", self.place(port)),
                format!("{name}_ADDR={}", self.address),
                format!("{name}_PORT={}", port.number),
                format!("{name}_PROTO={}", port.protocol),
            ]);
        }
        let follows = |one: &Port, next: &Port| {
            next.protocol == one.protocol && one.number.checked_add(1) == Some(next.number)
        };
        for range in self.ports.chunk_by(follows) {
            let (Some(first), Some(last)) = (range.first(), range.last().filter(|_| range.len() > 1)) else {
                continue;
            };
            let name = self.name(first);
            variables.extend([
                format!("{name}_START={}", self.place(first)),
                format!("{name}_PORT_START={}", first.number),
                format!("{name}_END={}", self.place(last)),
                format!("{name}_PORT_END={}", last.number),
            ]);
        }
        variables
    }

    fn of_environment<'a>(&'a self, env: &'a [String]) -> impl Iterator<Item = String> + 'a {
        let pairs = env.iter().filter_map(|entry| entry.split_once('='));
        let pairs = pairs.filter(|(name, _)| !NOT_PASSED_ON.contains(name));
        pairs.map(|(name, value)| format!("{}_ENV_{name}={value}", self.prefix))
    }

    fn name(&self, port: &Port) -> String {
        format!("{}_PORT_{}_{}", self.prefix, port.number, port.protocol.to_uppercase())
    }

    fn place(&self, port: &Port) -> String {
        format!("{}://{}:{}", port.protocol, self.address, port.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn linked(exposed: &[&str]) -> Linked {
        Linked {
            path: "/web/my-store".into(),
            prefix: "MY_STORE".into(),
            address: [172, 17, 0, 2].into(),
            ports: ports(&texts(exposed)),
        }
    }

    /// As a dockerd gave them to a container with `--link db:my-store`.
    #[test]
    fn each_port_has_its_variables_and_a_range_its_ends() {
        let seen = linked(&["53/udp", "6001/tcp", "5432", "6000/tcp"]).of_ports();
        for expected in [
            "MY_STORE_NAME=/web/my-store",
            "MY_STORE_PORT=tcp://172.17.0.2:5432",
            "MY_STORE_PORT_5432_TCP=tcp://172.17.0.2:5432",
            "MY_STORE_PORT_5432_TCP_ADDR=172.17.0.2",
            "MY_STORE_PORT_5432_TCP_PORT=5432",
            "MY_STORE_PORT_5432_TCP_PROTO=tcp",
            "MY_STORE_PORT_53_UDP=udp://172.17.0.2:53",
            "MY_STORE_PORT_6000_TCP_START=tcp://172.17.0.2:6000",
            "MY_STORE_PORT_6000_TCP_PORT_START=6000",
            "MY_STORE_PORT_6000_TCP_END=tcp://172.17.0.2:6001",
            "MY_STORE_PORT_6000_TCP_PORT_END=6001",
        ] {
            assert!(seen.iter().any(|variable| variable == expected), "{expected} in {seen:#?}");
        }
        assert!(!seen.iter().any(|variable| variable.contains("5432_TCP_START")), "{seen:?}");
        assert_eq!(linked(&[]).of_ports(), ["MY_STORE_NAME=/web/my-store"]);
        assert_eq!(ports(&texts(&["65535", "x", "70000/tcp"])).len(), 1);
    }

    #[test]
    fn an_environment_is_passed_on_but_for_what_is_of_the_build() {
        let env = texts(&["PATH=/bin", "A=1=2", "HOME=/", "ODD"]);
        assert_eq!(linked(&[]).of_environment(&env).collect::<Vec<_>>(), ["MY_STORE_ENV_A=1=2"]);
    }
}
