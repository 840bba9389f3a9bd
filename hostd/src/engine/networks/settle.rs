//! What a request means on this daemon: which network the default is, and what of the request has no effect here.

use super::endpoint::{NetworkMode, NetworkSpec};
use super::network::Reach;
use super::{DefaultBridge, Networks};

impl Networks {
    /// Settles what "the default" is. Returns warnings for what was asked for and cannot be.
    pub(in crate::engine) fn settle(&self, spec: &mut NetworkSpec) -> Vec<String> {
        let mut warnings = Vec::new();
        // Clients call the network of the mode by this word, too.
        let of_default = spec.endpoints.remove("default");
        if spec.mode == NetworkMode::Default {
            spec.mode = match (self.default_network(), spec.endpoints.keys().next()) {
                (Ok(name), _) => NetworkMode::Network(name.to_owned()),
                // Whoever names networks and no mode wants those.
                (Err(_), Some(first)) => NetworkMode::Network(first.clone()),
                (Err(reason), None) => {
                    warnings.extend(
                        reason.map(|reason| format!("The container has no network but loopback: {reason}")),
                    );
                    NetworkMode::None
                }
            };
        }
        if let (NetworkMode::Network(name), Some(endpoint)) = (&spec.mode, of_default) {
            spec.endpoints.entry(name.clone()).or_insert(endpoint);
        }
        warnings.extend(self.discarded_ports(spec).map(str::to_owned));
        warnings
    }

    /// Its name, or why it is not there although it was asked for.
    fn default_network(&self) -> Result<&'static str, Option<&String>> {
        match (&self.policy.default_bridge, self.no_default.get()) {
            (DefaultBridge::Network { .. }, None) => Ok("bridge"),
            (DefaultBridge::Network { .. }, reason) => Err(reason),
            (DefaultBridge::None, _) => Err(None),
        }
    }

    fn discarded_ports(&self, spec: &NetworkSpec) -> Option<&'static str> {
        if spec.published.is_empty() && !spec.publish_all {
            return None;
        }
        // One that is not there is told of at the start.
        let is_closed =
            |name: &str| self.find(name).is_ok_and(|active| active.network.reach == Reach::Internal);
        match &spec.mode {
            NetworkMode::Machine => Some("Published ports are discarded when using host network mode"),
            NetworkMode::Container(_) => None,
            NetworkMode::None => Some("Published ports are discarded: the container is on no network"),
            _ if spec.wanted().iter().all(|(name, _)| is_closed(name)) => {
                Some("Published ports are discarded: the container is on internal networks only")
            }
            NetworkMode::Default | NetworkMode::Network(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::{EndpointSpec, PortBinding};
    use super::super::{NetworkBackend, NetworkPolicy};
    use super::*;
    use crate::database::Database;
    use crate::network::firewall::Protocol;
    use crate::network::pools::AddressPools;

    fn networks(default_bridge: DefaultBridge) -> (tempfile::TempDir, Networks) {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("berth.db")).unwrap();
        let policy = NetworkPolicy {
            backend: NetworkBackend::Bridge,
            default_bridge,
            pools: AddressPools::default(),
            mtu_bytes: 1500,
            daemon_ports: Vec::new(),
            dns: crate::engine::DnsSpec::default(),
            host_gateways: Vec::new(),
        };
        (directory, Networks::new(policy, "0123abcd".into(), database))
    }

    fn bridge() -> DefaultBridge {
        DefaultBridge::Network { interface: "berth0".into(), address: None, icc: true }
    }

    fn published(mode: NetworkMode) -> NetworkSpec {
        let port = PortBinding { protocol: Protocol::Tcp, port: 80, host_address: None, host_ports: None };
        NetworkSpec { mode, published: vec![port], ..NetworkSpec::default() }
    }

    #[test]
    fn the_default_is_what_the_daemon_has() {
        let (_directory, networks_with_bridge) = networks(bridge());
        let endpoint = EndpointSpec { gateway_priority: 7, ..EndpointSpec::default() };
        let mut spec = NetworkSpec {
            endpoints: [("default".to_owned(), endpoint.clone())].into(),
            ..Default::default()
        };
        assert_eq!(networks_with_bridge.settle(&mut spec), [""; 0]);
        assert_eq!(spec.mode, NetworkMode::Network("bridge".into()));
        assert_eq!(spec.endpoints, [("bridge".to_owned(), endpoint.clone())].into());

        let (_directory, without) = networks(DefaultBridge::None);
        let mut spec = NetworkSpec::default();
        assert_eq!((without.settle(&mut spec), spec.mode), (vec![], NetworkMode::None));
        let mut spec = NetworkSpec { endpoints: [("web".to_owned(), endpoint)].into(), ..Default::default() };
        assert_eq!((without.settle(&mut spec), spec.mode), (vec![], NetworkMode::Network("web".into())));
    }

    #[test]
    fn what_cannot_be_is_warned_of() {
        let (_directory, broken) = networks(bridge());
        broken.no_default.set("there is no nft".into()).unwrap();
        let mut spec = published(NetworkMode::Default);
        let warnings = broken.settle(&mut spec);
        assert_eq!(warnings[0], "The container has no network but loopback: there is no nft");
        assert_eq!(warnings[1], "Published ports are discarded: the container is on no network");
        let warned = |mode| broken.settle(&mut published(mode)).join("\n");
        assert_eq!(
            warned(NetworkMode::Machine),
            "Published ports are discarded when using host network mode"
        );
        assert_eq!(warned(NetworkMode::Network("web".into())), "", "it may come before the start");
    }
}
