//! What the daemon says of itself: `ping`, `version`, `info`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use axum::Json;
use axum::extract::State as Extracted;
use axum::response::IntoResponse;
use jiff::Timestamp;
use rustix::system::uname;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::containers::RUNTIMES;
use super::error::ApiResult;
use super::version::ApiVersion;
use super::{Daemon, State};
use crate::accelerator;
use crate::config::without_password;
use crate::engine::EngineInfo;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The headers that [`super::Api`] adds are the answer; clients read nothing else.
pub(super) async fn ping() -> impl IntoResponse {
    let headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        // The classic builder's number; there is no BuildKit in this daemon.
        ("builder-version", "1"),
        ("swarm", "inactive"),
    ];
    (headers, "OK")
}

pub(super) async fn version() -> Json<Value> {
    let host = uname();
    let kernel = host.release().to_string_lossy();
    let (newest, oldest) = (ApiVersion::NEWEST.to_string(), ApiVersion::OLDEST.to_string());
    Json(json!({
        "Platform": { "Name": "Berth" },
        "Components": [{
            "Name": "Engine",
            "Version": VERSION,
            "Details": {
                "ApiVersion": newest,
                "MinAPIVersion": oldest,
                "Arch": ARCHITECTURE,
                "Os": "linux",
                "KernelVersion": kernel,
                "Experimental": "false",
            },
        }],
        "Version": VERSION,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": ARCHITECTURE,
        "KernelVersion": kernel,
        "Experimental": false,
    }))
}

/// As Go names it; the image store knows no other.
const ARCHITECTURE: &str = "amd64";

pub(super) async fn info(Extracted(daemon): State) -> ApiResult<Json<Value>> {
    let images = daemon.engine.images().clone();
    let image_count = tokio::task::spawn_blocking(move || images.list()).await??.len();
    let mut reply = json!({});
    for part in [
        counts(&daemon.engine.info(), image_count),
        storage(&daemon),
        host(),
        machines(&daemon),
        registries(&daemon),
        activity(&daemon),
        absent(),
    ] {
        if let (Some(reply), Value::Object(part)) = (reply.as_object_mut(), part) {
            reply.extend(part);
        }
    }
    Ok(Json(reply))
}

fn counts(engine: &EngineInfo, images: usize) -> Value {
    json!({
        "Containers": engine.running + engine.paused + engine.stopped,
        "ContainersRunning": engine.running,
        "ContainersPaused": engine.paused,
        "ContainersStopped": engine.stopped,
        "Images": images,
    })
}

fn storage(daemon: &Daemon) -> Value {
    json!({
        "ID": engine_id(&daemon.settings.data_root),
        "Driver": "erofs",
        "DriverStatus": driver_status(daemon),
        "DockerRootDir": daemon.settings.data_root,
        "LoggingDriver": "json-file",
        "Debug": daemon.settings.debug,
        "ServerVersion": VERSION,
        "LiveRestoreEnabled": true,
        "ExperimentalBuild": false,
    })
}

/// The same for one data root on one host, whenever it is asked for; in the shape of Docker's, a UUID.
fn engine_id(data_root: &Path) -> String {
    let host = std::fs::read("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::new().chain_update(host).chain_update(data_root.as_os_str().as_bytes()).finalize();
    let hex = hex::encode(&digest[..16]);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// What `docker info` prints under the storage driver: the only lines of its output that are the daemon's own.
fn driver_status(daemon: &Daemon) -> Vec<[String; 2]> {
    let engine = daemon.engine.info();
    let name = accelerator::name(daemon.accelerator.accelerator);
    vec![
        ["Accelerator".to_owned(), format!("{name} ({})", daemon.accelerator.reason)],
        ["Jail".to_owned(), engine.jail.name().to_owned()],
        ["Networks".to_owned(), engine.network_backend.description().to_owned()],
        ["Guest Kernel".to_owned(), engine.kernel.display().to_string()],
        ["Machine Memory".to_owned(), format!("{} MiB", engine.machine_memory_mib)],
        ["Machine CPUs".to_owned(), engine.machine_vcpus.to_string()],
    ]
}

fn host() -> Value {
    let host = uname();
    json!({
        "Name": host.nodename().to_string_lossy(),
        "KernelVersion": host.release().to_string_lossy(),
        "OperatingSystem": operating_system().unwrap_or_else(|| "Linux".to_owned()),
        "OSType": "linux",
        "OSVersion": "",
        "Architecture": host.machine().to_string_lossy(),
        "NCPU": cpu_count(),
        "MemTotal": memory_bytes().unwrap_or(0),
        "SystemTime": Timestamp::now().to_string(),
    })
}

/// CPUs this process may use; 1 if the system does not say.
pub(super) fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn operating_system() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn machines(daemon: &Daemon) -> Value {
    let engine = daemon.engine.info();
    let jail = engine.jail.name();
    let warnings: Vec<String> = accelerator::warning(daemon.accelerator.accelerator)
        .into_iter()
        .map(str::to_owned)
        .chain(
            engine
                .network_warning
                .iter()
                .chain(&engine.jail_warnings)
                .map(|warning| format!("WARNING: {warning}")),
        )
        .collect();
    json!({
        "Warnings": warnings,
        "Berth": {
            "Accelerator": accelerator::name(daemon.accelerator.accelerator),
            "Isolation": "machine",
            "AcceleratorReason": daemon.accelerator.reason,
            "Jail": jail,
            "NetworkBackend": engine.network_backend.name(),
            "Kernel": engine.kernel,
            "MachineMemoryMiB": engine.machine_memory_mib,
            "MachineCpus": engine.machine_vcpus,
            "ScratchDiskBytes": engine.scratch_disk_bytes,
        },
        // What the guest kernel of every machine enforces.
        "CgroupDriver": "none",
        "CgroupVersion": "2",
        "MemoryLimit": true,
        "SwapLimit": false,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "OomKillDisable": false,
        "IPv4Forwarding": true,
        "BridgeNfIptables": false,
        "BridgeNfIp6tables": false,
        // Windows' word: clients know its values and refuse to read others.
        "Isolation": "",
        "Runtimes": runtimes(daemon),
        "DefaultRuntime": "berth",
        "InitBinary": "berth-agent",
        "SecurityOptions": security_options(&engine),
    })
}

/// Docker's clients print the name and, under it, the rest.
fn security_options(engine: &EngineInfo) -> Vec<String> {
    let mut options = vec![
        format!("name=jail,profile={}", engine.jail.name()),
        "name=seccomp,profile=builtin".to_owned(),
        "name=cgroupns".to_owned(),
    ];
    if engine.user_namespace {
        options.push("name=userns".to_owned());
    }
    options
}

/// One, under all its names.
fn runtimes(daemon: &Daemon) -> Value {
    RUNTIMES.iter().map(|name| ((*name).to_owned(), json!({ "path": daemon.settings.vmm }))).collect()
}

fn registries(daemon: &Daemon) -> Value {
    let settings = &daemon.settings.registries;
    let proxy = |url: &Option<String>| url.as_deref().map_or_else(String::new, without_password);
    let entry = |name: &str, secure: bool| {
        let official = name == "docker.io";
        let mirrors = if official { settings.mirrors.as_slice() } else { &[] };
        json!({ "Name": name, "Mirrors": mirrors, "Secure": secure, "Official": official })
    };
    // What is reached by a loopback address is on this host: Docker lists it like this, too.
    let mut networks = vec!["::1/128", "127.0.0.0/8"];
    let (cidrs, hosts): (Vec<_>, Vec<_>) = settings.insecure.iter().partition(|text| text.contains('/'));
    networks.extend(cidrs.into_iter().map(String::as_str));
    let mut entries: serde_json::Map<String, Value> =
        hosts.into_iter().map(|host| (host.clone(), entry(host, false))).collect();
    entries.insert("docker.io".to_owned(), entry("docker.io", true));
    json!({
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": networks,
            "IndexConfigs": entries,
            "Mirrors": settings.mirrors,
        },
        "HttpProxy": proxy(&settings.proxies.http),
        "HttpsProxy": proxy(&settings.proxies.https),
        "NoProxy": settings.proxies.no_proxy,
    })
}

/// What the daemon is doing; where Docker counts its kind of threads, tasks are counted.
fn activity(daemon: &Daemon) -> Value {
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    json!({
        "NFd": open_files,
        "NGoroutines": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "NEventsListener": daemon.engine.events().listeners(),
    })
}

/// What Docker reports and Berth has none of; clients expect the keys.
fn absent() -> Value {
    let commit = json!({ "ID": "", "Expected": "" });
    json!({
        "Plugins": {
            "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "GenericResources": null,
        "Labels": [],
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false,
            "Error": "", "RemoteManagers": null,
        },
        "ContainerdCommit": commit,
        "RuncCommit": commit,
        "InitCommit": commit,
        "CDISpecDirs": [],
        "DefaultAddressPools": [],
    })
}
