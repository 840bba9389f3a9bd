//! `berth images`: list images.

use clap::Args;
use jiff::Zoned;

use super::filters;
use crate::client::{Client, ImageSummary};
use crate::format::{Column, Format, Listing};
use crate::moment::{ago, created_at};
use crate::outcome::Outcome;
use crate::output::print;
use crate::quantity::decimal_size;
use crate::reference::short_id;

const COLUMNS: &[Column] = &[
    Column { field: "Repository", header: "REPOSITORY" },
    Column { field: "Tag", header: "TAG" },
    Column { field: "Digest", header: "DIGEST" },
    Column { field: "ID", header: "IMAGE ID" },
    Column { field: "CreatedSince", header: "CREATED" },
    Column { field: "CreatedAt", header: "CREATED AT" },
    Column { field: "Size", header: "SIZE" },
];
const DEFAULT: &[&str] = &["Repository", "Tag", "ID", "CreatedSince", "Size"];
const WITH_DIGESTS: &[&str] = &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"];
const NONE: &str = "<none>";

/// List images
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth images
  berth images busybox                                    Only those of one name
  berth images --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
pub(crate) struct Arguments {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    let mut filters = arguments.filter.clone();
    filters.extend(arguments.reference.iter().map(|reference| format!("reference={reference}")));
    let images = client.list_images(arguments.all, filters::encode(&filters)?.as_deref()).await?;
    if arguments.quiet {
        let ids = images.iter().map(|image| format!("{}\n", id(image, arguments.no_trunc)));
        print(&ids.collect::<String>())?;
        return Ok(0);
    }
    let now = Zoned::now();
    let rows = images.iter().flat_map(|image| rows(image, arguments.no_trunc, &now)).collect();
    let default = if arguments.digests { WITH_DIGESTS } else { DEFAULT };
    print(&Listing { columns: COLUMNS, default, rows }.render(&format)?)?;
    Ok(0)
}

fn id(image: &ImageSummary, no_trunc: bool) -> &str {
    if no_trunc { &image.id } else { short_id(&image.id) }
}

/// One row for each name of the image, in the order of [`COLUMNS`].
fn rows(image: &ImageSummary, no_trunc: bool, now: &Zoned) -> Vec<Vec<String>> {
    let names = names(image);
    let row = |(repository, tag, digest): (String, String, String)| {
        vec![
            repository,
            tag,
            digest,
            id(image, no_trunc).to_owned(),
            ago(image.created, now),
            created_at(image.created, now),
            decimal_size(image.size),
        ]
    };
    names.into_iter().map(row).collect()
}

/// (repository, tag, digest) of each name; an image without names has one that says so.
fn names(image: &ImageSummary) -> Vec<(String, String, String)> {
    let digests = image.repo_digests.as_deref().unwrap_or_default();
    let digest_of = |repository: &str| {
        let digests = digests.iter().filter_map(|digest| digest.split_once('@'));
        let found = digests.into_iter().find(|(name, _)| *name == repository);
        found.map_or(NONE, |(_, digest)| digest).to_owned()
    };
    let tags = image.repo_tags.as_deref().unwrap_or_default().iter().filter(|tag| *tag != "<none>:<none>");
    let mut names: Vec<_> = tags
        .map(|name| name.rsplit_once(':').unwrap_or((name, NONE)))
        .map(|(repository, tag)| (repository.to_owned(), tag.to_owned(), digest_of(repository)))
        .collect();
    if names.is_empty() {
        let repository = digests.iter().filter_map(|digest| digest.split_once('@')).next();
        let (repository, digest) = repository.unwrap_or((NONE, NONE));
        names.push((repository.to_owned(), NONE.to_owned(), digest.to_owned()));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> ImageSummary {
        let list = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
        ImageSummary { repo_tags: list(tags), repo_digests: list(digests), ..ImageSummary::default() }
    }

    #[test]
    fn an_image_has_a_row_for_each_name() {
        let names = names(&image(&["localhost:5000/a:1", "b:latest"], &["b@sha256:00"]));
        let name = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(names, [name("localhost:5000/a", "1", "<none>"), name("b", "latest", "sha256:00")]);
    }

    #[test]
    fn an_image_without_names_has_a_row_that_says_so() {
        assert_eq!(names(&image(&["<none>:<none>"], &[]))[0].0, "<none>");
        assert_eq!(names(&image(&[], &["c@sha256:11"]))[0].0, "c");
        assert_eq!(names(&ImageSummary::default()).len(), 1);
    }
}
