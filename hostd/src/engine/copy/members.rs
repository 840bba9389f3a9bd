//! What an archive's members are to the agent. The archive is read here, by the reader that images go through, and never
//! in a machine: one reader of hostile archives is enough to keep in order.

use std::io::{self, Read};

use berth_protocol::agent::write_piece::Piece;
use berth_protocol::agent::{FileAttribute, FileContent, FileKind, FileMember};
use tokio::sync::mpsc;

use crate::image::compression::decompress;
use crate::image::tar_stream::{Member, MemberKind, TarError, TarStream, lossy};

const PIECE_BYTES: u64 = 256 << 10;
/// Of what follows an archive's end, which tar fills up to whole records.
const MAX_TRAILING_BYTES: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum UnreadableArchive {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("reading the archive")]
    Read(#[from] io::Error),
    #[error("\"{path}\" is outside of the directory")]
    Outside { path: String },
    #[error("invalid hardlink \"{path}\" -> \"{target}\"")]
    LinkOutside { path: String, target: String },
    #[error("its reader failed")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Sends an archive as pieces, without the end. Whoever receives no more has a reason of its own, so that is no error.
pub(super) fn send(archive: impl Read, pieces: &mpsc::Sender<Piece>) -> Result<(), UnreadableArchive> {
    let mut members = TarStream::new(decompress(archive)?);
    while let Some(member) = members.next_member()? {
        let segments = match &member.kind {
            MemberKind::File { segments, .. } => segments.clone(),
            _ => Vec::new(),
        };
        if pieces.blocking_send(Piece::Member(message(member)?)).is_err() {
            return Ok(());
        }
        for segment in segments {
            let (mut offset, end) = (segment.offset_bytes, segment.offset_bytes + segment.length_bytes);
            while offset < end {
                let mut bytes = Vec::new();
                let wanted = PIECE_BYTES.min(end - offset);
                members.by_ref().take(wanted).read_to_end(&mut bytes)?;
                let next = offset + bytes.len() as u64;
                if pieces.blocking_send(Piece::Content(FileContent { offset, bytes })).is_err() {
                    return Ok(());
                }
                offset = next;
            }
        }
    }
    // A client that still writes when the answer comes would take it for a failure.
    io::copy(&mut members.into_source().take(MAX_TRAILING_BYTES), &mut io::sink())?;
    Ok(())
}

fn message(member: Member) -> Result<FileMember, UnreadableArchive> {
    let path = clean(&member.path).ok_or_else(|| UnreadableArchive::Outside { path: lossy(&member.path) })?;
    let modified = member.modified;
    let attribute = |(name, value)| FileAttribute { name, value };
    let mut message = FileMember {
        path,
        mode: member.mode.into(),
        user_id: member.uid,
        group_id: member.gid,
        modified_unix_s: modified.seconds,
        modified_ns: modified.nanoseconds,
        attributes: member.xattrs.into_iter().map(attribute).collect(),
        ..FileMember::default()
    };
    let kind = match member.kind {
        MemberKind::File { size_bytes, .. } => {
            message.size_bytes = size_bytes;
            FileKind::RegularFile
        }
        MemberKind::Directory => FileKind::Directory,
        MemberKind::Symlink { target } => {
            message.target = target;
            FileKind::SymbolicLink
        }
        MemberKind::HardLink { target } => {
            let outside =
                || UnreadableArchive::LinkOutside { path: lossy(&member.path), target: lossy(&target) };
            message.target = clean(&target).ok_or_else(outside)?;
            FileKind::HardLink
        }
        MemberKind::CharacterDevice { major, minor } => {
            (message.device_major, message.device_minor) = (major, minor);
            FileKind::CharacterSpecial
        }
        MemberKind::BlockDevice { major, minor } => {
            (message.device_major, message.device_minor) = (major, minor);
            FileKind::BlockSpecial
        }
        MemberKind::Fifo => FileKind::Fifo,
    };
    message.kind = kind.into();
    Ok(message)
}

/// A name without "." and "..", as Docker takes it: an absolute one begins at the directory, and has nothing above it.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let is_absolute = path.starts_with(b"/");
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.pop().is_some() || is_absolute => {}
            b".." => return None,
            name => names.push(name),
        }
    }
    Some(names.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(archive: Vec<u8>) -> Result<Vec<Piece>, UnreadableArchive> {
        let (sender, mut receiver) = mpsc::channel(1000);
        send(io::Cursor::new(archive), &sender)?;
        drop(sender);
        Ok(std::iter::from_fn(|| receiver.blocking_recv()).collect())
    }

    fn archive(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, word) in members {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4750);
            header.set_uid(7);
            header.set_gid(8);
            header.set_mtime(9);
            let content = if kind.is_file() { word.as_bytes() } else { b"" };
            if !kind.is_file() {
                header.set_link_name_literal(word).unwrap();
            }
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn members_and_their_content_come_in_order_also_compressed() {
        use std::io::Write;
        let plain = archive(&[
            ("./d/../f", tar::EntryType::Regular, "content"),
            ("/l", tar::EntryType::Link, "/f"),
            ("s", tar::EntryType::Symlink, "../out"),
        ]);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        let gzip = encoder.finish().unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for bytes in [plain, gzip, zstd] {
            let found = pieces(bytes).unwrap();
            let [Piece::Member(file), Piece::Content(content), Piece::Member(hard), Piece::Member(link)] =
                found.as_slice()
            else {
                panic!("{found:?}")
            };
            assert_eq!(
                (file.path.as_slice(), file.size_bytes, file.kind()),
                (&b"f"[..], 7, FileKind::RegularFile)
            );
            assert_eq!((file.mode, file.user_id, file.group_id, file.modified_unix_s), (0o4750, 7, 8, 9));
            assert_eq!((content.offset, content.bytes.as_slice()), (0, &b"content"[..]));
            assert_eq!((hard.path.as_slice(), hard.target.as_slice()), (&b"l"[..], &b"f"[..]));
            assert_eq!((link.target.as_slice(), link.kind()), (&b"../out"[..], FileKind::SymbolicLink));
        }
        assert!(pieces(Vec::new()).unwrap().is_empty(), "no archive at all is an empty one, as with Docker");
    }

    #[test]
    fn what_leads_out_is_refused_before_it_is_sent() {
        let regular = tar::EntryType::Regular;
        for path in ["../f", "a/../../f", ".."] {
            let error = pieces(archive(&[(path, regular, "")])).unwrap_err();
            assert_eq!(error.to_string(), format!("\"{path}\" is outside of the directory"));
        }
        let error = pieces(archive(&[("h", tar::EntryType::Link, "../../etc/passwd")])).unwrap_err();
        assert_eq!(error.to_string(), "invalid hardlink \"h\" -> \"../../etc/passwd\"");
        assert!(pieces(b"garbage".repeat(200)).is_err());
        let mut cut = archive(&[("f", regular, "content")]);
        cut.truncate(514);
        assert!(pieces(cut).is_err());
    }

    #[test]
    fn who_receives_no_more_ends_the_reading() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let endless = io::Cursor::new(archive(&[("f", tar::EntryType::Regular, "x")])).chain(io::repeat(1));
        send(endless, &sender).unwrap();
    }
}
