//! A layer of an image: a tar archive whose bytes depend on nothing but what is put in.

use anyhow::Context;
use tar::{Builder, EntryType, Header};

/// Everything is owned by root and as old as the images say they are.
pub(super) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(super) fn directory(&mut self, path: &str, permissions: u32) -> anyhow::Result<()> {
        let mut header = header(EntryType::Directory, permissions);
        self.0.append_data(&mut header, format!("{path}/"), [].as_slice()).with_context(|| refused(path))
    }

    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> anyhow::Result<()> {
        let mut header = header(EntryType::Regular, permissions);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content).with_context(|| refused(path))
    }

    /// Another name for a file that is in the layer already.
    pub(super) fn hard_link(&mut self, path: &str, target: &str) -> anyhow::Result<()> {
        let mut header = header(EntryType::Link, 0o755);
        self.0.append_link(&mut header, path, target).with_context(|| refused(path))
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) -> anyhow::Result<()> {
        let mut header = header(EntryType::Symlink, 0o777);
        self.0.append_link(&mut header, path, target).with_context(|| refused(path))
    }

    pub(super) fn finish(self) -> anyhow::Result<Vec<u8>> {
        self.0.into_inner().context("cannot finish a layer")
    }
}

fn header(kind: EntryType, permissions: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(permissions);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(super::archive::CREATED_UNIX_S);
    header.set_size(0);
    header
}

fn refused(path: &str) -> String {
    format!("cannot put {path} into a layer")
}
