//! `berth create`: make a container without starting it. `run` begins with the same step.

use std::fs::OpenOptions;
use std::io::Write;

use clap::Args;

use super::progress::{Lines, Progress};
use crate::client::{AttachStreams, Client, ClientError, CreateRequest, PullRequest};
use crate::credentials;
use crate::options::{ContainerOptions, PullPolicy};
use crate::outcome::{DAEMON_FAILED, Failure, Outcome};
use crate::output::{note, print};
use crate::reference::Reference;

/// Create a new container
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    override_usage = "berth create [OPTIONS] IMAGE [COMMAND] [ARG]...",
    after_help = "Examples:
  berth create --name job busybox sh -c 'echo done'
  berth start -a job"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: ContainerOptions,
    /// Print help
    // Without the short -h, which is --hostname as in Docker.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    // Only what was typed wrongly is Docker's 125 here; what the daemon refuses is an ordinary failure.
    create_and_print(arguments, client).await.map_err(|failure| match failure {
        usage @ Failure::Usage(_) => {
            Failure::Container { verb: "create", status: DAEMON_FAILED, source: Box::new(usage) }
        }
        other => other,
    })
}

async fn create_and_print(arguments: &Arguments, client: &Client) -> Outcome {
    let streams = arguments.options.process.streams();
    let id = create(&arguments.options, streams, client).await?;
    print(&format!("{id}\n"))?;
    Ok(0)
}

/// Creates the container, pulling its image as the policy says, and returns its id.
pub(super) async fn create(
    options: &ContainerOptions,
    streams: AttachStreams,
    client: &Client,
) -> Result<String, Failure> {
    let request = options.request(streams)?;
    let mut cidfile = options.metadata.cidfile.as_deref().map(CidFile::create).transpose()?;
    if options.pull.policy == PullPolicy::Always {
        pull(options, client).await?;
    }
    let created = match create_once(options, &request, client).await {
        Err(error) if error.is_not_found() && options.pull.policy == PullPolicy::Missing => {
            let image = Reference::parse(options.image());
            note(&format!("Unable to find image '{}' locally", image.familiar()));
            pull(options, client).await?;
            create_once(options, &request, client).await?
        }
        created => created?,
    };
    if let Some(cidfile) = &mut cidfile {
        cidfile.write(&created)?;
    }
    Ok(created)
}

async fn create_once(
    options: &ContainerOptions,
    request: &CreateRequest,
    client: &Client,
) -> Result<String, ClientError> {
    let metadata = &options.metadata;
    let created = client.create(metadata.name.as_deref(), metadata.platform.as_deref(), request).await?;
    for warning in created.warnings.unwrap_or_default() {
        note(&format!("WARNING: {warning}"));
    }
    Ok(created.id)
}

async fn pull(options: &ContainerOptions, client: &Client) -> Result<(), Failure> {
    let image = Reference::parse(options.image());
    let request = PullRequest {
        name: image.name,
        tag: image.digest.or(image.tag_or_latest()),
        platform: options.metadata.platform.as_deref(),
        credentials: &credentials::for_image(image.name)?,
    };
    let reports = client.pull(&request).await?;
    // Standard output belongs to the container.
    Progress::new(if options.pull.quiet { Lines::Nowhere } else { Lines::Stderr }).show(reports).await
}

/// The file of `--cidfile`: made before the container, so that a second container never takes an id's place.
struct CidFile {
    path: std::path::PathBuf,
    file: std::fs::File,
    written: bool,
}

impl CidFile {
    fn create(path: &std::path::Path) -> Result<Self, Failure> {
        let opened = OpenOptions::new().write(true).create_new(true).open(path);
        match opened {
            Ok(file) => Ok(Self { path: path.to_owned(), file, written: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::Usage(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ))),
            Err(source) => Err(Failure::File {
                object: format!("create the container ID file {}", path.display()),
                source,
            }),
        }
    }

    fn write(&mut self, id: &str) -> Result<(), Failure> {
        self.file.write_all(id.as_bytes()).map_err(|source| Failure::File {
            object: format!("write the container ID file {}", self.path.display()),
            source,
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    /// A container that was not created leaves no file.
    fn drop(&mut self) {
        if !self.written {
            drop(std::fs::remove_file(&self.path));
        }
    }
}
