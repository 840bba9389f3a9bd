//! `berth volume create`: make a volume.

use std::collections::BTreeMap;

use clap::Args;

use crate::client::{Client, VolumeRequest};
use crate::environment;
use crate::outcome::{Failure, Outcome};
use crate::output::print;

/// Create a volume
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth volume create data
  berth volume create --opt size=10G data     No more than 10 GiB go into it
  berth volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=100m,uid=1000 scratch
  berth volume create --opt type=none --opt o=bind --opt device=/srv/site site")]
pub(crate) struct Arguments {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local", value_name = "DRIVER")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Without it, the daemon finds a name
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let name = client.create_volume(&arguments.request()?).await?;
    print(&format!("{name}\n"))?;
    Ok(0)
}

impl Arguments {
    fn request(&self) -> Result<VolumeRequest, Failure> {
        let labels = environment::labels(&[], &self.label);
        Ok(VolumeRequest {
            name: self.name.clone().unwrap_or_default(),
            driver: self.driver.clone(),
            driver_opts: self.options()?,
            labels: labels.map_err(|error| Failure::Usage(error.to_string()))?,
        })
    }

    fn options(&self) -> Result<BTreeMap<String, String>, Failure> {
        let option = |text: &String| {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Failure::Usage(format!("invalid argument \"{text}\" for --opt: expected KEY=VALUE"))
            })?;
            Ok((name.to_owned(), value.to_owned()))
        };
        self.opt.iter().map(option).collect()
    }
}
