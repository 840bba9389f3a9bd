//! `GET /networks` and `GET /networks/{id}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State as Extracted};
use serde::Serialize;
use serde_json::{Value, json};

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::filters::{Filters, NamePattern};
use crate::api::params::Params;
use crate::engine::{NetworkView, Reach, StationView, Subnet};

const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
/// Those that nobody has to ask for.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct NetworkResource {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: IpamResource,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: Value,
    config_only: bool,
    containers: BTreeMap<String, Value>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamResource {
    driver: &'static str,
    /// As they were asked for: none are possible.
    options: Option<BTreeMap<String, String>>,
    config: Vec<SubnetResource>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SubnetResource {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    ip_range: Option<String>,
    gateway: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, String>,
}

pub(in crate::api) async fn list(
    Extracted(daemon): State,
    params: Params,
) -> ApiResult<Json<Vec<NetworkResource>>> {
    let filters = params.filters()?;
    filters.allow(&FILTERS, &[])?;
    let names =
        filters.values("name").iter().map(|name| NamePattern::parse(name)).collect::<ApiResult<Vec<_>>>()?;
    let dangling = filters.flag("dangling")?;
    check_type(&filters)?;
    let fits = |view: &NetworkView| {
        let network = &view.network;
        let predefined = PREDEFINED.contains(&network.name.as_str());
        let kind = if predefined { "builtin" } else { "custom" };
        (names.is_empty() || names.iter().any(|name| name.fits(&network.name)))
            && filters.any("id", |id| network.id.as_str().starts_with(id.as_str()))
            && filters.any("driver", |driver| network.driver.name() == driver)
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |wanted| wanted == kind)
            && filters.labels_fit(&network.labels)
            && dangling.is_none_or(|dangling| dangling == (!predefined && view.stations.is_empty()))
    };
    let views = daemon.engine.networks().into_iter().filter(fits);
    // As Docker: who is on them is inspected one by one.
    Ok(Json(views.map(|view| resource(&NetworkView { stations: Vec::new(), ..view })).collect()))
}

fn check_type(filters: &Filters) -> ApiResult<()> {
    match filters.values("type").iter().find(|wanted| !matches!(wanted.as_str(), "builtin" | "custom")) {
        Some(wanted) => Err(ApiError::invalid(format!("invalid filter: 'type'='{wanted}'"))),
        None => Ok(()),
    }
}

pub(in crate::api) async fn inspect(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<Json<NetworkResource>> {
    if !matches!(params.text("scope"), None | Some("local")) {
        return Err(ApiError::not_found(format!("network {id} not found")));
    }
    Ok(Json(resource(&daemon.engine.network(&id)?)))
}

fn resource(view: &NetworkView) -> NetworkResource {
    let network = &view.network;
    let stations = view.stations.iter().map(|(id, station)| (id.to_string(), endpoint(station)));
    NetworkResource {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: network.created_at.to_string(),
        scope: "local",
        driver: network.driver.name(),
        enable_ipv4: network.has_ipv4() || network.subnets.is_empty(),
        enable_ipv6: network.has_ipv6(),
        ipam: IpamResource {
            driver: "default",
            options: (!PREDEFINED.contains(&network.name.as_str())).then(BTreeMap::new),
            config: network.subnets.iter().map(subnet).collect(),
        },
        internal: network.reach == Reach::Internal,
        attachable: network.attachable,
        ingress: false,
        config_from: json!({ "Network": "" }),
        config_only: false,
        containers: stations.collect(),
        options: network.options.clone(),
        labels: network.labels.clone(),
    }
}

fn subnet(subnet: &Subnet) -> SubnetResource {
    let auxiliary = subnet.auxiliary.iter().map(|(name, address)| (name.clone(), address.to_string()));
    SubnetResource {
        subnet: subnet.net.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()),
        gateway: subnet.gateway.to_string(),
        auxiliary_addresses: auxiliary.collect(),
    }
}

fn endpoint(station: &StationView) -> Value {
    let address = |version: Option<ipnet::IpNet>| version.map_or_else(String::new, |net| net.to_string());
    let [a, b, c, d, e, f] = station.mac;
    json!({
        "Name": &*station.container_name,
        "EndpointID": station.endpoint_id,
        "MacAddress": format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        "IPv4Address": address(station.address(std::net::IpAddr::is_ipv4)),
        "IPv6Address": address(station.address(std::net::IpAddr::is_ipv6)),
    })
}
