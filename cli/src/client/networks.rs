//! `/networks/...`: one method per endpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::request::Request;
use super::{Client, ClientError};

/// One entry of `GET /networks`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkSummary {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) scope: String,
    /// RFC 3339.
    pub(crate) created: String,
    #[serde(rename = "EnableIPv6")]
    pub(crate) enable_ipv6: bool,
    pub(crate) internal: bool,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What a network is to be.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkRequest {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) internal: bool,
    pub(crate) attachable: bool,
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub(crate) enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub(crate) enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    pub(crate) ipam: Ipam,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Ipam {
    pub(crate) config: Vec<SubnetRequest>,
}

/// A range; what is empty is the daemon's choice.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SubnetRequest {
    #[serde(rename = "Subnet", skip_serializing_if = "String::is_empty")]
    pub(crate) subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub(crate) ip_range: String,
    #[serde(rename = "Gateway", skip_serializing_if = "String::is_empty")]
    pub(crate) gateway: String,
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) auxiliary_addresses: BTreeMap<String, String>,
}

/// A container that is to be on a network.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Connection {
    pub(crate) container: String,
    pub(crate) endpoint_config: EndpointSettings,
}

/// What it is to have there; what is empty is the daemon's choice.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EndpointSettings {
    #[serde(rename = "IPAMConfig", skip_serializing_if = "Option::is_none")]
    pub(crate) ipam_config: Option<EndpointAddresses>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) aliases: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) mac_address: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) driver_opts: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) gw_priority: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct EndpointAddresses {
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub(crate) ipv4: String,
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub(crate) ipv6: String,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) link_local: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Disconnection<'a> {
    container: &'a str,
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
    #[serde(default)]
    warning: String,
}

/// A network that was made, and what the daemon had to say of it.
#[derive(Debug)]
pub(crate) struct CreatedNetwork {
    pub(crate) id: String,
    pub(crate) warning: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Pruned {
    networks_deleted: Option<Vec<String>>,
}

impl Client {
    pub(crate) async fn list_networks(
        &self,
        filters: Option<&str>,
    ) -> Result<Vec<NetworkSummary>, ClientError> {
        self.send_for_json(Request::get(&["networks"]).with_if_some("filters", filters)).await
    }

    pub(crate) async fn create_network(
        &self,
        network: &NetworkRequest,
    ) -> Result<CreatedNetwork, ClientError> {
        let created: Created =
            self.send_for_json(Request::post(&["networks", "create"]).with_json(network)).await?;
        let warning = Some(created.warning).filter(|warning| !warning.is_empty());
        Ok(CreatedNetwork { id: created.id, warning })
    }

    pub(crate) async fn inspect_network(&self, name: &str) -> Result<Bytes, ClientError> {
        self.send_for_bytes(Request::get(&["networks", name])).await
    }

    pub(crate) async fn remove_network(&self, name: &str) -> Result<(), ClientError> {
        self.send_for_nothing(Request::delete(&["networks", name])).await
    }

    pub(crate) async fn connect_network(
        &self,
        network: &str,
        connection: &Connection,
    ) -> Result<(), ClientError> {
        let request = Request::post(&["networks", network, "connect"]).with_json(connection);
        self.send_for_nothing(request).await
    }

    pub(crate) async fn disconnect_network(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<(), ClientError> {
        let disconnection = Disconnection { container, force };
        let request = Request::post(&["networks", network, "disconnect"]).with_json(&disconnection);
        self.send_for_nothing(request).await
    }

    /// Returns the names of those that went.
    pub(crate) async fn prune_networks(&self, filters: Option<&str>) -> Result<Vec<String>, ClientError> {
        let request = Request::post(&["networks", "prune"]).with_if_some("filters", filters);
        let pruned: Pruned = self.send_for_json(request).await?;
        Ok(pruned.networks_deleted.unwrap_or_default())
    }
}
