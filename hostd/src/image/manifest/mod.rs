//! Manifests and indexes (OCI image-spec 1.1, manifest.md and image-index.md; Docker's manifest v2, schema 2): a typed,
//! bounded view of documents that registries and archives send.
//!
//! The bytes themselves are kept as they came, because their digest is their name; this is read from them each time.
//! Nothing is fetched, verified against a digest or stored here.

mod descriptor;
mod document;
mod media_type;
mod platform;

pub use descriptor::Descriptor;
pub use document::{Document, Index, Manifest, ManifestError, RawDocument};
pub use media_type::{Class, Dialect, MediaType};
pub use platform::{InvalidPlatform, Platform};

/// Manifests, indexes and configurations beyond this are refused before they are read into memory.
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// Docker's own bound is 127; ours leaves room and keeps a disk's extents few.
pub const MAX_LAYERS: usize = 512;
/// Of one index. A real one has a few dozen: platforms, and an attestation for each.
pub const MAX_INDEX_ENTRIES: usize = 1024;
