//! Layers that are what they should be, and layers, sources and disks that are not.

use std::io::Write;
use std::sync::Mutex;

use super::super::{LayerIndex, files};
use super::*;

fn archive(size: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    // Hardly compressible, so that several chunks are under way.
    let content: Vec<u8> =
        (0..size as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    builder.append_data(&mut header, "file", &content[..]).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a layer is said to be.
#[derive(Clone, Copy)]
struct Claim {
    digest: Digest,
    size_bytes: u64,
    diff_id: Digest,
}

impl Claim {
    fn of(blob: &[u8], plain: &[u8]) -> Self {
        Self { digest: Digest::of(blob), size_bytes: blob.len() as u64, diff_id: Digest::of(plain) }
    }

    fn take(self, source: impl Read + Send) -> Result<(TakenIn, Vec<u8>, Vec<IntakeProgress>), LayerError> {
        let root = tempfile::tempdir().unwrap();
        let (path, directory) = (root.path().join("blob"), root.path().join("layer"));
        std::fs::create_dir(&directory).unwrap();
        let (digest, size_bytes) = (self.digest, self.size_bytes);
        let blob = Some(Blob { digest, size_bytes, path: &path });
        let intake = Intake { blob, diff_id: self.diff_id, directory: &directory };
        let reports = Mutex::new(Vec::new());
        let taken = intake.run(source, &|report| reports.lock().unwrap().push(report))?;
        LayerIndex::read(&mut File::open(directory.join(files::INDEX)).unwrap()).unwrap();
        Ok((taken, std::fs::read(&path).unwrap(), reports.into_inner().unwrap()))
    }

    fn refused(self, source: impl Read + Send) -> LayerError {
        self.take(source).expect_err("it is not what it should be")
    }
}

#[test]
fn a_blob_that_is_what_it_should_be_is_taken_in() {
    let plain = archive(3_000_000);
    for blob in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap(), plain.clone()] {
        let (taken, kept, reports) = Claim::of(&blob, &plain).take(&blob[..]).unwrap();
        assert_eq!(taken.content_bytes, 3_000_000);
        assert_eq!(kept, blob);
        let size = blob.len() as u64;
        let last = IntakeProgress::Plain { bytes: plain.len() as u64, blob_bytes: size };
        assert!(reports.contains(&IntakeProgress::Blob { bytes: size }), "{reports:?}");
        assert!(reports.contains(&last), "{reports:?}");
    }
}

#[test]
fn an_empty_layer_is_one() {
    let (taken, ..) = Claim::of(&gzip(&[0; 1024]), &[0; 1024]).take(&gzip(&[0; 1024])[..]).unwrap();
    assert_eq!(taken.content_bytes, 0);
}

#[test]
fn a_blob_that_is_not_says_what_it_is() {
    let plain = archive(100_000);
    let blob = gzip(&plain);
    let truth = Claim::of(&blob, &plain);
    let other = Digest::of(b"other");
    let error = Claim { digest: other, ..truth }.refused(&blob[..]);
    assert!(matches!(error, LayerError::BlobDigest { actual } if actual == truth.digest), "{error}");
    let size_bytes = truth.size_bytes + 1;
    let error = Claim { size_bytes, ..truth }.refused(&blob[..]);
    assert!(matches!(error, LayerError::BlobSize { actual, .. } if actual == truth.size_bytes), "{error}");
    let error = Claim { size_bytes: truth.size_bytes - 1, ..truth }.refused(&blob[..]);
    assert!(matches!(error, LayerError::BlobTooLong { .. }), "{error}");
    let error = Claim { diff_id: other, ..truth }.refused(&blob[..]);
    assert!(matches!(error, LayerError::DiffId { actual } if actual == truth.diff_id), "{error}");
}

/// Damage shows as a wrong digest, wherever the decompressor or the archive's reader stumble first.
#[test]
fn a_damaged_blob_is_told_from_a_malformed_one() {
    let plain = archive(2_000_000);
    for blob in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap(), plain.clone()] {
        let mut damaged = blob.clone();
        damaged[300] ^= 0xff;
        let error = Claim::of(&blob, &plain).refused(&damaged[..]);
        assert!(matches!(error, LayerError::BlobDigest { .. }), "{error}");
    }
    let malformed = b"no archive at all".repeat(100);
    let error = Claim::of(&malformed, &malformed).refused(&malformed[..]);
    assert!(matches!(error, LayerError::Archive(TarError::Malformed(_))), "{error}");
    let cut = &gzip(&plain)[..10_000];
    assert!(matches!(Claim::of(cut, &plain).refused(cut), LayerError::Compression(_)));
}

#[test]
fn a_source_that_breaks_off_is_to_blame_itself() {
    struct Breaking(usize);
    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::ConnectionReset)?;
            buffer[0] = 0x1f;
            Ok(1)
        }
    }
    for reads in [0, 1, 300_000] {
        let error = Claim { size_bytes: 1 << 20, ..Claim::of(b"", b"") }.refused(Breaking(reads));
        assert!(matches!(error, LayerError::Source(_)), "{error}");
        assert!(!error.is_layers_fault());
    }
}

#[test]
fn other_compression_is_refused_by_name() {
    let blob = b"\xfd7zXZ\0 and so on";
    let error = Claim::of(blob, blob).refused(&blob[..]);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "it is compressed with xz; only gzip and zstd are supported");
}
