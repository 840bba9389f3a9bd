//! The Python clients that the tests drive: a virtual environment with exactly what `tests/python/requirements.txt` names,
//! made once and kept in the cache. It takes the network; without it the tests of these clients say that they are skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::cache::Key;
use crate::program;
use crate::progress;
use crate::workspace::Workspace;

/// Debian's, whatever else is in PATH: its packages are those that `cargo xtask packages` installs.
const PYTHON: &str = "/usr/bin/python3";
/// Counts up when the steps themselves change.
const RECIPE_VERSION: &str = "1";
/// What pip says when a package is not the one whose hash is written down: no reason to skip anything.
const WRONG_HASH: &str = "DO NOT MATCH THE HASHES";

/// The interpreter with the clients, or why there is none.
pub(crate) type Interpreter = Result<PathBuf, String>;

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let interpreter = ensure(workspace)?.map_err(anyhow::Error::msg)?;
    println!("{}", interpreter.display());
    Ok(())
}

/// Finds the environment in the cache, or makes it.
///
/// # Errors
/// When it cannot be made for another reason than a package index that does not answer.
pub(crate) fn ensure(workspace: &Workspace) -> anyhow::Result<Interpreter> {
    let requirements = workspace.path("tests/python/requirements.txt");
    let wanted =
        fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let version = program::output(Command::new(PYTHON).arg("--version"))?;
    let key = Key::new()
        .with("recipe", RECIPE_VERSION.as_bytes())
        .with("python", version.as_bytes())
        .with("requirements", &wanted);
    let directory = workspace.cache("python").join(key.digits());
    let interpreter = directory.join("bin/python3");
    if interpreter.exists() {
        return Ok(Ok(interpreter));
    }
    // Another checkout may be at it too: each makes its own, and the first one stays.
    let draft = directory.with_extension(std::process::id().to_string());
    let made = make(&draft, &requirements);
    if matches!(made, Ok(Ok(()))) && fs::rename(&draft, &directory).is_err() && !interpreter.exists() {
        bail!("cannot rename {} to {}", draft.display(), directory.display());
    }
    // Gone already, if all went well.
    let _gone = fs::remove_dir_all(&draft);
    Ok(made?.map(|()| interpreter))
}

fn make(directory: &Path, requirements: &Path) -> anyhow::Result<Result<(), String>> {
    program::output(Command::new(PYTHON).args(["-m", "venv"]).arg(directory))?;
    let mut pip = Command::new(directory.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip.args(["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement"]).arg(requirements);
    let Err(error) = program::output(&mut pip) else { return Ok(Ok(())) };
    let said = format!("{error:#}");
    if said.contains(WRONG_HASH) {
        bail!(error);
    }
    let reason = said.lines().next_back().unwrap_or_default().trim().to_owned();
    progress::note(format_args!("no Python clients: {said}"));
    Ok(Err(format!("the Python clients cannot be installed: {reason}")))
}
