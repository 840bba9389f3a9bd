//! `berth doctor`: can this host run machines, and if not, what is to be done.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::client::Client;
use crate::doctor::{AcceleratorRequest, Settings, examine};
use crate::host::HostError;
use crate::outcome::{Failure, Outcome};
use crate::output::print;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Style {
    Text,
    Json,
}

/// Check what this host has for running machines, and name the fix for what is missing
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth doctor
  berth doctor --kernel ./vmlinux --accelerator kvm
  berth doctor --format json

The exit status is 1 if something is missing that machines need. Flags and file are those of berthd.")]
pub(crate) struct Arguments {
    /// Format output
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Style,
    /// The daemon's configuration file
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// What executes the machines' CPUs [default: auto]
    #[arg(long, value_enum, value_name = "KIND")]
    accelerator: Option<AcceleratorRequest>,
    /// Guest kernel, an uncompressed ELF [default: `vmlinux` beside berthd or in /usr/lib/berth]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initramfs with the agent [default: `initramfs.cpio` beside berthd or in /usr/lib/berth]
    #[arg(long, value_name = "FILE")]
    initramfs: Option<PathBuf>,
    /// The machine monitor [default: `berth-vmm` beside berthd or in /usr/lib/berth]
    #[arg(long, value_name = "FILE")]
    vmm: Option<PathBuf>,
    /// QEMU, for the tcg accelerator [default: qemu-system-x86_64 from PATH]
    #[arg(long, value_name = "FILE")]
    qemu: Option<PathBuf>,
}

pub(super) async fn execute(arguments: Arguments, client: Result<Client, HostError>) -> Outcome {
    let format = arguments.format;
    let report = examine(&settings(arguments)?, client).await;
    match format {
        Style::Json => {
            let json = serde_json::to_string(&report).expect("a report holds text only");
            print(&format!("{json}\n"))?;
        }
        // Strips the colours unless standard output is a terminal; respects NO_COLOR.
        Style::Text => {
            let mut stdout = anstream::stdout();
            stdout
                .write_all(report.render().as_bytes())
                .and_then(|()| stdout.flush())
                .map_err(Failure::Output)?;
        }
    }
    Ok(u8::from(!report.is_healthy()))
}

/// Flags before the file.
fn settings(arguments: Arguments) -> Result<Settings, Failure> {
    let file = match &arguments.config_file {
        Some(path) => Settings::read(path).map_err(|error| Failure::Usage(error.to_string()))?,
        None => Settings::default(),
    };
    Ok(Settings {
        accelerator: arguments.accelerator.unwrap_or(file.accelerator),
        kernel: arguments.kernel.or(file.kernel),
        initramfs: arguments.initramfs.or(file.initramfs),
        vmm: arguments.vmm.or(file.vmm),
        qemu: arguments.qemu.or(file.qemu),
    })
}
