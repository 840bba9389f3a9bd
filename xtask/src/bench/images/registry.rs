//! The registry that both sides pull from: Debian's docker-registry on loopback, filled by skopeo.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::variant::Layout;
use crate::program;

const START_DEADLINE: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Ends with the value.
pub(super) struct Registry {
    child: Child,
    port: u16,
    namespace: Option<String>,
    /// For skopeo, which wants a place for what is on its way.
    temporary: PathBuf,
}

impl Registry {
    pub(super) fn start(directory: &Path, namespace: Option<&str>) -> anyhow::Result<Self> {
        let configuration = directory.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n\
             http: {{addr: '127.0.0.1:0', secret: none}}\n",
            directory.join("registry").display()
        );
        fs::write(&configuration, text).context("cannot write the registry's settings")?;
        let log = directory.join("registry.log");
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = program::command_in(namespace, "docker-registry");
        command.arg("serve").arg(&configuration).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("cannot start docker-registry")?;
        let namespace = namespace.map(str::to_owned);
        let mut registry = Self { child, port: 0, namespace, temporary: directory.to_path_buf() };
        registry.port = registry.wait_for_port(&log)?;
        Ok(registry)
    }

    fn wait_for_port(&mut self, log: &Path) -> anyhow::Result<u16> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let said = fs::read_to_string(log).unwrap_or_default();
            if let Some(port) = listening_port(&said) {
                return Ok(port);
            }
            if Instant::now() > deadline || self.child.try_wait()?.is_some() {
                bail!("docker-registry does not listen: {said}");
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The name of an image here.
    pub(super) fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}:latest", self.port)
    }

    /// Puts the image of an archive here, byte by byte.
    pub(super) fn fill(&self, archive: &Path, name: &str) -> anyhow::Result<String> {
        self.copy(&format!("oci-archive:{}", archive.display()), name)
    }

    /// Puts another image with the same layers here.
    pub(super) fn fill_with_variant(
        &self,
        archive: &Path,
        name: &str,
        directory: &Path,
    ) -> anyhow::Result<String> {
        let directory = tempfile::tempdir_in(directory).context("no temporary directory")?;
        let layout = Layout::unpack(archive, &directory)?;
        layout.change_command("another")?;
        self.copy(&format!("oci:{}", directory.path().display()), &format!("{name}-variant"))
    }

    fn copy(&self, from: &str, name: &str) -> anyhow::Result<String> {
        let image = self.image(name);
        let mut command = program::command_in(self.namespace.as_deref(), "skopeo");
        command.arg("--insecure-policy").arg("--tmpdir").arg(&self.temporary);
        command.args(["copy", "--quiet", "--all", "--dest-tls-verify=false", from]);
        program::run(command.arg(format!("docker://{image}")).stdout(Stdio::null()))?;
        Ok(image)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself, and is gone afterwards either way.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// It says so once, when it listens.
fn listening_port(said: &str) -> Option<u16> {
    let (_before, address) = said.split_once("msg=\"listening on 127.0.0.1:")?;
    address.split('"').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_one_it_chose() {
        assert_eq!(listening_port("level=info msg=\"listening on 127.0.0.1:36423\" x=1"), Some(36423));
        assert_eq!(listening_port("level=info msg=\"redis not configured\""), None);
    }
}
