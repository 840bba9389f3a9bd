//! What a container sees of file systems beside its image.

use std::path::Path;

use clap::Args;

use super::OptionError;
use super::mount::parse_mount;
use crate::client::CreateRequest;
use crate::environment;

#[derive(Args, Debug)]
#[command(next_help_heading = "Storage")]
pub(crate) struct StorageOptions {
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "[SOURCE:]PATH[:OPTIONS]")]
    volume: Vec<String>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "DRIVER", default_value = "", hide_default_value = true)]
    volume_driver: String,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
    /// Storage driver options for the container
    #[arg(long, value_name = "KEY=VALUE")]
    storage_opt: Vec<String>,
}

impl StorageOptions {
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), OptionError> {
        request.host_config.readonly_rootfs = self.read_only;
        for tmpfs in &self.tmpfs {
            let (path, options) = tmpfs.split_once(':').unwrap_or((tmpfs, ""));
            request.host_config.tmpfs.insert(path.to_owned(), options.to_owned());
        }
        for volume in &self.volume {
            match volume.split_once(':') {
                Some((source, rest)) => {
                    request.host_config.binds.push(format!("{}:{rest}", absolute(volume, source)?));
                }
                None => {
                    request.volumes.entry(volume.clone()).or_default();
                }
            }
        }
        for mount in &self.mount {
            let parsed = parse_mount(mount).map_err(|reason| OptionError::invalid("mount", mount, reason))?;
            request.host_config.mounts.push(parsed);
        }
        request.host_config.volume_driver.clone_from(&self.volume_driver);
        request.host_config.volumes_from.clone_from(&self.volumes_from);
        request.host_config.storage_opt = environment::pairs(&self.storage_opt);
        Ok(())
    }
}

/// A source that begins with a point is a path from here; anything else is a path or a volume's name as it is.
fn absolute(volume: &str, source: &str) -> Result<String, OptionError> {
    if !source.starts_with('.') {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(Path::new(source));
    let path = path.map_err(|reason| OptionError::invalid("volume", volume, reason.to_string()))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| OptionError::invalid("volume", volume, format!("{} is not UTF-8", path.display())))
}
