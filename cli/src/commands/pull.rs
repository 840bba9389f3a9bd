//! `berth pull`: have the daemon fetch an image from its registry.

use clap::Args;

use super::progress::{Lines, Progress};
use crate::client::{Client, PullRequest};
use crate::credentials;
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::reference::Reference;

/// Download an image from a registry
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth pull busybox                               The tag latest, from Docker Hub
  berth pull localhost:5000/team/app:1.2
  berth pull debian@sha256:3d868b5eb908155f3784317b3dda2941df87bbbbaa4608f84881de66d9bb297b
  berth pull --platform linux/arm64 busybox
  berth pull -a localhost:5000/team/app            Every tag there is")]
pub(crate) struct Arguments {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM", value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let image = Reference::parse(&arguments.image);
    let named = image.digest.or(image.tag);
    if arguments.all_tags && named.is_some() {
        return Err(Failure::Usage("tag can't be used with --all-tags/-a".to_owned()));
    }
    if named.is_none() && !arguments.all_tags && !arguments.quiet {
        print("Using default tag: latest\n")?;
    }
    let request = PullRequest {
        name: image.name,
        tag: if arguments.all_tags { None } else { image.digest.or(image.tag_or_latest()) },
        platform: arguments.platform.as_deref(),
        credentials: &credentials::for_image(image.name)?,
    };
    let reports = client.pull(&request).await?;
    let lines = if arguments.quiet { Lines::Nowhere } else { Lines::Stdout };
    Progress::new(lines).show(reports).await?;
    let what = if arguments.all_tags { image.canonical_repository() } else { image.canonical() };
    print(&format!("{what}\n"))?;
    Ok(0)
}
