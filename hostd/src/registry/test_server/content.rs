//! What the test registry holds, and its honest answers.

use std::collections::{BTreeMap, HashMap};

use axum::body::Body;
use bytes::Bytes;
use hyper::{Method, Response, StatusCode};

use super::{Seen, error_body, response};
use crate::image::Digest;

const TAGS_PER_PAGE: usize = 2;

#[derive(Default)]
pub(super) struct Content {
    blobs: HashMap<(String, Digest), Bytes>,
    manifests: HashMap<(String, Digest), (String, Bytes)>,
    tags: BTreeMap<(String, String), Digest>,
    uploads: HashMap<String, Vec<u8>>,
    uploads_begun: u32,
    /// Scheme and host of the registry.
    base: String,
    pub(super) one_piece_only: bool,
}

impl Content {
    /// Nothing yet, at this scheme and host.
    pub(super) fn at(base: &str) -> Self {
        Self { base: base.to_owned(), ..Self::default() }
    }

    pub(super) fn add_blob(&mut self, path: &str, content: Bytes) -> Digest {
        let digest = Digest::of(&content);
        self.blobs.insert((path.to_owned(), digest), content);
        digest
    }

    pub(super) fn add_manifest(&mut self, path: &str, tag: &str, media_type: &str, content: Bytes) -> Digest {
        let digest = Digest::of(&content);
        self.manifests.insert((path.to_owned(), digest), (media_type.to_owned(), content));
        if tag.parse::<Digest>().is_err() {
            self.tags.insert((path.to_owned(), tag.to_owned()), digest);
        }
        digest
    }

    pub(super) fn blob(&self, path: &str, digest: &Digest) -> Option<Bytes> {
        self.blobs.get(&(path.to_owned(), *digest)).cloned()
    }

    pub(super) fn manifest(&self, path: &str, reference: &str) -> Option<(String, Bytes)> {
        let tagged = || self.tags.get(&(path.to_owned(), reference.to_owned())).copied();
        let digest = reference.parse().ok().or_else(tagged)?;
        self.manifests.get(&(path.to_owned(), digest)).cloned()
    }

    /// The upload that a request is about.
    pub(super) fn upload_of(&self, seen: &Seen) -> Option<String> {
        let path = seen.path.split('?').next().unwrap_or_default();
        let id = path.split_once("/blobs/uploads/")?.1;
        self.uploads.contains_key(id).then(|| id.to_owned())
    }

    pub(super) fn append(&mut self, upload: &str, bytes: &[u8]) {
        self.uploads.get_mut(upload).unwrap().extend_from_slice(bytes);
    }

    pub(super) fn answer(&mut self, seen: &Seen, body: &[u8]) -> Response<Body> {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let Some(path) = path.strip_prefix("/v2/") else { return not_found("UNSUPPORTED") };
        if path.is_empty() {
            return response(StatusCode::OK, &[("docker-distribution-api-version", "registry/2.0")], "{}");
        }
        if let Some((path, id)) = path.split_once("/blobs/uploads/") {
            return self.upload(seen, path, id, &query, body);
        }
        if let Some((path, digest)) = path.split_once("/blobs/") {
            return self.get_blob(seen, path, digest);
        }
        if let Some((path, reference)) = path.split_once("/manifests/") {
            return self.exchange_manifest(seen, path, reference, body);
        }
        match path.strip_suffix("/tags/list") {
            Some(path) => self.list_tags(path, query.get("last").copied()),
            None => not_found("UNSUPPORTED"),
        }
    }

    fn get_blob(&self, seen: &Seen, path: &str, digest: &str) -> Response<Body> {
        let Some(blob) = digest.parse().ok().and_then(|digest| self.blob(path, &digest)) else {
            return not_found("BLOB_UNKNOWN");
        };
        let range = seen.headers.get("range").and_then(|range| range.to_str().ok());
        let first =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let (size, last) = (blob.len(), blob.len().saturating_sub(1));
        match first {
            None => response(StatusCode::OK, &[("content-length", size.to_string())], blob),
            Some(first) if first >= size => {
                response(StatusCode::RANGE_NOT_SATISFIABLE, &[] as &[(_, &str)], "")
            }
            Some(first) => {
                let range = format!("bytes {first}-{last}/{size}");
                response(StatusCode::PARTIAL_CONTENT, &[("content-range", range)], blob.slice(first..))
            }
        }
    }

    fn exchange_manifest(&mut self, seen: &Seen, path: &str, reference: &str, body: &[u8]) -> Response<Body> {
        if seen.method == Method::PUT {
            let media_type = seen.headers["content-type"].to_str().unwrap().to_owned();
            let digest = self.add_manifest(path, reference, &media_type, body.to_vec().into());
            return response(StatusCode::CREATED, &[("docker-content-digest", digest.to_string())], "");
        }
        match self.manifest(path, reference) {
            None => not_found("MANIFEST_UNKNOWN"),
            Some((media_type, content)) => {
                let digest = Digest::of(&content).to_string();
                let length = content.len().to_string();
                let headers = [
                    ("content-type", media_type),
                    ("docker-content-digest", digest),
                    ("content-length", length),
                ];
                response(StatusCode::OK, &headers, content)
            }
        }
    }

    fn list_tags(&self, path: &str, last: Option<&str>) -> Response<Body> {
        let all = self.tags.keys().filter(|(of, tag)| of == path && Some(tag.as_str()) > last);
        let tags: Vec<_> = all.map(|(_, tag)| tag.as_str()).collect();
        let page = &tags[..tags.len().min(TAGS_PER_PAGE)];
        let body = serde_json::json!({"name": path, "tags": page}).to_string();
        match page.last() {
            Some(last) if page.len() < tags.len() => {
                let link = format!("</v2/{path}/tags/list?last={last}&n={TAGS_PER_PAGE}>; rel=\"next\"");
                response(StatusCode::OK, &[("link", link)], body)
            }
            _ => response(StatusCode::OK, &[] as &[(_, &str)], body),
        }
    }

    fn upload(
        &mut self,
        seen: &Seen,
        path: &str,
        id: &str,
        query: &HashMap<&str, &str>,
        body: &[u8],
    ) -> Response<Body> {
        if seen.method == Method::POST {
            return self.begin_upload(path, query);
        }
        let Some(has) = self.uploads.get(id).map(Vec::len) else { return not_found("BLOB_UPLOAD_UNKNOWN") };
        let range = seen.headers.get("content-range").map(|range| range.to_str().unwrap());
        let begins = range.map(|range| range.split_once('-').unwrap().0.parse::<usize>().unwrap());
        if seen.method == Method::PATCH && (begins.is_some_and(|begin| begin != has)) {
            return response(StatusCode::RANGE_NOT_SATISFIABLE, &[] as &[(_, &str)], "");
        }
        if seen.method == Method::PATCH && self.one_piece_only && has > 0 {
            return response(StatusCode::METHOD_NOT_ALLOWED, &[] as &[(_, &str)], "");
        }
        if matches!(seen.method, Method::PATCH | Method::PUT) {
            let announced = seen.headers.get("content-length").and_then(|length| length.to_str().ok());
            assert_eq!(announced, Some(body.len().to_string().as_str()), "pieces announce their length");
            self.append(id, body);
        }
        if seen.method == Method::PUT {
            return self.finish_upload(path, id, query);
        }
        let last = self.uploads[id].len().saturating_sub(1);
        // An absolute location where the first one was relative.
        let location = format!("{}/v2/{path}/blobs/uploads/{id}?_state=after%3D{last}", self.base);
        let status = if seen.method == Method::GET { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED };
        response(status, &[("location", location), ("range", format!("0-{last}"))], "")
    }

    fn begin_upload(&mut self, path: &str, query: &HashMap<&str, &str>) -> Response<Body> {
        if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from")) {
            let digest = digest.replace("%3A", ":").parse().unwrap();
            if let Some(blob) = self.blob(&from.replace("%2F", "/"), &digest) {
                self.add_blob(path, blob);
                return response(StatusCode::CREATED, &[("docker-content-digest", digest.to_string())], "");
            }
        }
        self.uploads_begun += 1;
        let id = format!("upload-{}", self.uploads_begun);
        self.uploads.insert(id.clone(), Vec::new());
        response(
            StatusCode::ACCEPTED,
            &[("location", format!("/v2/{path}/blobs/uploads/{id}?_state=begun"))],
            "",
        )
    }

    fn finish_upload(&mut self, path: &str, id: &str, query: &HashMap<&str, &str>) -> Response<Body> {
        let content = Bytes::from(self.uploads.remove(id).unwrap());
        let digest = Digest::of(&content);
        if query.get("digest").map(|text| text.replace("%3A", ":")) != Some(digest.to_string()) {
            return response(
                StatusCode::BAD_REQUEST,
                &[] as &[(_, &str)],
                error_body("DIGEST_INVALID", "provided digest did not match uploaded content"),
            );
        }
        self.add_blob(path, content);
        response(StatusCode::CREATED, &[("docker-content-digest", digest.to_string())], "")
    }
}

fn not_found(code: &str) -> Response<Body> {
    let message = code.to_lowercase().replace('_', " ");
    response(StatusCode::NOT_FOUND, &[("content-type", "application/json")], error_body(code, &message))
}
