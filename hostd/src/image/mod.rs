//! The image store: archives in, verified images kept, a read-only disk for each out.
//!
//! ```text
//! archive  ──▶ spool ──▶ layers (data + index) ──▶ merged tree ──▶ EROFS metadata
//! (stream)               once per layer            once per image
//!                                                  image disk = metadata ∥ layer data ∥ layer data …
//! ```
//!
//! Everything here blocks: asynchronous callers use their runtime's blocking threads. Nothing here knows containers,
//! machines or HTTP; errors say whose fault they are and callers translate.

pub mod manifest;

mod digest;
mod disk;
mod record;
mod reference;
mod store;

mod archive;
mod changes;
pub(crate) mod compression;
mod erofs;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod layer;
mod merge;
pub(crate) mod tar_stream;
#[cfg(test)]
pub(crate) mod test_files;
pub(crate) mod tree;

pub use changes::InvalidChange;
pub use digest::{Digest, InvalidDigest};
pub(crate) use disk::ImageFiles;
pub use disk::{DiskFileError, ImageDisk};
pub(crate) use layer::{Attributes, IntakeProgress};
pub use record::{History, Image, ImageConfig, ImageId};
pub use reference::{InvalidReference, Reference, Repository, Selector};
pub(crate) use store::{
    ArrivalError, ArrivingImage, CommitError, CommitSpec, LayerSource, LayerSpool, Presence,
};

pub use store::{
    CheckReport, Damage, DiskError, ImageStore, ImageUsage, ImageUsers, ImportSpec, LoadError, LoadProgress,
    LoadedImage, OpenError, Part, Pins, Removal, RemoveError, Removed, ResolveError, SaveError, Saving,
    StoreError, StoreUsage, StoredBlob, TagError,
};
