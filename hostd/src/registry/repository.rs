//! One repository at its registry: what can be asked of it. How each thing is asked is in a file of its own.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncRead;

use super::blob::BlobReader;
use super::credentials::Credentials;
use super::error::{RegistryError, RegistryErrorKind};
use crate::image::{Digest, Repository, Selector};

/// A manifest as the registry has it; its digest is verified, its content is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedManifest {
    pub digest: Digest,
    pub media_type: String,
    pub content: Bytes,
}

/// A repository and who asks. Cheap to clone; clones share tokens.
#[derive(Clone, Debug)]
pub struct RemoteRepository {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    repository: Repository,
    credentials: Credentials,
}

impl RemoteRepository {
    pub(super) fn new(repository: Repository, credentials: Credentials) -> Self {
        Self { shared: Arc::new(Shared { repository, credentials }) }
    }

    fn not_yet<T>(&self) -> Result<T, RegistryError> {
        let name = self.shared.repository.familiar();
        let message = format!("{name}: registries are not supported yet ({:?})", self.shared.credentials);
        Err(RegistryError::new(RegistryErrorKind::Unreachable, message))
    }

    /// The manifest or index; at most 4 MiB.
    ///
    /// # Errors
    /// [`RegistryErrorKind::NotFound`] if there is none, [`RegistryErrorKind::Denied`] if that is not for us to know.
    pub async fn manifest(&self, _selector: &Selector) -> Result<FetchedManifest, RegistryError> {
        self.not_yet()
    }

    /// Digest, media type and size in bytes of a manifest, without its content.
    ///
    /// # Errors
    /// Anything but that there is none.
    pub async fn head_manifest(
        &self,
        _selector: &Selector,
    ) -> Result<Option<(Digest, String, u64)>, RegistryError> {
        self.not_yet()
    }

    /// Begins to fetch a blob. Must be called within a runtime.
    #[must_use]
    pub fn blob(&self, _digest: Digest, _size_bytes: u64) -> BlobReader {
        BlobReader::failed(self.not_yet::<()>().expect_err("nothing is supported yet"))
    }

    /// The size in bytes of a blob that the repository has. Asks with the right to push.
    ///
    /// # Errors
    /// Anything but that there is none.
    pub async fn has_blob(&self, _digest: &Digest) -> Result<Option<u64>, RegistryError> {
        self.not_yet()
    }

    /// Makes a blob of another repository of the same registry one of this repository; false if the registry wants it
    /// uploaded instead.
    ///
    /// # Errors
    /// Anything but that the registry does not mount.
    pub async fn mount_blob(&self, _digest: &Digest, _from: &Repository) -> Result<bool, RegistryError> {
        self.not_yet()
    }

    /// Uploads a blob. `open` gives its bytes from an offset on, and may be called again after a break; `progress` hears
    /// how many bytes have been sent, which can go back after a break.
    ///
    /// # Errors
    /// The registry's refusal, or [`RegistryErrorKind::Source`].
    pub async fn upload_blob<R>(
        &self,
        _digest: Digest,
        _size_bytes: u64,
        _open: impl Fn(u64) -> io::Result<R> + Send + Sync,
        _progress: impl Fn(u64) + Send + Sync,
    ) -> Result<(), RegistryError>
    where
        R: AsyncRead + Send + 'static,
    {
        self.not_yet()
    }

    /// Stores a manifest under a tag or its digest; what it refers to must be there.
    ///
    /// # Errors
    /// The registry's refusal.
    pub async fn put_manifest(
        &self,
        _selector: &Selector,
        _media_type: &str,
        _content: Bytes,
    ) -> Result<Digest, RegistryError> {
        self.not_yet()
    }

    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        self.not_yet()
    }
}
