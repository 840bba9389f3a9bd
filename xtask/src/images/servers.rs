//! `nginx`, `redis` and `postgres`, and `worker` with the clients of the latter two: real servers from Debian's packages.
//! All are in one archive, in which the layer below them is stored once.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::archive::{self, Compression, Image};
use super::installed::{self, Recipe};

/// The archive's name.
pub(super) const NAME: &str = "servers";
const NGINX_CONF: &str = include_str!("../../../images/servers/nginx.conf");
const POSTGRES_START: &str = include_str!("../../../images/servers/postgres-start");
/// What decides the images beside the packages.
pub(super) const INPUTS: [(&str, &str); 3] =
    [("install.sh", installed::SCRIPT), ("nginx.conf", NGINX_CONF), ("postgres-start", POSTGRES_START)];

const SECOND_NS: u64 = 1_000_000_000;

const RECIPES: [Recipe; 4] = [
    Recipe {
        name: "nginx",
        packages: &["nginx"],
        finish: finish_nginx,
        defaults: nginx,
        compression: Compression::Zstd,
    },
    Recipe {
        name: "redis",
        packages: &["redis-server"],
        finish: finish_redis,
        defaults: redis,
        compression: Compression::Zstd,
    },
    Recipe {
        name: "postgres",
        packages: &["postgresql"],
        finish: finish_postgres,
        defaults: postgres,
        compression: Compression::Zstd,
    },
    Recipe {
        name: "worker",
        packages: &["postgresql-client", "redis-tools"],
        finish: |_root| Ok(()),
        defaults: || json!({}),
        compression: Compression::Zstd,
    },
];

/// Made from the archive of the Debian image.
pub(super) fn images(debian: &Path) -> anyhow::Result<Vec<Image>> {
    installed::images(debian, &RECIPES)
}

fn finish_nginx(root: &Path) -> anyhow::Result<()> {
    fs::write(root.join("etc/nginx/nginx.conf"), NGINX_CONF)?;
    // The path that is compiled in, and opened before the configuration is read.
    symlink("/dev/stderr", root.join("var/log/nginx/error.log"))?;
    Ok(())
}

fn nginx() -> Value {
    json!({
        "Cmd": ["nginx", "-g", "daemon off;"],
        "ExposedPorts": { "80/tcp": {} },
        "StopSignal": "SIGQUIT",
    })
}

fn finish_redis(root: &Path) -> anyhow::Result<()> {
    // The package's own directory, with its owner, under the name that compose files know.
    fs::rename(root.join("var/lib/redis"), root.join("data"))?;
    Ok(())
}

fn redis() -> Value {
    json!({
        "Cmd": ["redis-server", "--bind", "* -::*", "--protected-mode", "no", "--dir", "/data"],
        "User": "redis",
        "WorkingDir": "/data",
        "ExposedPorts": { "6379/tcp": {} },
        "Volumes": { "/data": {} },
        "Healthcheck": healthcheck(&["CMD", "redis-cli", "ping"]),
    })
}

fn finish_postgres(root: &Path) -> anyhow::Result<()> {
    let start = root.join("usr/local/bin/postgres-start");
    fs::write(&start, POSTGRES_START)?;
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn postgres() -> Value {
    let data = "/var/lib/postgresql/data";
    json!({
        "Env": [archive::SEARCH_PATH, format!("PGDATA={data}")],
        "Entrypoint": ["postgres-start"],
        "Cmd": ["postgres"],
        "ExposedPorts": { "5432/tcp": {} },
        "Volumes": { data: {} },
        // Ends sessions instead of waiting for their ends.
        "StopSignal": "SIGINT",
        "Healthcheck": healthcheck(&["CMD", "pg_isready", "--quiet", "--host", "127.0.0.1"]),
    })
}

/// Asked often until it holds for the first time.
fn healthcheck(test: &[&str]) -> Value {
    json!({
        "Test": test,
        "Interval": 10 * SECOND_NS,
        "Timeout": 30 * SECOND_NS,
        "StartPeriod": 120 * SECOND_NS,
        "StartInterval": SECOND_NS,
    })
}
