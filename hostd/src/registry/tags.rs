//! The tags of a repository, page after page.

use reqwest::header::LINK;
use reqwest::{Method, Url};
use serde::Deserialize;

use super::client::join;
use super::endpoint::{Answer, Call, Endpoint, Target};
use super::error::RegistryError;
use super::failure::{Failure, shown, text};
use super::repository::{Inner, RemoteRepository};
use super::subject::Object;
use crate::image::Reference;

const TAGS_PER_PAGE: u32 = 1000;
const MAX_PAGE_BYTES: usize = 4 << 20;
const MAX_PAGES: usize = 10_000;
/// More is no repository that anybody pulls all tags of.
const MAX_TAGS: usize = 1_000_000;

#[derive(Deserialize)]
struct Page {
    /// Registries write `null` for none.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl RemoteRepository {
    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let inner = &*self.inner;
        inner.read(Object::Tags, |endpoint| all(inner, endpoint)).await
    }
}

async fn all(inner: &Inner, endpoint: &Endpoint) -> Result<Vec<String>, Failure> {
    let mut tags = Vec::new();
    let mut target = Target::Path(inner.path("tags/list"), Some(format!("n={TAGS_PER_PAGE}")));
    let mut seen: Vec<Url> = Vec::new();
    for _ in 0..MAX_PAGES {
        let ask = || Call::to(Method::GET, target.clone(), &inner.pull);
        let answer = endpoint.ask(MAX_PAGE_BYTES, ask).await?;
        let page: Page = serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::invalid(format!("no list of tags: {error}")))?;
        for tag in page.tags.unwrap_or_default() {
            tags.push(checked(inner, tag)?);
        }
        if tags.len() > MAX_TAGS {
            return Err(Failure::invalid(format!("more than {MAX_TAGS} tags")));
        }
        let Some(next) = next_page(&answer)? else { return Ok(tags) };
        if seen.contains(&next) {
            return Err(Failure::invalid("a list of tags that leads back to itself"));
        }
        seen.push(next.clone());
        target = Target::Url(next);
    }
    Err(Failure::invalid(format!("more than {MAX_PAGES} pages of tags")))
}

/// Tags become names in the store.
fn checked(inner: &Inner, tag: String) -> Result<String, Failure> {
    match Reference::parse(&format!("{}:{tag}", inner.repository.canonical())) {
        Ok(_) => Ok(tag),
        Err(_) => Err(Failure::invalid(format!("{:?} is no tag", shown(&tag)))),
    }
}

/// `Link: </v2/…>; rel="next"` (RFC 8288); it stays at the same place.
fn next_page(answer: &Answer) -> Result<Option<Url>, Failure> {
    let Some(link) = text(&answer.headers, LINK.as_str()) else { return Ok(None) };
    let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let Some((target, parameters)) = target else { return Ok(None) };
    let parameters = parameters.replace(['"', ' '], "").to_ascii_lowercase();
    if !parameters.contains("rel=next") {
        return Ok(None);
    }
    let next = join(&answer.url, target)?;
    match next.origin() == answer.url.origin() {
        true => Ok(Some(next)),
        false => Err(Failure::invalid(format!("a list of tags that goes on at {}", next.authority()))),
    }
}
