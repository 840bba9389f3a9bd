//! What the daemon would be told: our flags of the same names, and the configuration file if one is named.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;
use thiserror::Error;

/// Settings are a few lines; anything longer is the wrong file.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AcceleratorRequest {
    #[default]
    Auto,
    Kvm,
    Tcg,
}

/// Paths that were named; what is not named is searched for.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) accelerator: AcceleratorRequest,
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) initramfs: Option<PathBuf>,
    pub(crate) vmm: Option<PathBuf>,
    pub(crate) qemu: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {} is not valid: {source}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
}

/// The keys of the daemon's file that matter here; the others are the daemon's to check.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    accelerator: Option<AcceleratorRequest>,
    kernel: Option<PathBuf>,
    initramfs: Option<PathBuf>,
    vmm: Option<PathBuf>,
    qemu: Option<PathBuf>,
}

impl Settings {
    /// What stands in the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, SettingsError> {
        let file = parse(path)?;
        Ok(Self {
            accelerator: file.accelerator.unwrap_or_default(),
            kernel: file.kernel,
            initramfs: file.initramfs,
            vmm: file.vmm,
            qemu: file.qemu,
        })
    }
}

fn parse(path: &Path) -> Result<File, SettingsError> {
    use std::io::Read;

    let unreadable = |source| SettingsError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(unreadable)?;
    serde_json::from_slice(&text).map_err(|source| SettingsError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_daemons() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"data-root": "/x", "kernel": "/k", "accelerator": "kvm"}"#).unwrap();
        let settings = Settings::read(file.path()).unwrap();
        assert_eq!((settings.kernel, settings.accelerator), (Some("/k".into()), AcceleratorRequest::Kvm));
        std::fs::write(file.path(), "{").unwrap();
        assert!(Settings::read(file.path()).unwrap_err().to_string().contains("not valid"));
        assert!(
            Settings::read(Path::new("/nowhere.json")).unwrap_err().to_string().contains("/nowhere.json")
        );
    }
}
