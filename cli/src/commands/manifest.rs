//! `berth manifest`: look at images where they are, without pulling them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Client, Manifest};
use crate::credentials;
use crate::format::indent;
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::reference::Reference;

/// Look at image manifests and manifest lists in a registry
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Inspect(InspectArguments),
}

/// Display an image manifest, or manifest list
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth manifest inspect busybox
  berth manifest inspect -v localhost:5000/team/app:1.2     With digest and media type")]
struct InspectArguments {
    /// Output the name, the descriptor and the manifest
    #[arg(short, long)]
    verbose: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    manifest: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let Verb::Inspect(arguments) = &arguments.verb;
    let reference = Reference::parse(&arguments.manifest);
    let credentials = credentials::for_image(reference.name)?;
    let found = client.registry_manifest(&arguments.manifest, &credentials).await?;
    let text = String::from_utf8_lossy(&found.content);
    let parsed: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::Usage(format!("the manifest of {} is no JSON: {error}", arguments.manifest))
    })?;
    let shown = if arguments.verbose {
        indent(&verbose(&reference, &found, &parsed).to_string())
    } else {
        // The registry's own order and numbers.
        indent(&text)
    };
    print(&format!("{shown}\n"))?;
    Ok(0)
}

fn verbose(reference: &Reference<'_>, found: &Manifest, content: &Value) -> Value {
    json!({
        "Ref": reference.canonical(),
        "Descriptor": {
            "mediaType": found.media_type,
            "digest": found.digest,
            "size": found.content.len(),
        },
        "Manifest": content,
    })
}
