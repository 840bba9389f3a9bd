//! `berth push`: have the daemon send an image to its registry.

use clap::Args;
use serde_json::json;

use super::progress::{Lines, Progress};
use crate::client::Client;
use crate::credentials;
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::reference::Reference;

/// Upload an image to a registry
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth push localhost:5000/team/app:1.2
  berth push -a localhost:5000/team/app                       Every tag that the daemon has
  berth push --platform linux/amd64 registry.example/app      One image of several of a name")]
pub(crate) struct Arguments {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let image = Reference::parse(&arguments.image);
    if image.digest.is_some() {
        return Err(Failure::Usage("cannot push a digest reference".to_owned()));
    }
    if arguments.all_tags && image.tag.is_some() {
        return Err(Failure::Usage("tag can't be used with --all-tags/-a".to_owned()));
    }
    if image.tag.is_none() && !arguments.all_tags && !arguments.quiet {
        print("Using default tag: latest\n")?;
    }
    let tag = if arguments.all_tags { None } else { image.tag_or_latest() };
    let platform = arguments.platform.as_deref().map(platform_json).transpose()?;
    let credentials = credentials::for_image(image.name)?;
    let reports = client.push(image.name, tag, platform.as_deref(), &credentials).await?;
    let lines = if arguments.quiet { Lines::Nowhere } else { Lines::Stdout };
    Progress::new(lines).show(reports).await?;
    if arguments.quiet {
        let what = if arguments.all_tags { image.canonical_repository() } else { image.canonical() };
        print(&format!("{what}\n"))?;
    }
    Ok(0)
}

/// The API wants an object here, not the text that it takes elsewhere.
fn platform_json(text: &str) -> Result<String, Failure> {
    let parts: Vec<_> = text.split('/').collect();
    match parts[..] {
        [os, architecture] if !os.is_empty() && !architecture.is_empty() => {
            Ok(json!({ "os": os, "architecture": architecture }).to_string())
        }
        [os, architecture, variant] if parts.iter().all(|part| !part.is_empty()) => {
            Ok(json!({ "os": os, "architecture": architecture, "variant": variant }).to_string())
        }
        _ => Err(Failure::Usage(format!(
            "invalid argument \"{text}\" for --platform: expected OS/ARCH or OS/ARCH/VARIANT"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_an_object() {
        assert_eq!(platform_json("linux/amd64").unwrap(), r#"{"architecture":"amd64","os":"linux"}"#);
        let arm = r#"{"architecture":"arm","os":"linux","variant":"v7"}"#;
        assert_eq!(platform_json("linux/arm/v7").unwrap(), arm);
        for wrong in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/arm/"] {
            assert!(platform_json(wrong).is_err(), "{wrong}");
        }
    }
}
