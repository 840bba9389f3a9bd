//! `cargo xtask compose`: both generations of `docker compose` as the tests drive them, unpacked and not installed: the
//! plugin of the docker CLI, pinned, and its predecessor in Python from the release that runs here. It takes the network;
//! without it the tests of what is missing say that they are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::apt;
use crate::cache::Key;
use crate::progress;
use crate::workspace::Workspace;

/// Counts up when the steps themselves change.
const RECIPE_VERSION: &str = "1";

/// The plugin: Debian unstable's, which has one version at a time.
const PLUGIN_VERSION: &str = "2.40.3-3";
const PLUGIN_SHA256: &str = "e7603d5e6df0f8404f7b03da478022b87d7b50644cffe68884b071e5cfc17fd3";
const PLUGIN_INSIDE: &str = "usr/libexec/docker/cli-plugins/docker-compose";

/// The predecessor, and what it imports that Python itself does not have: not what the host has installed, whose
/// versions may be others.
const PREDECESSOR: [&str; 20] = [
    "docker-compose",
    "python3-attr",
    "python3-certifi",
    "python3-chardet",
    "python3-charset-normalizer",
    "python3-distro",
    "python3-docker",
    "python3-dockerpty",
    "python3-docopt",
    "python3-dotenv",
    "python3-idna",
    "python3-jsonschema",
    "python3-packaging",
    "python3-pyrsistent",
    "python3-requests",
    "python3-six",
    "python3-texttable",
    "python3-urllib3",
    "python3-websocket",
    "python3-yaml",
];
/// In later releases `docker-compose` is the plugin.
const PREDECESSOR_INSIDE: &str = "usr/lib/python3/dist-packages/compose/cli/main.py";
/// What apt says of a file that is not the one whose hash is written down: no reason to skip anything.
const WRONG_HASH: &str = "Hash Sum mismatch";

/// What there is of either, or why it is missing.
pub(crate) struct Compose {
    /// The program.
    pub(crate) plugin: Result<PathBuf, String>,
    /// The directory of the Python packages.
    pub(crate) predecessor: Result<PathBuf, String>,
}

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let Compose { plugin, predecessor } = ensure(workspace)?;
    for found in [plugin, predecessor] {
        println!("{}", found.map_err(anyhow::Error::msg)?.display());
    }
    Ok(())
}

/// Finds both in the cache, or gets them.
///
/// # Errors
/// When one is not what it is pinned to.
pub(crate) fn ensure(workspace: &Workspace) -> anyhow::Result<Compose> {
    let cache = workspace.cache("compose");
    let plugin = keep(&cache, "plugin", &[PLUGIN_VERSION, PLUGIN_SHA256], PLUGIN_INSIDE, |draft| {
        let path = format!("pool/main/d/docker-compose/docker-compose_{PLUGIN_VERSION}_amd64.deb");
        apt::download_file(&path, PLUGIN_SHA256, &draft.join("plugin.deb")).with_context(|| {
            format!("docker-compose {PLUGIN_VERSION} cannot be had; if the archive has another by now, it is pinned in xtask/src/compose.rs")
        })
    })?;
    let codename = apt::codename()?;
    let inputs = [&[codename.as_str()][..], &PREDECESSOR].concat();
    let predecessor = keep(&cache, "predecessor", &inputs, PREDECESSOR_INSIDE, |draft| {
        apt::download(&PREDECESSOR, draft)
            .with_context(|| format!("docker-compose 1 and what it needs cannot be had from {codename}"))
    })?;
    let packages = |main: PathBuf| main.ancestors().nth(3).map(Path::to_path_buf).unwrap_or_default();
    Ok(Compose { plugin, predecessor: predecessor.map(packages) })
}

/// Unpacks what `get` downloads into a directory that is found again, and gives the path of `inside` there.
fn keep(
    cache: &Path,
    name: &str,
    inputs: &[&str],
    inside: &str,
    get: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Result<PathBuf, String>> {
    let key = Key::new().with("recipe", RECIPE_VERSION.as_bytes());
    let key = inputs.iter().fold(key, |key, input| key.with(name, input.as_bytes()));
    let directory = cache.join(format!("{name}-{}", key.digits()));
    let wanted = directory.join(inside);
    if wanted.exists() {
        return Ok(Ok(wanted));
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Another checkout may be at it too: each makes its own, and the first one stays.
    let draft = tempfile::tempdir_in(cache).context("cannot make a directory in the cache")?;
    if let Err(error) = get(draft.path()).and_then(|()| unpack_all(draft.path(), inside)) {
        let said = format!("{error:#}");
        if said.contains(WRONG_HASH) {
            bail!(error);
        }
        progress::note(format_args!("skipped: {said}"));
        return Ok(Err(said.lines().next().unwrap_or_default().to_owned()));
    }
    if fs::rename(draft.path().join(ROOT), &directory).is_err() && !wanted.exists() {
        bail!("cannot rename {} to {}", draft.path().display(), directory.display());
    }
    Ok(Ok(wanted))
}

/// Below a draft, where its packages are unpacked.
const ROOT: &str = "root";

fn unpack_all(draft: &Path, inside: &str) -> anyhow::Result<()> {
    let entries = fs::read_dir(draft).with_context(|| format!("cannot list {}", draft.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            apt::unpack(&path, &draft.join(ROOT))?;
        }
    }
    if !draft.join(ROOT).join(inside).exists() {
        bail!("the packages have no {inside}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_a_reason_to_skip_and_what_is_wrong_is_an_error() {
        let cache = tempfile::tempdir().unwrap();
        let get = |message: &'static str| {
            keep(cache.path(), "thing", &["1"], "usr/bin/thing", move |_draft| bail!(message))
        };
        assert_eq!(get("404  Not Found").unwrap().unwrap_err(), "404  Not Found");
        assert!(get("Hash Sum mismatch").is_err());
        let empty = keep(cache.path(), "thing", &["1"], "usr/bin/thing", |_draft| Ok(())).unwrap();
        assert_eq!(empty.unwrap_err(), "the packages have no usr/bin/thing");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "nothing of a failure stays");
    }
}
