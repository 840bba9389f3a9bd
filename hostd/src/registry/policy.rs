//! The settings as they are acted on: which hosts may be spoken to carelessly, which proxy leads where, which mirrors
//! there are.

use std::net::IpAddr;

use reqwest::Url;

use super::host::{Cidr, HostPort};
use super::settings::{InvalidSettings, Proxies, RegistrySettings};

/// More are a mistake.
const MAX_MIRRORS: usize = 64;

/// Everything of [`RegistrySettings`] that had to be parsed.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) mirrors: Vec<Url>,
    pub(super) default_registry: HostPort,
    pub(super) default_index: HostPort,
    insecure_hosts: Vec<HostPort>,
    insecure_ranges: Vec<Cidr>,
    proxies: ProxyChoice,
}

struct ProxyChoice {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Vec<Exception>,
}

/// An entry of `no_proxy`.
#[derive(Debug, PartialEq)]
enum Exception {
    Everything,
    Range(Cidr),
    Address(IpAddr, Option<u16>),
    /// The name and what is below it; with `subdomains_only`, not the name itself.
    Name {
        name: String,
        port: Option<u16>,
        subdomains_only: bool,
    },
}

impl Policy {
    pub(super) fn parse(settings: &RegistrySettings) -> Result<Self, InvalidSettings> {
        let mut insecure_hosts = Vec::new();
        let mut insecure_ranges = Vec::new();
        for entry in &settings.insecure {
            // People write URLs here, and dockerd takes them.
            let host = entry.trim_start_matches("http://").trim_start_matches("https://");
            match host.trim_end_matches('/').parse() {
                Ok(range) => insecure_ranges.push(range),
                Err(_) => insecure_hosts.push(host_setting("insecure-registries", host)?),
            }
        }
        if settings.mirrors.len() > MAX_MIRRORS {
            let reason = format!("more than {MAX_MIRRORS} mirrors");
            return Err(invalid("registry-mirrors", &settings.mirrors.join(","), reason));
        }
        Ok(Self {
            mirrors: settings.mirrors.iter().map(|mirror| mirror_url(mirror)).collect::<Result<_, _>>()?,
            default_registry: host_setting("default registry", &settings.default_registry.host)?,
            default_index: host_setting("default index", &settings.default_registry.index_host)?,
            insecure_hosts,
            insecure_ranges,
            proxies: ProxyChoice::parse(&settings.proxies)?,
        })
    }

    /// Whether certificates are not verified there and plain text may be spoken. A range of addresses means every name
    /// that leads into it, as dockerd reads it, so names are looked up while there are ranges.
    pub(super) async fn is_insecure(&self, target: &HostPort) -> bool {
        if self.insecure_hosts.contains(target) {
            return true;
        }
        let within = |address: IpAddr| self.insecure_ranges.iter().any(|range| range.contains(address));
        match target.address() {
            Some(address) => within(address),
            None if self.insecure_ranges.is_empty() => false,
            None => match tokio::net::lookup_host((target.host.as_str(), 0)).await {
                Ok(mut found) => found.any(|found| within(found.ip())),
                Err(_) => false,
            },
        }
    }

    /// The proxy for a URL, if there is one for it.
    pub(super) fn proxy(&self, url: &Url) -> Option<&Url> {
        let target = HostPort::of(url)?;
        let proxy = match url.scheme() {
            "https" => self.proxies.https.as_ref(),
            _ => self.proxies.http.as_ref(),
        }?;
        let port = url.port_or_known_default();
        let excepted = self.proxies.exceptions.iter().any(|exception| exception.covers(&target, port));
        (!excepted && !target.is_loopback()).then_some(proxy)
    }
}

impl ProxyChoice {
    fn parse(proxies: &Proxies) -> Result<Self, InvalidSettings> {
        let one = |name, text: &Option<String>| {
            text.as_deref().filter(|text| !text.is_empty()).map(|text| proxy_url(name, text)).transpose()
        };
        let entries = proxies.no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Self {
            http: one("http-proxy", &proxies.http)?,
            https: one("https-proxy", &proxies.https)?,
            exceptions: entries.filter_map(Exception::parse).collect(),
        })
    }
}

/// Passwords stay out of logs.
impl std::fmt::Debug for ProxyChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = |url: &Option<Url>| url.as_ref().and_then(HostPort::of);
        f.debug_struct("ProxyChoice")
            .field("http", &host(&self.http))
            .field("https", &host(&self.https))
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

impl Exception {
    /// An entry that nobody can read excepts nothing, as everywhere where this variable is read.
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Ok(range) = entry.parse() {
            return Some(Self::Range(range));
        }
        let wildcard = entry.starts_with("*.") || entry.starts_with('.');
        let HostPort { host, port } = entry.trim_start_matches('*').trim_start_matches('.').parse().ok()?;
        Some(match host.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical(), port),
            Err(_) => Self::Name { name: host, port, subdomains_only: wildcard },
        })
    }

    fn covers(&self, target: &HostPort, target_port: Option<u16>) -> bool {
        let same_port = |port: &Option<u16>| port.is_none() || *port == target_port;
        match self {
            Self::Everything => true,
            Self::Range(range) => target.address().is_some_and(|address| range.contains(address)),
            Self::Address(address, port) => target.address() == Some(*address) && same_port(port),
            Self::Name { name, port, subdomains_only } => {
                let below = target.host.strip_suffix(name.as_str());
                let is_subdomain = below.is_some_and(|rest| rest.ends_with('.'));
                same_port(port) && (is_subdomain || (!subdomains_only && target.host == *name))
            }
        }
    }
}

fn mirror_url(text: &str) -> Result<Url, InvalidSettings> {
    let refused = |reason: &str| invalid("registry-mirrors", &without_user(text), reason);
    let mut url: Url = text.parse().map_err(|_| refused("not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused("only http:// and https:// URLs of a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("a user and password cannot be part of it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("a query or a fragment cannot be part of it"));
    }
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

fn proxy_url(setting: &'static str, text: &str) -> Result<Url, InvalidSettings> {
    // `HOST:PORT` alone is common in these variables.
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match whole.parse::<Url>() {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => Ok(url),
        _ => Err(invalid(setting, &without_user(text), "only http:// and https:// URLs of a host")),
    }
}

fn host_setting(setting: &'static str, text: &str) -> Result<HostPort, InvalidSettings> {
    text.parse().map_err(|reason: &str| invalid(setting, text, reason))
}

fn invalid(setting: &'static str, value: &str, reason: impl Into<String>) -> InvalidSettings {
    InvalidSettings { setting, value: value.to_owned(), reason: reason.into() }
}

fn without_user(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("…@{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut RegistrySettings)) -> Result<Policy, InvalidSettings> {
        let mut settings = RegistrySettings::default();
        change(&mut settings);
        Policy::parse(&settings)
    }

    #[tokio::test]
    async fn insecure_hosts_are_exactly_the_listed_ones() {
        let entries = ["reg.example:5000", "http://other.example", "10.0.0.0/8"].map(str::to_owned);
        let policy = policy(|settings| settings.insecure = entries.to_vec()).unwrap();
        for (host, expected) in [
            ("reg.example:5000", true),
            ("reg.example", false),
            ("other.example", true),
            ("10.2.3.4:5000", true),
            ("11.2.3.4:5000", false),
            ("sub.other.example", false),
        ] {
            assert_eq!(policy.is_insecure(&host.parse().unwrap()).await, expected, "{host}");
        }
    }

    #[tokio::test]
    async fn a_range_means_the_names_that_lead_into_it() {
        let policy = policy(|settings| settings.insecure = vec!["127.0.0.0/8".into(), "::1/128".into()]);
        assert!(policy.unwrap().is_insecure(&"localhost:5000".parse().unwrap()).await);
    }

    #[test]
    fn proxies_follow_the_scheme_and_the_exceptions() {
        let no_proxy = "direct.example, .sub.example,10.0.0.0/8,[fd00::1]:80,port.example:8443,192.168.0.1";
        let policy = policy(|settings| {
            settings.proxies = Proxies {
                http: Some("plain.example:3128".into()),
                https: Some("http://user:secret@tls.example:3128".into()),
                no_proxy: no_proxy.into(),
            };
        })
        .unwrap();
        for (url, expected) in [
            ("https://registry.example/v2/", Some("tls.example")),
            ("http://registry.example/v2/", Some("plain.example")),
            ("https://direct.example/", None),
            ("https://a.direct.example/", None),
            ("https://indirect.example/", Some("tls.example")),
            ("https://a.sub.example/", None),
            ("https://sub.example/", Some("tls.example")),
            ("https://10.9.8.7:5000/", None),
            ("http://[fd00::1]/", None),
            ("https://[fd00::1]/", Some("tls.example")),
            ("https://port.example:8443/", None),
            ("https://port.example/", Some("tls.example")),
            ("https://192.168.0.1:5000/", None),
            ("http://localhost:5000/", None),
            ("https://127.0.0.1/", None),
            ("https://[::1]:5000/", None),
        ] {
            let proxy = policy.proxy(&url.parse().unwrap()).and_then(Url::host_str);
            assert_eq!(proxy, expected, "{url}");
        }
        assert!(!format!("{policy:?}").contains("secret"));
    }

    #[test]
    fn an_asterisk_excepts_everything() {
        let policy = policy(|settings| {
            settings.proxies = Proxies { https: Some("http://p".into()), http: None, no_proxy: "*".into() };
        });
        assert_eq!(policy.unwrap().proxy(&"https://registry.example".parse().unwrap()), None);
    }

    #[test]
    fn unusable_settings_are_refused_by_name() {
        let mirror = |url: &str| policy(|settings| settings.mirrors = vec![url.to_owned()]);
        for url in ["mirror.example", "ftp://mirror.example", "https://u:secret@m.example", "https://m/?a=b"]
        {
            let error = mirror(url).unwrap_err();
            assert_eq!(error.setting, "registry-mirrors");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(
            mirror("https://m.example/prefix").unwrap().mirrors[0].as_str(),
            "https://m.example/prefix/"
        );
        assert!(policy(|settings| settings.insecure = vec!["a b".into()]).is_err());
        let proxy = policy(|settings| settings.proxies.https = Some("socks5://u:secret@p".into()));
        assert!(!proxy.unwrap_err().to_string().contains("secret"));
    }
}
