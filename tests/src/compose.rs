//! The compose project of `tests/compose`, copied to a host, and either generation of the tool to run it with.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::client::{Client, Running};
use crate::environment::{product, program, skip};
use crate::host::Host;
use crate::outcome::Outcome;

/// A project's directory, and who types commands there. The project's name is the directory's.
#[derive(Clone, Debug)]
pub struct Project {
    client: Client,
    /// The client's first words.
    tool: Vec<String>,
    directory: PathBuf,
}

impl Project {
    /// A copy of the project whose web server is published at this port, for `docker compose`. `None`, said aloud, where
    /// that is missing.
    ///
    /// # Panics
    /// If the project cannot be copied.
    #[must_use]
    pub fn new(host: &Host, name: &str, web_port: u16) -> Option<Self> {
        let plugin = product("BERTH_TEST_COMPOSE")?;
        let client = host.docker()?;
        let plugins = host.path("home/.docker/cli-plugins");
        fs::create_dir_all(&plugins).expect("a directory can be made");
        let link = plugins.join("docker-compose");
        if !link.exists() {
            symlink(plugin, link).expect("a link can be made");
        }
        let directory = host.path(name);
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("compose"), &directory);
        fs::write(directory.join(".env"), format!("WEB_PORT={web_port}\n")).expect("a file can be written");
        Some(Self { client, tool: vec!["compose".to_owned()], directory })
    }

    /// The same directory for `docker-compose`, the tool of years ago. `None`, said aloud, where that is missing.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn for_the_predecessor(&self) -> Option<Self> {
        let packages = product("BERTH_TEST_COMPOSE_PREDECESSOR")?;
        if program("python3").is_none() {
            skip("docker-compose 1 needs Debian's Python");
            return None;
        }
        let script = format!(
            "#!/bin/sh\nexport PYTHONPATH={}\nexec /usr/bin/python3 -W ignore -B -c 'from compose.cli.main import main; main()' \"$@\"\n",
            packages.display()
        );
        let path = self.client.home.join("docker-compose");
        fs::write(&path, script).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        let client = Client { name: "docker-compose", program: path, ..self.client.clone() };
        Some(Self { client, tool: Vec::new(), directory: self.directory.clone() })
    }

    /// Types a command and waits for its end.
    ///
    /// # Panics
    /// As [`Client::run`].
    #[track_caller]
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Outcome {
        self.client.run(self.words(words))
    }

    /// Types a command and does not wait.
    ///
    /// # Panics
    /// As [`Client::spawn`].
    #[must_use]
    pub fn spawn(&self, words: &[&str]) -> Running {
        self.client.spawn(self.words(words))
    }

    /// Runs a shell's line in a service's container.
    ///
    /// # Panics
    /// As [`Client::run`].
    #[track_caller]
    #[must_use]
    pub fn exec(&self, service: &str, line: &str) -> Outcome {
        self.run(&["exec", "-T", service, "bash", "-c", line])
    }

    /// A file of the project's.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.join(below)
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let file = self.path("compose.yaml").to_string_lossy().into_owned();
        let before = self.tool.iter().cloned().chain(["--file".to_owned(), file]);
        before.chain(words.iter().map(|word| (*word).to_owned())).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("the project is there").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a file can be copied");
        }
    }
}
