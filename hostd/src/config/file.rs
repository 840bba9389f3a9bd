//! The configuration file: dockerd's `daemon.json` keys that Berth has, and Berth's own.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::flags::{Flags, LogLevel};
use super::{ConfigError, invalid};
use crate::accelerator::Request;
use crate::engine::{NetworkBackend, UserRange};
use crate::network::pools::AddressPool;

/// Settings are a few lines; anything longer is the wrong file.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct FileSettings {
    pub(super) hosts: Vec<String>,
    pub(super) data_root: Option<PathBuf>,
    pub(super) exec_root: Option<PathBuf>,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) registry_mirrors: Vec<String>,
    pub(super) insecure_registries: Vec<String>,
    pub(super) max_concurrent_downloads: Option<i64>,
    pub(super) max_concurrent_uploads: Option<i64>,
    pub(super) max_download_attempts: Option<i64>,
    pub(super) proxies: ProxyFile,
    pub(super) certs_dir: Option<PathBuf>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) debug: Option<bool>,
    pub(super) accelerator: Option<Request>,
    pub(super) kernel: Option<PathBuf>,
    pub(super) initramfs: Option<PathBuf>,
    pub(super) vmm: Option<PathBuf>,
    pub(super) qemu: Option<PathBuf>,
    pub(super) virtiofsd: Option<PathBuf>,
    pub(super) machine_memory: Option<String>,
    pub(super) machine_cpus: Option<u8>,
    pub(super) machine_users: Option<UserRange>,
    pub(super) no_jail: Option<bool>,
    pub(super) scratch_size: Option<String>,
    pub(super) userns_remap: Option<String>,
    pub(super) bridge: Option<String>,
    pub(super) bip: Option<String>,
    pub(super) default_address_pools: Vec<AddressPool>,
    pub(super) mtu: Option<i64>,
    pub(super) icc: Option<bool>,
    pub(super) dns: Vec<IpAddr>,
    pub(super) dns_search: Vec<String>,
    pub(super) dns_opts: Vec<String>,
    pub(super) host_gateway_ips: Vec<IpAddr>,
    pub(super) network_backend: Option<NetworkBackend>,
    pub(super) passt: Option<PathBuf>,
}

/// dockerd keeps these in an object of their own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct ProxyFile {
    pub(super) http_proxy: Option<String>,
    pub(super) https_proxy: Option<String>,
    pub(super) no_proxy: Option<String>,
}

impl ProxyFile {
    /// With those of flags: for http, for https, and for whom none is used.
    fn merge(self, [http, https, none]: [Option<String>; 3], twice: &mut Vec<&'static str>) -> Self {
        Self {
            http_proxy: one("http-proxy", self.http_proxy, http, twice),
            https_proxy: one("https-proxy", self.https_proxy, https, twice),
            no_proxy: one("no-proxy", self.no_proxy, none, twice),
        }
    }
}

impl FileSettings {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
            return Err(invalid("config-file", format!("{} is larger than 1 MiB", path.display())));
        }
        let text = std::fs::read(path).map_err(unreadable)?;
        serde_json::from_slice(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
    }

    /// The settings of both places; one that stands in both is refused, as dockerd does.
    pub(super) fn merge(self, flags: Flags) -> Result<Self, ConfigError> {
        let mut twice = Vec::new();
        let registry = flags.registries;
        let proxies = [registry.http_proxy, registry.https_proxy, registry.no_proxy];
        let networks = flags.networks;
        let backend = networks.network_backend;
        let gateways = networks.host_gateway_ips;
        let debug = flags.debug.then_some(true);
        let no_jail = flags.no_jail.then_some(true);
        let merged = Self {
            hosts: list("hosts", self.hosts, flags.hosts, &mut twice),
            data_root: one("data-root", self.data_root, flags.data_root, &mut twice),
            exec_root: one("exec-root", self.exec_root, flags.exec_root, &mut twice),
            pidfile: one("pidfile", self.pidfile, flags.pidfile, &mut twice),
            registry_mirrors: list(
                "registry-mirrors",
                self.registry_mirrors,
                registry.registry_mirrors,
                &mut twice,
            ),
            insecure_registries: list(
                "insecure-registries",
                self.insecure_registries,
                registry.insecure_registries,
                &mut twice,
            ),
            max_concurrent_downloads: one(
                "max-concurrent-downloads",
                self.max_concurrent_downloads,
                registry.max_concurrent_downloads,
                &mut twice,
            ),
            max_concurrent_uploads: one(
                "max-concurrent-uploads",
                self.max_concurrent_uploads,
                registry.max_concurrent_uploads,
                &mut twice,
            ),
            max_download_attempts: one(
                "max-download-attempts",
                self.max_download_attempts,
                registry.max_download_attempts,
                &mut twice,
            ),
            proxies: self.proxies.merge(proxies, &mut twice),
            certs_dir: one("certs-dir", self.certs_dir, registry.certs_dir, &mut twice),
            log_level: one("log-level", self.log_level, flags.log_level, &mut twice),
            debug: one("debug", self.debug, debug, &mut twice),
            accelerator: one("accelerator", self.accelerator, flags.accelerator, &mut twice),
            kernel: one("kernel", self.kernel, flags.kernel, &mut twice),
            initramfs: one("initramfs", self.initramfs, flags.initramfs, &mut twice),
            vmm: one("vmm", self.vmm, flags.vmm, &mut twice),
            qemu: one("qemu", self.qemu, flags.qemu, &mut twice),
            virtiofsd: one("virtiofsd", self.virtiofsd, flags.virtiofsd, &mut twice),
            machine_memory: one("machine-memory", self.machine_memory, flags.machine_memory, &mut twice),
            machine_cpus: one("machine-cpus", self.machine_cpus, flags.machine_cpus, &mut twice),
            machine_users: one("machine-users", self.machine_users, flags.machine_users, &mut twice),
            no_jail: one("no-jail", self.no_jail, no_jail, &mut twice),
            scratch_size: one("scratch-size", self.scratch_size, flags.scratch_size, &mut twice),
            userns_remap: one("userns-remap", self.userns_remap, flags.userns_remap, &mut twice),
            bridge: one("bridge", self.bridge, networks.bridge, &mut twice),
            bip: one("bip", self.bip, networks.bip, &mut twice),
            default_address_pools: list(
                "default-address-pools",
                self.default_address_pools,
                networks.default_address_pools,
                &mut twice,
            ),
            mtu: one("mtu", self.mtu, networks.mtu, &mut twice),
            icc: one("icc", self.icc, networks.icc, &mut twice),
            dns: list("dns", self.dns, networks.dns, &mut twice),
            dns_search: list("dns-search", self.dns_search, networks.dns_search, &mut twice),
            dns_opts: list("dns-opts", self.dns_opts, networks.dns_opts, &mut twice),
            host_gateway_ips: list("host-gateway-ips", self.host_gateway_ips, gateways, &mut twice),
            network_backend: one("network-backend", self.network_backend, backend, &mut twice),
            passt: one("passt", self.passt, networks.passt, &mut twice),
        };
        if twice.is_empty() { Ok(merged) } else { Err(ConfigError::Twice(twice)) }
    }
}

fn one<T>(name: &'static str, file: Option<T>, flag: Option<T>, twice: &mut Vec<&'static str>) -> Option<T> {
    if file.is_some() && flag.is_some() {
        twice.push(name);
    }
    flag.or(file)
}

fn list<T>(name: &'static str, file: Vec<T>, flag: Vec<T>, twice: &mut Vec<&'static str>) -> Vec<T> {
    if !file.is_empty() && !flag.is_empty() {
        twice.push(name);
    }
    if flag.is_empty() { file } else { flag }
}
