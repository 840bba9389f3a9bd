//! `berth image inspect`: everything the daemon says about images.

use clap::Args;

use crate::client::Client;
use crate::commands::inspect;
use crate::outcome::Outcome;

/// Display detailed information on one or more images
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Format output: 'json' or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let images = inspect::Arguments::of_images(arguments.format.clone(), arguments.images.clone());
    inspect::execute(&images, client).await
}
