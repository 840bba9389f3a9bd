//! How registries are reached, checked: mirrors, registries without verified TLS, bounds, proxies, certificates.
//!
//! Follows dockerd in what is refused and in where a proxy comes from when none is named: the environment.

use std::net::IpAddr;

use reqwest::Url;

use super::file::FileSettings;
use super::{ConfigError, absolute, invalid};
use crate::registry::{Proxies, RegistrySettings};

/// More at a time help nobody, and each holds buffers and a connection.
const MAX_PARALLEL: usize = 64;
const MAX_ATTEMPTS: u32 = 100;

/// The settings; `variable` is the environment.
pub(super) fn resolve(
    given: &FileSettings,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<RegistrySettings, ConfigError> {
    let default = RegistrySettings::default();
    Ok(RegistrySettings {
        mirrors: given.registry_mirrors.iter().map(|text| mirror(text)).collect::<Result<_, _>>()?,
        insecure: given.insecure_registries.iter().map(|text| insecure(text)).collect::<Result<_, _>>()?,
        proxies: proxies(given, variable)?,
        certs_directory: match &given.certs_dir {
            Some(path) => absolute("certs-dir", path)?,
            None => default.certs_directory,
        },
        max_concurrent_downloads: parallel(
            "max-concurrent-downloads",
            given.max_concurrent_downloads,
            default.max_concurrent_downloads,
        )?,
        max_concurrent_uploads: parallel(
            "max-concurrent-uploads",
            given.max_concurrent_uploads,
            default.max_concurrent_uploads,
        )?,
        max_download_attempts: attempts(given.max_download_attempts, default.max_download_attempts)?,
        ..default
    })
}

/// A setting wins over the environment, and an empty one switches a proxy off.
fn proxies(given: &FileSettings, variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, ConfigError> {
    let given = &given.proxies;
    let first_of = |names: [&str; 2]| names.into_iter().find_map(&variable);
    let proxy = |setting, named: &Option<String>, names| match named {
        Some(url) => checked_proxy(setting, url),
        None => Ok(first_of(names)),
    };
    Ok(Proxies {
        http: proxy("http-proxy", &given.http_proxy, ["HTTP_PROXY", "http_proxy"])?,
        https: proxy("https-proxy", &given.https_proxy, ["HTTPS_PROXY", "https_proxy"])?,
        no_proxy: given.no_proxy.clone().or_else(|| first_of(["NO_PROXY", "no_proxy"])).unwrap_or_default(),
    })
}

/// Zero means the default, as for dockerd.
fn parallel(setting: &'static str, given: Option<i64>, default: usize) -> Result<usize, ConfigError> {
    match usize::try_from(given.unwrap_or(0)) {
        Ok(0) => Ok(default),
        Ok(count) if count <= MAX_PARALLEL => Ok(count),
        _ => Err(invalid(setting, format!("{}; 0 to {MAX_PARALLEL} are possible", given.unwrap_or(0)))),
    }
}

fn attempts(given: Option<i64>, default: u32) -> Result<u32, ConfigError> {
    let Some(given) = given else { return Ok(default) };
    let count = u32::try_from(given).ok().filter(|count| (1..=MAX_ATTEMPTS).contains(count));
    count
        .ok_or_else(|| invalid("max-download-attempts", format!("{given}; 1 to {MAX_ATTEMPTS} are possible")))
}

/// A mirror's URL, with the slash at its end that clients expect in `info`.
fn mirror(text: &str) -> Result<String, ConfigError> {
    let refuse = |problem: &str| Err(invalid("registry-mirrors", format!("\"{text}\" {problem}")));
    let Ok(url) = Url::parse(text) else { return refuse("is no URL") };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("is neither http:// nor https://");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("has a query or a fragment");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("names a user; registries' users log in with `docker login`");
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

/// `HOST[:PORT]` or a CIDR; dockerd takes a scheme off, too.
fn insecure(text: &str) -> Result<String, ConfigError> {
    let refuse = |problem: &str| Err(invalid("insecure-registries", format!("\"{text}\" {problem}")));
    let lowered = text.to_ascii_lowercase();
    let host = ["http://", "https://"].iter().find_map(|scheme| lowered.strip_prefix(scheme));
    let host = host.unwrap_or(&lowered);
    if let Some((network, bits)) = host.split_once('/') {
        let most = match network.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return refuse("is neither HOST[:PORT] nor a CIDR"),
        };
        return match bits.parse::<u8>() {
            Ok(bits) if bits <= most => Ok(host.to_owned()),
            _ => refuse("is no CIDR: the number of bits is wrong"),
        };
    }
    let is_host = Url::parse(&format!("http://{host}")).is_ok_and(|url| {
        url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
    });
    if is_host && !host.starts_with('-') {
        Ok(host.to_owned())
    } else {
        refuse("is neither HOST[:PORT] nor a CIDR")
    }
}

/// The text never appears in the refusal: it may hold a password.
fn checked_proxy(setting: &'static str, text: &str) -> Result<Option<String>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let usable = Url::parse(&with_scheme)
        .is_ok_and(|url| url.has_host() && matches!(url.scheme(), "http" | "https" | "socks5"));
    if usable { Ok(Some(text.to_owned())) } else { Err(invalid(setting, "not the URL of a proxy")) }
}

/// A proxy's URL for people to read: its password is not for them.
#[must_use]
pub fn without_password(proxy: &str) -> String {
    let Some((before, host)) = proxy.rsplit_once('@') else { return proxy.to_owned() };
    let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
    let joint = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{joint}xxxxx:xxxxx@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(json: &str, environment: &[(&str, &str)]) -> Result<RegistrySettings, ConfigError> {
        let given = serde_json::from_str(json).unwrap();
        let variable = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        resolve(&given, variable)
    }

    #[test]
    fn without_settings_bounds_are_dockers_and_proxies_the_environments() {
        let settings = with("{}", &[("https_proxy", "http://p:1"), ("NO_PROXY", "a,b")]).unwrap();
        let bounds = (settings.max_concurrent_downloads, settings.max_concurrent_uploads);
        assert_eq!((bounds, settings.max_download_attempts), ((3, 5), 5));
        assert_eq!((settings.proxies.http, settings.proxies.https.as_deref()), (None, Some("http://p:1")));
        assert_eq!(settings.proxies.no_proxy, "a,b");
        assert_eq!(settings.certs_directory, std::path::Path::new("/etc/docker/certs.d"));
    }

    #[test]
    fn a_setting_wins_over_the_environment_and_an_empty_one_switches_it_off() {
        let json = r#"{"proxies": {"http-proxy": "http://q:2", "https-proxy": ""}, "max-concurrent-uploads": 0,
            "registry-mirrors": ["https://mirror:5000/x//"], "max-concurrent-downloads": 9,
            "insecure-registries": ["10.0.0.0/8", "Reg.example:5000", "http://old", "[::1]:5"]}"#;
        let settings = with(json, &[("HTTP_PROXY", "http://p"), ("HTTPS_PROXY", "http://p")]).unwrap();
        assert_eq!((settings.proxies.http.as_deref(), settings.proxies.https), (Some("http://q:2"), None));
        assert_eq!(settings.mirrors, ["https://mirror:5000/x/"]);
        assert_eq!(settings.insecure, ["10.0.0.0/8", "reg.example:5000", "old", "[::1]:5"]);
        assert_eq!((settings.max_concurrent_downloads, settings.max_concurrent_uploads), (9, 5));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (json, setting) in [
            (r#"{"registry-mirrors": ["ftp://m"]}"#, "registry-mirrors"),
            (r#"{"registry-mirrors": ["https://m/?q"]}"#, "registry-mirrors"),
            (r#"{"registry-mirrors": ["https://u:p@m"]}"#, "registry-mirrors"),
            (r#"{"registry-mirrors": ["m"]}"#, "registry-mirrors"),
            (r#"{"insecure-registries": ["a/b"]}"#, "insecure-registries"),
            (r#"{"insecure-registries": ["10.0.0.0/33"]}"#, "insecure-registries"),
            (r#"{"insecure-registries": ["a b"]}"#, "insecure-registries"),
            (r#"{"insecure-registries": [""]}"#, "insecure-registries"),
            (r#"{"max-concurrent-downloads": -1}"#, "max-concurrent-downloads"),
            (r#"{"max-download-attempts": 0}"#, "max-download-attempts"),
            (r#"{"proxies": {"http-proxy": "ftp://u:secret@p"}}"#, "http-proxy"),
        ] {
            let error = with(json, &[]).unwrap_err().to_string();
            assert!(error.starts_with(setting) && !error.contains("secret"), "{json}: {error}");
        }
    }

    #[test]
    fn nobody_reads_a_proxys_password() {
        assert_eq!(without_password("http://u:p@h:1"), "http://xxxxx:xxxxx@h:1");
        assert_eq!(without_password("u:p@h"), "xxxxx:xxxxx@h");
        assert_eq!(without_password("http://h:1"), "http://h:1");
    }
}
