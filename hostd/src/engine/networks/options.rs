//! What can be asked of a bridge, by the names that Docker's bridge driver has for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::error::{EngineError, ErrorKind};
use super::rates;

const PREFIX: &str = "com.docker.network.";
/// IPv6 takes no less than 1280; a packet of virtio no more.
const MTU_BYTES: std::ops::RangeInclusive<u16> = 68..=65_535;
pub(super) const DEFAULT_MTU_BYTES: u16 = 1500;
/// `IFNAMSIZ` without the zero at the end.
const MAX_INTERFACE_NAME_BYTES: usize = 15;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeOptions {
    /// The interface's.
    pub name: String,
    pub mtu_bytes: u16,
    /// Packets that leave bear an address of the host's.
    pub masquerade: bool,
    /// Containers of the network reach each other.
    pub icc: bool,
    /// Where ports are published that name no address.
    pub host_binding: Option<IpAddr>,
    /// What interfaces are called in containers, before their number.
    pub container_interface_prefix: String,
}

impl BridgeOptions {
    pub(super) fn named(name: String) -> Self {
        Self {
            name,
            mtu_bytes: DEFAULT_MTU_BYTES,
            masquerade: true,
            icc: true,
            host_binding: None,
            container_interface_prefix: "eth".to_owned(),
        }
    }

    /// As Docker shows them of the default network, where clients look for the interface's name.
    pub(super) fn of_default_network(&self) -> BTreeMap<String, String> {
        let options = [
            ("bridge.default_bridge", true.to_string()),
            ("bridge.enable_icc", self.icc.to_string()),
            ("bridge.enable_ip_masquerade", self.masquerade.to_string()),
            ("bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
            ("bridge.name", self.name.clone()),
            ("driver.mtu", self.mtu_bytes.to_string()),
        ];
        options.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect()
    }

    /// # Errors
    /// A value that is none, an option that Berth does not have, or one that nobody has.
    pub(super) fn read(mut self, options: &BTreeMap<String, String>) -> Result<Self, EngineError> {
        for (name, value) in options {
            let invalid = || EngineError::invalid(format!("invalid value for {name}: {value:?}"));
            match name.strip_prefix(PREFIX).unwrap_or_default() {
                "bridge.name" if is_interface_name(value) => self.name.clone_from(value),
                "driver.mtu" => {
                    let mtu = value.parse().ok().filter(|mtu| MTU_BYTES.contains(mtu));
                    self.mtu_bytes = mtu.ok_or_else(invalid)?;
                }
                "bridge.enable_ip_masquerade" => self.masquerade = flag(value).ok_or_else(invalid)?,
                "bridge.enable_icc" => self.icc = flag(value).ok_or_else(invalid)?,
                "bridge.host_binding_ipv4" => {
                    let address = value.parse().ok().filter(IpAddr::is_ipv4);
                    self.host_binding = Some(address.ok_or_else(invalid)?);
                }
                "container_iface_prefix" if is_interface_name(&format!("{value}0")) => {
                    self.container_interface_prefix.clone_from(value);
                }
                "bridge.name" | "container_iface_prefix" => return Err(invalid()),
                // What clients set on the default network: it says nothing that is not so.
                "bridge.default_bridge" => _ = flag(value).ok_or_else(invalid)?,
                _ if rates::is_known(name) => {}
                _ => {
                    let message = format!("the network option {name} is not supported by berth yet");
                    return Err(EngineError::new(ErrorKind::NotSupported, message));
                }
            }
        }
        rates::rates(options, &BTreeMap::new())?;
        Ok(self)
    }
}

/// As Go reads them.
fn flag(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn is_interface_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%');
    (1..=MAX_INTERFACE_NAME_BYTES).contains(&name.len())
        && name.bytes().all(plain)
        && !matches!(name, "." | ".." | "all" | "default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<BridgeOptions, EngineError> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        BridgeOptions::named("br-1".into()).read(&options)
    }

    #[test]
    fn what_docker_has_is_read() {
        let read = read(&[
            ("com.docker.network.bridge.name", "mine0"),
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.bridge.enable_ip_masquerade", "false"),
            ("com.docker.network.bridge.enable_icc", "0"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
            ("com.docker.network.container_iface_prefix", "net"),
        ]);
        let expected = BridgeOptions {
            name: "mine0".into(),
            mtu_bytes: 1400,
            masquerade: false,
            icc: false,
            host_binding: Some([127, 0, 0, 1].into()),
            container_interface_prefix: "net".into(),
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (name, value) in [
            ("com.docker.network.bridge.name", "a/b"),
            ("com.docker.network.bridge.name", "sixteen-letters-"),
            ("com.docker.network.bridge.name", ""),
            ("com.docker.network.driver.mtu", "67"),
            ("com.docker.network.driver.mtu", "-1"),
            ("com.docker.network.bridge.enable_icc", "maybe"),
            ("com.docker.network.bridge.host_binding_ipv4", "::1"),
            ("com.docker.network.container_iface_prefix", "fifteen-letters"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert_eq!(error.message, format!("invalid value for {name}: {value:?}"));
        }
        assert_eq!(read(&[("parent", "eth0")]).unwrap_err().kind, ErrorKind::NotSupported);
    }
}
