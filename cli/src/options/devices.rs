//! Devices of the machine that a container may use, and how fast it may use its disks.

use clap::Args;

use super::OptionError;
use crate::client::{CreateRequest, Device, ThrottleDevice, WeightDevice};
use crate::quantity;

const EVERY_ACCESS: &str = "rwm";

#[derive(Args, Debug)]
#[command(next_help_heading = "Devices")]
pub(crate) struct DeviceOptions {
    /// Add a device of the machine to the container
    #[arg(long, value_name = "PATH[:PATH][:ACCESS]")]
    device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "INT")]
    blkio_weight: Option<u16>,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "PATH:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "PATH:BYTES")]
    device_read_bps: Vec<String>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "PATH:BYTES")]
    device_write_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "PATH:INT")]
    device_read_iops: Vec<String>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "PATH:INT")]
    device_write_iops: Vec<String>,
}

impl DeviceOptions {
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), OptionError> {
        let host = &mut request.host_config;
        host.devices = all("device", &self.device, parse_device)?;
        host.device_cgroup_rules.clone_from(&self.device_cgroup_rule);
        host.blkio_weight = self.blkio_weight;
        host.blkio_weight_device = all("blkio-weight-device", &self.blkio_weight_device, parse_weight)?;
        host.blkio_device_read_bps = all("device-read-bps", &self.device_read_bps, parse_bytes)?;
        host.blkio_device_write_bps = all("device-write-bps", &self.device_write_bps, parse_bytes)?;
        host.blkio_device_read_iops = all("device-read-iops", &self.device_read_iops, parse_count)?;
        host.blkio_device_write_iops = all("device-write-iops", &self.device_write_iops, parse_count)?;
        Ok(())
    }
}

fn all<T>(
    flag: &'static str,
    values: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, OptionError> {
    values
        .iter()
        .map(|value| parse(value).map_err(|reason| OptionError::invalid(flag, value, reason)))
        .collect()
}

/// `PATH[:PATH][:ACCESS]`
fn parse_device(text: &str) -> Result<Device, String> {
    let is_access = |word: &str| !word.is_empty() && word.chars().all(|letter| "rwm".contains(letter));
    let (path, target, access) = match text.split(':').collect::<Vec<_>>()[..] {
        [path] => (path, path, EVERY_ACCESS),
        [path, access] if is_access(access) => (path, path, access),
        [path, target] => (path, target, EVERY_ACCESS),
        [path, target, access] => (path, target, access),
        _ => return Err("expected PATH[:PATH][:ACCESS]".to_owned()),
    };
    Ok(Device {
        path_on_host: path.to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: access.to_owned(),
    })
}

fn with_path(text: &str) -> Result<(String, &str), String> {
    let (path, value) = text.split_once(':').ok_or("expected PATH:NUMBER")?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path.to_owned(), value))
}

fn parse_weight(text: &str) -> Result<WeightDevice, String> {
    let (path, value) = with_path(text)?;
    let weight = value.parse().map_err(|_| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice { path, weight })
}

fn parse_bytes(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = with_path(text)?;
    let rate = quantity::parse_bytes(value).map_err(|error| error.to_string())?;
    let rate = u64::try_from(rate).map_err(|_| format!("invalid rate for device: {text}"))?;
    Ok(ThrottleDevice { path, rate })
}

fn parse_count(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = with_path(text)?;
    let rate = value.parse().map_err(|_| format!("invalid rate for device: {text}"))?;
    Ok(ThrottleDevice { path, rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_path_or_two_and_every_access_or_some() {
        for (text, path, target, access) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/fuse:r", "/dev/fuse", "/dev/fuse", "r"),
            ("/dev/fuse:/dev/x", "/dev/fuse", "/dev/x", "rwm"),
            ("/dev/fuse:/dev/x:rw", "/dev/fuse", "/dev/x", "rw"),
        ] {
            let device = Device {
                path_on_host: path.into(),
                path_in_container: target.into(),
                cgroup_permissions: access.into(),
            };
            assert_eq!(parse_device(text), Ok(device));
        }
        assert!(parse_device("a:b:c:d").is_err());
    }

    #[test]
    fn rates_are_of_a_device() {
        assert_eq!(
            parse_bytes("/dev/vdb:1mb"),
            Ok(ThrottleDevice { path: "/dev/vdb".into(), rate: 1 << 20 })
        );
        assert_eq!(parse_count("/dev/vdb:7"), Ok(ThrottleDevice { path: "/dev/vdb".into(), rate: 7 }));
        assert_eq!(parse_weight("/dev/vdb:20"), Ok(WeightDevice { path: "/dev/vdb".into(), weight: 20 }));
        for wrong in ["/dev/vdb", "vdb:1", "/dev/vdb:x", "/dev/vdb:-1"] {
            assert!(parse_bytes(wrong).is_err() && parse_count(wrong).is_err(), "{wrong}");
        }
    }
}
