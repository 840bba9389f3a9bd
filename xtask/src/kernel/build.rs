//! The steps from a source package to a kernel in the cache.
//!
//! Works in a directory of its own beside the product and renames the finished directory into place, so that
//! the cache holds whole kernels only. What a killed build left is removed by the next.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, bail};

use super::fragment::Fragment;
use super::source::Source;
use crate::program;
use crate::progress::{self, Counter};
use crate::transcript::Transcript;

/// Everything that decides what kernel comes out.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) source: Source,
    pub(super) fragment: Fragment,
    pub(super) patches: Vec<PathBuf>,
}

/// About as many lines as the build prints; scales the progress bar.
const EXPECTED_LINES: u64 = 2_000;

/// Builds into `directory`, which appears only when everything in it is complete.
pub(super) fn build(recipe: &Recipe, directory: &Path) -> anyhow::Result<()> {
    let work = directory.with_extension("building");
    remove_if_present(&work)?;
    let product = work.join("product");
    fs::create_dir_all(&product).with_context(|| format!("cannot create {}", product.display()))?;

    progress::note("unpacking the source");
    let source = recipe.source.unpack(&work)?;
    apply_patches(&source, &recipe.patches)?;
    let tree = Tree { source, output: work.join("output") };
    tree.configure(&recipe.fragment)?;
    tree.compile(&directory.with_extension("log"))?;
    tree.collect(&product)?;

    fs::rename(&product, directory).with_context(|| format!("cannot create {}", directory.display()))?;
    remove_if_present(&work)
}

fn remove_if_present(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn apply_patches(source: &Path, patches: &[PathBuf]) -> anyhow::Result<()> {
    for patch in patches {
        progress::note(format_args!("applying {}", patch.display()));
        let mut command = Command::new("patch");
        command.args(["--strip=1", "--forward", "--batch", "--silent", "--fuzz=0"]);
        program::run(command.arg("--directory").arg(source).arg("--input").arg(patch))?;
    }
    Ok(())
}

/// An unpacked source with the directory its objects go to.
struct Tree {
    source: PathBuf,
    output: PathBuf,
}

impl Tree {
    fn configure(&self, fragment: &Fragment) -> anyhow::Result<()> {
        let config = self.output.join(".config");
        fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot create {}", self.output.display()))?;
        program::output(self.make().arg("tinyconfig"))?;
        let base = fs::read_to_string(&config).context("cannot read the base configuration")?;
        fs::write(&config, fragment.over(&base)).context("cannot write the configuration")?;
        program::output(self.make().arg("olddefconfig"))?;
        let settled = fs::read_to_string(&config).context("cannot read the configuration")?;
        let lost = fragment.lost(&settled);
        if !lost.is_empty() {
            bail!("Kconfig did not keep these options of the fragment:\n  {}", lost.join("\n  "));
        }
        Ok(())
    }

    /// Compiles with a bar; every line goes to `log`, and the last ones to the user if it fails.
    fn compile(&self, log: &Path) -> anyhow::Result<()> {
        let jobs = thread::available_parallelism().map_or(1, NonZero::get);
        let mut make = self.make();
        make.arg(format!("-j{jobs}")).arg("vmlinux");
        let mut transcript = Transcript::create(log)?;
        let mut counter = Counter::new("objects", EXPECTED_LINES);
        let status = program::lines(make, |line| {
            counter.advance();
            transcript.add(line)
        })?;
        counter.finish();
        if !status.success() {
            transcript.show_end();
            bail!("the kernel does not compile: make ended with {status}");
        }
        Ok(())
    }

    /// The kernel without its symbol table, and the configuration it was built with.
    fn collect(&self, product: &Path) -> anyhow::Result<()> {
        let mut strip = Command::new("strip");
        strip.arg("--strip-all").arg("-o").arg(product.join("vmlinux")).arg(self.output.join("vmlinux"));
        program::run(&mut strip)?;
        fs::copy(self.output.join(".config"), product.join("config"))
            .context("cannot keep the configuration")?;
        Ok(())
    }

    /// `make` with nothing of the caller's environment that could change the product, and without a date.
    fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.arg("--directory").arg(&self.source).arg(format!("O={}", self.output.display()));
        make.arg("ARCH=x86_64");
        make.env("LC_ALL", "C");
        make.env("KBUILD_BUILD_USER", "berth").env("KBUILD_BUILD_HOST", "berth");
        make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01").env("KBUILD_BUILD_VERSION", "1");
        for variable in
            ["MAKEFLAGS", "MAKELEVEL", "CROSS_COMPILE", "KCONFIG_CONFIG", "KCFLAGS", "LOCALVERSION"]
        {
            make.env_remove(variable);
        }
        make
    }
}
