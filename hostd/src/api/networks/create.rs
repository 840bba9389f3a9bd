//! `POST /networks/create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Json;
use axum::extract::{Request, State as Extracted};
use axum::http::StatusCode;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::State;
use crate::api::body::{decode, read_json};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{NetworkDriver, NetworkRequest, Reach, SubnetRequest};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    name: String,
    driver: String,
    scope: String,
    /// Docker's clients of old send it; names are unique whatever it says.
    #[serde(rename = "CheckDuplicate")]
    _check_duplicate: bool,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Option<ConfigFrom>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigFrom {
    network: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    driver: String,
    config: Option<Vec<IpamConfig>>,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IpamConfig {
    #[serde(rename = "Subnet")]
    subnet: String,
    #[serde(rename = "IPRange")]
    ip_range: String,
    #[serde(rename = "Gateway")]
    gateway: String,
    #[serde(rename = "AuxiliaryAddresses", alias = "AuxAddress")]
    auxiliary_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Created {
    id: String,
    warning: &'static str,
}

pub(in crate::api) async fn create(
    Extracted(daemon): State,
    request: Request,
) -> ApiResult<(StatusCode, Json<Created>)> {
    let (head, body) = request.into_parts();
    let body: Option<Map<String, Value>> = read_json(&head.headers, body).await?;
    let request = network_request(decode(&body.unwrap_or_default())?)?;
    let created = daemon.engine.create_network(request).await?;
    Ok((StatusCode::CREATED, Json(Created { id: created.id.to_string(), warning: "" })))
}

fn network_request(body: Body) -> ApiResult<NetworkRequest> {
    let later =
        |field: &str| ApiError::not_supported(format!("berth cannot honour {field} of a network yet"));
    let from = body.config_from.is_some_and(|from| !from.network.is_empty());
    for (asked, field) in [(body.ingress, "Ingress"), (body.config_only, "ConfigOnly"), (from, "ConfigFrom")]
    {
        if asked {
            return Err(later(field));
        }
    }
    if !matches!(body.scope.as_str(), "" | "local") {
        return Err(later(&format!("the scope {:?}", body.scope)));
    }
    let ipam = body.ipam.unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default") {
        let message =
            format!("could not find plugin {} in v1 plugin registry: plugin not found", ipam.driver);
        return Err(ApiError::not_found(message));
    }
    if ipam.options.is_some_and(|options| !options.is_empty()) {
        return Err(later("IPAM.Options"));
    }
    let subnets = ipam.config.unwrap_or_default().into_iter().map(subnet).collect::<ApiResult<_>>()?;
    Ok(NetworkRequest {
        name: body.name,
        driver: driver(&body.driver)?,
        ipv4: body.enable_ipv4.unwrap_or(true),
        ipv6: body.enable_ipv6.unwrap_or(false),
        reach: if body.internal { Reach::Internal } else { Reach::Open },
        attachable: body.attachable,
        labels: body.labels.unwrap_or_default(),
        options: body.options.unwrap_or_default(),
        subnets,
    })
}

fn driver(name: &str) -> ApiResult<NetworkDriver> {
    match name {
        "" | "default" | "bridge" => Ok(NetworkDriver::Bridge),
        "host" => Ok(NetworkDriver::Machine),
        "null" | "none" => Ok(NetworkDriver::None),
        "overlay" | "macvlan" | "ipvlan" => {
            Err(ApiError::not_supported(format!("the network driver {name} is not supported by berth yet")))
        }
        other => Err(ApiError::not_found(format!(
            "could not find plugin {other} in v1 plugin registry: plugin not found"
        ))),
    }
}

fn subnet(config: IpamConfig) -> ApiResult<SubnetRequest> {
    let auxiliary = config.auxiliary_addresses.unwrap_or_default().into_iter().map(|(name, text)| {
        let address = address(&format!("auxiliary address {name}"), &text)?;
        Ok((name, address))
    });
    Ok(SubnetRequest {
        net: optional(&config.subnet, |text| net("subnet", text))?,
        range: optional(&config.ip_range, |text| net("ip-range", text))?,
        gateway: optional(&config.gateway, |text| address("gateway", text))?,
        auxiliary: auxiliary.collect::<ApiResult<_>>()?,
    })
}

fn optional<T>(text: &str, read: impl FnOnce(&str) -> ApiResult<T>) -> ApiResult<Option<T>> {
    (!text.is_empty()).then(|| read(text)).transpose()
}

fn net(what: &str, text: &str) -> ApiResult<IpNet> {
    text.parse().map_err(|_| {
        ApiError::invalid(format!(
            "invalid network config:\ninvalid {what} {text}: invalid CIDR block notation"
        ))
    })
}

/// Old clients send an address with its prefix.
fn address(what: &str, text: &str) -> ApiResult<IpAddr> {
    let bare = text.split_once('/').map_or(text, |(address, _prefix)| address);
    bare.parse().map_err(|_| {
        ApiError::invalid(format!("invalid network config:\ninvalid {what} {text}: invalid address"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<NetworkRequest, (u16, String)> {
        let Value::Object(body) = body else { panic!("{body}") };
        let request = decode(&body).and_then(network_request);
        request.map_err(|error| (error.status.as_u16(), error.message))
    }

    /// What `docker network create --subnet 10.0.0.0/24 --aux-address a=10.0.0.9 x` of version 28 sends.
    #[test]
    fn what_the_docker_cli_sends_is_understood() {
        let body = json!({
            "Name": "x", "Driver": "bridge", "Scope": "", "EnableIPv4": null, "EnableIPv6": null,
            "IPAM": { "Driver": "default", "Options": {}, "Config": [
                { "Subnet": "10.0.0.0/24", "AuxiliaryAddresses": { "a": "10.0.0.9" } },
            ] },
            "Internal": false, "Attachable": false, "Ingress": false, "ConfigOnly": false, "ConfigFrom": null,
            "Options": {}, "Labels": {},
        });
        let request = read(body).unwrap();
        assert_eq!((request.ipv4, request.ipv6, request.reach), (true, false, Reach::Open));
        assert_eq!(request.subnets[0].net, Some("10.0.0.0/24".parse().unwrap()));
        assert_eq!(request.subnets[0].auxiliary["a"], IpAddr::from([10, 0, 0, 9]));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (body, status, part) in [
            (json!({ "Name": "x", "Driver": "nope" }), 404, "could not find plugin nope"),
            (json!({ "Name": "x", "Driver": "overlay" }), 501, "overlay"),
            (json!({ "Name": "x", "Scope": "swarm" }), 501, "swarm"),
            (json!({ "Name": "x", "ConfigOnly": true }), 501, "ConfigOnly"),
            (
                json!({ "Name": "x", "IPAM": { "Config": [{ "Subnet": "x" }] } }),
                400,
                "invalid subnet x: invalid CIDR",
            ),
            (
                json!({ "Name": "x", "IPAM": { "Config": [{ "Gateway": "300.1.1.1" }] } }),
                400,
                "invalid gateway",
            ),
            (json!({ "Name": "x", "IPAM": { "Driver": "dhcp" } }), 404, "could not find plugin dhcp"),
            (json!({ "Name": 5 }), 400, "invalid JSON"),
        ] {
            let (found, message) = read(body).unwrap_err();
            assert!(found == status && message.contains(part), "{found} {message}");
        }
    }
}
