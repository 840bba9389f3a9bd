//! Writes cpio archives in the "newc" form that Linux unpacks as its initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source).
//!
//! Only what an initramfs of one program needs: directories, regular files and character devices, owned by
//! root, without dates, so that the same input gives the same bytes.

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
/// Names and contents start at multiples of this.
const ALIGNMENT_BYTES: usize = 4;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that grows in memory.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// What the header of an entry says beside its name.
#[derive(Default)]
struct Header {
    mode: u32,
    links: u32,
    size_bytes: u32,
    device: (u32, u32),
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn directory(&mut self, path: &str, permissions: u32) {
        self.header(path, &Header { mode: DIRECTORY | permissions, links: 2, ..Header::default() });
    }

    /// # Panics
    /// For content of 4 GiB or more, which the format cannot hold.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        let size_bytes = u32::try_from(content.len()).expect("an initramfs holds small files");
        let header = Header { mode: REGULAR | permissions, links: 1, size_bytes, ..Header::default() };
        self.header(path, &header);
        self.bytes.extend_from_slice(content);
        self.align();
    }

    /// A character device with its major and minor number.
    pub(crate) fn character_device(&mut self, path: &str, permissions: u32, device: (u32, u32)) {
        let header = Header { mode: CHARACTER_DEVICE | permissions, links: 1, device, ..Header::default() };
        self.header(path, &header);
    }

    /// The complete archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.header(TRAILER, &Header { links: 1, ..Header::default() });
        self.bytes
    }

    fn header(&mut self, name: &str, header: &Header) {
        // The kernel joins hard links by inode number: each entry has its own, the trailer 0.
        let inode = if name == TRAILER { 0 } else { self.entries + 1 };
        self.entries += 1;
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        let (major, minor) = header.device;
        let fields = [
            inode,
            header.mode,
            0, // owner
            0, // group
            header.links,
            0, // time of modification
            header.size_bytes,
            0, // device the file is on: major
            0, // and minor
            major,
            minor,
            name_size,
            0, // checksum, unused in this form
        ];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT_BYTES), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: name, mode, content.
    fn entries(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            assert_eq!(&bytes[..6], MAGIC.as_bytes());
            let field = |index: usize| {
                let digits = std::str::from_utf8(&bytes[6 + 8 * index..14 + 8 * index]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let content_at = (110 + name_size).next_multiple_of(4);
            let content = bytes[content_at..content_at + size].to_vec();
            if name == TRAILER {
                assert_eq!(bytes.len(), content_at);
                return found;
            }
            bytes = &bytes[(content_at + size).next_multiple_of(4)..];
            found.push((name, mode, content));
        }
    }

    #[test]
    fn entries_come_back_as_they_were_put_in() {
        let mut archive = Archive::new();
        archive.directory("dev", 0o755);
        archive.character_device("dev/console", 0o600, (5, 1));
        archive.file("init", 0o755, b"hello");
        let found = entries(&archive.finish());
        let expected = [
            ("dev".to_owned(), 0o040_755, Vec::new()),
            ("dev/console".to_owned(), 0o020_600, Vec::new()),
            ("init".to_owned(), 0o100_755, b"hello".to_vec()),
        ];
        assert_eq!(found, expected);
    }
}
