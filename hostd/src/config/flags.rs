//! The command line, with dockerd's names where dockerd has the flag.
//!
//! Every flag is optional here, so that a setting from the file can be told from one that was typed.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use serde::Deserialize;

use crate::accelerator::Request;
use crate::engine::{NetworkBackend, UserRange};
use crate::network::pools::AddressPool;

/// Runs containers, each in its own machine, and answers the Docker Engine API for them.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "berthd", version, disable_version_flag = true)]
pub struct Flags {
    /// Socket to listen on: unix:///path or tcp://127.0.0.1:port; may be repeated
    #[arg(short = 'H', long = "host", value_name = "URL")]
    pub hosts: Vec<String>,
    /// Root of everything that lasts: images, containers, logs [default: /var/lib/berth]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// Root of everything that runs: sockets and the machines' state [default: /run/berth]
    #[arg(long, value_name = "DIR")]
    pub exec_root: Option<PathBuf>,
    /// File that holds the daemon's process id [default: EXEC_ROOT/berthd.pid]
    #[arg(short, long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    #[command(flatten)]
    pub registries: RegistryFlags,
    #[command(flatten)]
    pub networks: NetworkFlags,
    /// Least severe level that is logged [default: info]
    #[arg(short, long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// Log as with --log-level debug
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// JSON file with the same settings; none is read unless named
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Check the settings and exit
    #[arg(long)]
    pub validate: bool,
    /// What executes the machines' CPUs [default: auto]
    #[arg(long, value_name = "KIND")]
    pub accelerator: Option<Request>,
    /// Guest kernel, an uncompressed ELF [default: `vmlinux` beside berthd or in /usr/lib/berth]
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initramfs with the agent [default: `initramfs.cpio` beside berthd or in /usr/lib/berth]
    #[arg(long, value_name = "FILE")]
    pub initramfs: Option<PathBuf>,
    /// The machine monitor [default: `berth-vmm` beside berthd or in /usr/lib/berth]
    #[arg(long, value_name = "FILE")]
    pub vmm: Option<PathBuf>,
    /// QEMU, for the tcg accelerator [default: qemu-system-x86_64 from PATH]
    #[arg(long, value_name = "FILE")]
    pub qemu: Option<PathBuf>,
    /// The server of shares [default: `virtiofsd` beside berthd or in /usr/lib/berth]
    #[arg(long, value_name = "FILE")]
    pub virtiofsd: Option<PathBuf>,
    /// Least memory of a machine, in MiB or as 512m, 2g [default: 512]
    #[arg(long, value_name = "SIZE")]
    pub machine_memory: Option<String>,
    /// Least CPUs of a machine [default: the host's with kvm, 1 with tcg]
    #[arg(long, value_name = "COUNT")]
    pub machine_cpus: Option<u8>,
    /// Users, and groups of the same numbers, that machines get one each of [default: 1879048192-1879113727]
    #[arg(long, value_name = "FIRST-LAST", value_parser = UserRange::parse)]
    pub machine_users: Option<UserRange>,
    /// Start machines without a jail, for debugging only: a guest that breaks out has the daemon's rights
    #[arg(long)]
    pub no_jail: bool,
    /// What a container may write outside volumes [default: 16g]
    #[arg(long, value_name = "SIZE")]
    pub scratch_size: Option<String>,
    /// Whose subordinate ids containers' users are in their machines: default, USER[:GROUP] or UID[:GID] [default: none]
    #[arg(long, value_name = "USER")]
    pub userns_remap: Option<String>,
    /// Print the version and exit
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, Args)]
pub struct RegistryFlags {
    /// Mirror of Docker Hub, asked before it; may be repeated
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub registry_mirrors: Vec<String>,
    /// Registry that is spoken to without verified TLS: HOST[:PORT] or a CIDR; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST")]
    pub insecure_registries: Vec<String>,
    /// Layers of one pull that are fetched at a time [default: 3]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub max_concurrent_downloads: Option<i64>,
    /// Layers of one push that are sent at a time [default: 5]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub max_concurrent_uploads: Option<i64>,
    /// Attempts to fetch a layer before the pull fails [default: 5]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub max_download_attempts: Option<i64>,
    /// Proxy for http:// [default: HTTP_PROXY of the environment]
    #[arg(long, value_name = "URL")]
    pub http_proxy: Option<String>,
    /// Proxy for https:// [default: HTTPS_PROXY of the environment]
    #[arg(long, value_name = "URL")]
    pub https_proxy: Option<String>,
    /// Hosts, domains and CIDRs that no proxy is used for, separated by commas [default: NO_PROXY of the environment]
    #[arg(long, value_name = "LIST")]
    pub no_proxy: Option<String>,
    /// Directory with HOST[:PORT]/{*.crt,*.cert,*.key} for registries [default: /etc/docker/certs.d]
    #[arg(long, value_name = "DIR")]
    pub certs_dir: Option<PathBuf>,
}

/// What networks there are, and where they get their addresses.
#[derive(Clone, Debug, Default, Args)]
pub struct NetworkFlags {
    /// Interface of the network `bridge`; none: containers that name no network have loopback alone [default: berth0]
    #[arg(short, long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// Address of the host on the network `bridge`, with its prefix [default: of the first free range]
    #[arg(long, value_name = "CIDR")]
    pub bip: Option<String>,
    /// Range that networks are cut from, as base=10.10.0.0/16,size=24; may be repeated [default: dockerd's]
    #[arg(long = "default-address-pool", value_name = "POOL")]
    pub default_address_pools: Vec<AddressPool>,
    /// Largest packet of networks that ask for none, in bytes [default: 1500]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub mtu: Option<i64>,
    /// What carries networks: bridges of the host's, or a user-mode network stack for each machine, which takes no rights
    /// [default: bridges if the daemon may make them]
    #[arg(long, value_name = "KIND")]
    pub network_backend: Option<NetworkBackend>,
    /// The user-mode network stack [default: passt from PATH]
    #[arg(long, value_name = "FILE")]
    pub passt: Option<PathBuf>,
    /// Whether containers of the network `bridge` reach each other [default: true]
    #[arg(long, value_name = "BOOL")]
    pub icc: Option<bool>,
    /// Name server of containers that name none; may be repeated [default: the host's]
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,
    /// Domain that their names are searched in; may be repeated [default: the host's]
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Option of their resolv.conf; may be repeated [default: the host's]
    #[arg(long = "dns-opt", value_name = "OPTION")]
    pub dns_opts: Vec<String>,
    /// What --add-host NAME:host-gateway means; may be repeated [default: the host's address on the network `bridge`]
    #[arg(long = "host-gateway-ip", value_name = "ADDRESS")]
    pub host_gateway_ips: Vec<IpAddr>,
}

/// dockerd's levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    /// Like error: the daemon logs nothing above it.
    Fatal,
}
