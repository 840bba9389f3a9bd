//! Importing: a file system's archive becomes an image of one layer.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::load::LoadError;
use super::{ImageStore, StoreError};
use crate::image::archive::{ArchiveError, ArchivedImage, SpooledFile};
use crate::image::compression::decompress;
use crate::image::digest::{Digest, HashingReader};
use crate::image::manifest::Platform;
use crate::image::record::{ImageConfig, ImageId};
use crate::image::reference::Reference;
use crate::image::tar_stream::TarError;

/// Deflate cannot do better than this; an archive that is better compressed only pretends to be one.
const MAX_RATIO: u64 = 1100;
/// What any archive may have, however small it came.
const ALWAYS_ALLOWED_BYTES: u64 = 1 << 30;

/// What an imported image says of itself.
#[derive(Clone, Debug)]
pub struct ImportSpec {
    pub name: Option<Reference>,
    pub config: ImageConfig,
    pub platform: Platform,
    /// Kept in the history.
    pub message: String,
}

impl ImageStore {
    /// Makes an image of one layer, whose archive (compressed or not) is given.
    ///
    /// # Errors
    /// It is no archive, or a hostile one; or the store fails. The store is then as it was.
    pub fn import(&self, archive: impl Read, spec: &ImportSpec) -> Result<ImageId, LoadError> {
        let failed =
            |source| StoreError::File { step: "using", path: self.shared.files.root().to_owned(), source };
        let staging = self.shared.files.staging_directory().map_err(failed)?;
        let directory = staging.path().join("spool");
        fs::create_dir(&directory).map_err(failed)?;
        let blob = spool(archive, &directory.join("layer"))?;
        let diff_id = plain_digest(&blob)?;
        let config = configuration(spec, &diff_id, Timestamp::now()).to_string().into_bytes();
        let id = Digest::of(&config);
        let names = spec.name.iter().cloned().collect();
        let image = ArchivedImage { config, id, names, documents: Vec::new(), layers: vec![blob] };
        self.load_images(vec![image], staging.path(), &mut |_| {})?;
        Ok(ImageId(id))
    }
}

/// Keeps what arrives as it is.
fn spool(archive: impl Read, path: &Path) -> Result<SpooledFile, ArchiveError> {
    let failed = |source| ArchiveError::Spool { path: path.to_owned(), source };
    let mut source = HashingReader::new(archive);
    let mut file = BufWriter::with_capacity(256 << 10, File::create_new(path).map_err(failed)?);
    let mut buffer = vec![0; 64 << 10];
    let mut size_bytes = 0;
    loop {
        // Whose fault an error is depends on which side failed.
        match source.read(&mut buffer).map_err(TarError::Read)? {
            0 => break,
            count => {
                file.write_all(&buffer[..count]).map_err(failed)?;
                size_bytes += count as u64;
            }
        }
    }
    file.flush().map_err(failed)?;
    let (digest, _) = source.finish().map_err(TarError::Read)?;
    Ok(SpooledFile { path: path.to_owned(), digest, size_bytes })
}

/// The digest of the archive without its compression.
fn plain_digest(blob: &SpooledFile) -> Result<Digest, ArchiveError> {
    let failed = |source| ArchiveError::Spool { path: blob.path.clone(), source };
    let file = File::open(&blob.path).map_err(failed)?;
    let most_bytes = blob.size_bytes.saturating_mul(MAX_RATIO).max(ALWAYS_ALLOWED_BYTES);
    let plain = decompress(file).map_err(TarError::Read)?;
    let (digest, plain_bytes) =
        HashingReader::new(plain.take(most_bytes + 1)).finish().map_err(TarError::Read)?;
    if plain_bytes > most_bytes {
        let problem = format!("it unpacks to more than {MAX_RATIO} times its size");
        return Err(ArchiveError::Contents(problem));
    }
    Ok(digest)
}

fn configuration(spec: &ImportSpec, diff_id: &Digest, now: Timestamp) -> Value {
    let mut configuration = json!({
        "architecture": spec.platform.architecture,
        "os": spec.platform.os,
        "config": spec.config.document(),
        "created": now.to_string(),
        "history": [{ "created": now.to_string(), "comment": spec.message }],
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    if !spec.platform.variant.is_empty() {
        configuration["variant"] = json!(spec.platform.variant);
    }
    configuration
}
