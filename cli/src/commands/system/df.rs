//! `berth system df`: what images, containers and volumes take.

use clap::Args;
use jiff::Zoned;

use crate::client::{Client, ContainerSize, DiskUsage, ImageSize, VolumeSize};
use crate::format::{Column, Format, Listing};
use crate::moment::ago;
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::quantity::decimal_size;
use crate::reference::short_id;
use crate::table::{align, ellipsis};

const COLUMNS: &[Column] = &[
    Column { field: "Type", header: "TYPE" },
    Column { field: "TotalCount", header: "TOTAL" },
    Column { field: "Active", header: "ACTIVE" },
    Column { field: "Size", header: "SIZE" },
    Column { field: "Reclaimable", header: "RECLAIMABLE" },
];
const DEFAULT: &[&str] = &["Type", "TotalCount", "Active", "Size", "Reclaimable"];
const COMMAND_LENGTH: usize = 20;

/// Show disk usage
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth system df
  berth system df -v     Each image, container and volume, and what it takes")]
pub(crate) struct Arguments {
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    if arguments.verbose && !matches!(format, Format::Table(None)) {
        return Err(Failure::Usage("--format does not go with --verbose".to_owned()));
    }
    let usage = client.disk_usage().await?;
    let text = if arguments.verbose {
        details(&usage, &Zoned::now())
    } else {
        let rows = vec![images(&usage), containers(&usage), volumes(&usage), none("Build Cache")];
        Listing { columns: COLUMNS, default: DEFAULT, rows }.render(&format)?
    };
    print(&text)?;
    Ok(0)
}

/// Layers that images share count once in the whole, and are reclaimable only with the last of them.
fn images(usage: &DiskUsage) -> Vec<String> {
    let used = usage.images.iter().filter(|image| image.containers > 0);
    let used_bytes = used.clone().map(ImageSize::unique_bytes).sum();
    let reclaimable_bytes = usage.layers_size.saturating_sub(used_bytes);
    row("Images", usage.images.len(), used.count(), usage.layers_size, reclaimable_bytes)
}

fn containers(usage: &DiskUsage) -> Vec<String> {
    let is_active =
        |container: &&ContainerSize| ["running", "paused", "restarting"].contains(&container.state.as_str());
    let total_bytes: u64 = usage.containers.iter().map(|container| container.size_rw).sum();
    let active_bytes: u64 =
        usage.containers.iter().filter(is_active).map(|container| container.size_rw).sum();
    let active = usage.containers.iter().filter(is_active).count();
    row("Containers", usage.containers.len(), active, total_bytes, total_bytes - active_bytes)
}

/// Those that no container has are reclaimable.
fn volumes(usage: &DiskUsage) -> Vec<String> {
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let used = volumes.iter().filter(|volume| volume.holders() > 0);
    let total_bytes: u64 = volumes.iter().map(VolumeSize::bytes).sum();
    let used_bytes: u64 = used.clone().map(VolumeSize::bytes).sum();
    row("Local Volumes", volumes.len(), used.count(), total_bytes, total_bytes - used_bytes)
}

fn none(kind: &str) -> Vec<String> {
    row(kind, 0, 0, 0, 0)
}

fn row(kind: &str, total: usize, active: usize, size_bytes: u64, reclaimable_bytes: u64) -> Vec<String> {
    let percent = reclaimable_bytes.saturating_mul(100).checked_div(size_bytes);
    let percent = percent.map(|percent| format!(" ({percent}%)")).unwrap_or_default();
    let reclaimable = format!("{}{percent}", decimal_size(reclaimable_bytes));
    vec![kind.to_owned(), total.to_string(), active.to_string(), decimal_size(size_bytes), reclaimable]
}

fn details(usage: &DiskUsage, now: &Zoned) -> String {
    let images = image_rows(usage, now);
    let containers = container_rows(usage, now);
    let volumes = volume_rows(usage);
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nOn the host's disk: images {}, containers {}\n",
        align(&images),
        align(&containers),
        align(&volumes),
        decimal_size(usage.berth.images_allocated_bytes),
        decimal_size(usage.berth.containers_written_bytes),
    )
}

fn image_rows(usage: &DiskUsage, now: &Zoned) -> Vec<Vec<String>> {
    let header = [
        "REPOSITORY",
        "TAG",
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "SHARED SIZE",
        "UNIQUE SIZE",
        "ON DISK",
        "CONTAINERS",
    ];
    let rows = usage.images.iter().map(|image| {
        let names = image.repo_tags.as_deref().unwrap_or_default();
        let name = names.first().map_or("<none>:<none>", String::as_str);
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
        let on_disk = usage.berth.images.get(&image.id).map_or(0, |host| host.allocated_bytes);
        vec![
            repository.to_owned(),
            tag.to_owned(),
            short_id(&image.id).to_owned(),
            ago(image.created, now),
            decimal_size(image.size),
            decimal_size(image.shared_bytes()),
            decimal_size(image.unique_bytes()),
            decimal_size(on_disk),
            image.containers.max(0).to_string(),
        ]
    });
    std::iter::once(header.map(str::to_owned).to_vec()).chain(rows).collect()
}

fn container_rows(usage: &DiskUsage, now: &Zoned) -> Vec<Vec<String>> {
    let header = ["CONTAINER ID", "IMAGE", "COMMAND", "SIZE", "CREATED", "STATUS", "NAMES"];
    let rows = usage.containers.iter().map(|container| {
        let names = container.names.iter().map(|name| name.trim_start_matches('/'));
        vec![
            short_id(&container.id).to_owned(),
            container.image.clone(),
            format!("\"{}\"", ellipsis(&container.command, COMMAND_LENGTH)),
            decimal_size(container.size_rw),
            ago(container.created, now),
            container.status.clone(),
            names.collect::<Vec<_>>().join(","),
        ]
    });
    std::iter::once(header.map(str::to_owned).to_vec()).chain(rows).collect()
}

fn volume_rows(usage: &DiskUsage) -> Vec<Vec<String>> {
    let header = ["VOLUME NAME", "LINKS", "SIZE"];
    let rows =
        usage.volumes.iter().flatten().map(|volume| {
            vec![volume.name.clone(), volume.holders().to_string(), decimal_size(volume.bytes())]
        });
    std::iter::once(header.map(str::to_owned).to_vec()).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_or_shared_with_it_is_not_reclaimable() {
        let usage: DiskUsage = serde_json::from_str(
            r#"{"LayersSize": 1000, "Images": [
                {"Id": "a", "Size": 700, "SharedSize": 200, "Containers": 1},
                {"Id": "b", "Size": 500, "SharedSize": 200, "Containers": 0}],
               "Volumes": [{"Name": "a", "UsageData": {"Size": 40, "RefCount": 2}},
                {"Name": "b", "UsageData": {"Size": 60, "RefCount": 0}}, {"Name": "c"}],
               "Containers": [{"SizeRw": 30, "State": "running"}, {"SizeRw": 70, "State": "exited"}]}"#,
        )
        .unwrap();
        assert_eq!(images(&usage), ["Images", "2", "1", "1kB", "500B (50%)"]);
        assert_eq!(containers(&usage), ["Containers", "2", "1", "100B", "70B (70%)"]);
        assert_eq!(volumes(&usage), ["Local Volumes", "3", "1", "100B", "60B (60%)"]);
        assert_eq!(none("Build Cache"), ["Build Cache", "0", "0", "0B", "0B"]);
    }
}
