//! `nginx`, `redis` and `postgres`, and `worker` with the clients of the latter two: real servers from Debian's packages,
//! each one layer above the Debian image's. All are in one archive, in which that layer is stored once.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::archive::{self, CREATED_UNIX_S, Compression, Image};
use super::tree::{self, Seen};
use crate::program;
use crate::progress;

/// The archive's name.
pub(super) const NAME: &str = "servers";
const INSTALL: &str = include_str!("../../../images/servers/install.sh");
const NGINX_CONF: &str = include_str!("../../../images/servers/nginx.conf");
const POSTGRES_START: &str = include_str!("../../../images/servers/postgres-start");
/// What decides the images beside the packages.
pub(super) const INPUTS: [(&str, &str); 3] =
    [("install.sh", INSTALL), ("nginx.conf", NGINX_CONF), ("postgres-start", POSTGRES_START)];

const SECOND_NS: u64 = 1_000_000_000;

struct Recipe {
    name: &'static str,
    packages: &'static [&'static str],
    /// What is done below the root once they are installed.
    finish: fn(&Path) -> anyhow::Result<()>,
    /// What its containers have beyond those of the Debian image.
    defaults: fn() -> Value,
}

const RECIPES: [Recipe; 4] = [
    Recipe { name: "nginx", packages: &["nginx"], finish: finish_nginx, defaults: nginx },
    Recipe { name: "redis", packages: &["redis-server"], finish: finish_redis, defaults: redis },
    Recipe { name: "postgres", packages: &["postgresql"], finish: finish_postgres, defaults: postgres },
    Recipe {
        name: "worker",
        packages: &["postgresql-client", "redis-tools"],
        finish: |_root| Ok(()),
        defaults: || json!({}),
    },
];

/// Made from the archive of the Debian image.
pub(super) fn images(debian: &Path) -> anyhow::Result<Vec<Image>> {
    if !rustix::process::geteuid().is_root() {
        bail!("installing packages into another root needs root");
    }
    let archive = fs::read(debian).with_context(|| format!("cannot read {}", debian.display()))?;
    let base: Rc<[u8]> = archive::only_layer(&archive)?.into();
    RECIPES.iter().map(|recipe| recipe.image(&base)).collect()
}

impl Recipe {
    fn image(&self, base: &Rc<[u8]>) -> anyhow::Result<Image> {
        progress::note(format_args!("{}: apt-get install {}", self.name, self.packages.join(" ")));
        let directory = tempfile::Builder::new().prefix("berth-server-").tempdir().context("no directory")?;
        let root = directory.path().join("root");
        unpack(base, &root)?;
        let lower = Seen::below(&root)?;
        self.install(&root)?;
        (self.finish)(&root).with_context(|| format!("cannot finish {}", self.name))?;
        let upper = tree::layer_above(&lower, &root)?;
        let mut defaults = archive::runs("bash");
        for (name, value) in (self.defaults)().as_object().into_iter().flatten() {
            defaults[name] = value.clone();
        }
        Ok(Image {
            name: self.name,
            made_by: "Debian's packages, installed by Berth",
            defaults,
            layers: vec![Rc::clone(base), upper.into()],
            compression: Compression::Zstd,
        })
    }

    fn install(&self, root: &Path) -> anyhow::Result<()> {
        let script = root.with_file_name("install.sh");
        fs::write(&script, INSTALL).with_context(|| format!("cannot write {}", script.display()))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh"]).arg(&script).arg(root).args(self.packages);
        command.env("SOURCE_DATE_EPOCH", CREATED_UNIX_S.to_string()).stdin(Stdio::null());
        program::output(&mut command).map(drop)
    }
}

fn unpack(layer: &[u8], root: &Path) -> anyhow::Result<()> {
    let mut archive = tar::Archive::new(layer);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.unpack(root).with_context(|| format!("cannot unpack the Debian image into {}", root.display()))
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
