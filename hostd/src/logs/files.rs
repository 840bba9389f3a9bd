//! The files of one log: the one that is written to, and those before it with a number behind their name.
//!
//! Writer and readers share this. Renaming and opening exclude each other, and every file has a number of its own in
//! the order of rotations: so a reader that comes to the end of one knows which is the next.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Rotation;

#[derive(Debug)]
pub(crate) struct LogFiles {
    path: PathBuf,
    rotation: Option<Rotation>,
    /// How many rotations there have been since the daemon started; the number of the file that is written to.
    rotations: Mutex<u64>,
}

impl LogFiles {
    pub(crate) fn new(path: PathBuf, rotation: Option<Rotation>) -> Self {
        Self { path, rotation, rotations: Mutex::new(0) }
    }

    pub(super) fn rotation(&self) -> Option<Rotation> {
        self.rotation
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that is written to, made if it is not there.
    pub(super) fn open_for_writing(&self) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).open(&self.path)
    }

    /// The file that is written to becomes the first of those before it, and the last of them goes. Returns the new,
    /// empty one.
    pub(super) fn rotate(&self) -> io::Result<File> {
        let mut rotations = self.rotations();
        let before = self.max_files() - 1;
        if before == 0 {
            fs::remove_file(&self.path)?;
        }
        for number in (0..before).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let file = self.open_for_writing()?;
        *rotations += 1;
        Ok(file)
    }

    /// All files, oldest first, with the number of the last one.
    pub(super) fn open_all(&self) -> io::Result<(Vec<File>, u64)> {
        let rotations = self.rotations();
        let mut files = Vec::new();
        for number in (0..self.max_files()).rev() {
            match File::open(self.numbered(number)) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((files, *rotations))
    }

    /// Whether the file of that number is complete: nothing is written to it any more.
    pub(super) fn is_complete(&self, number: u64) -> bool {
        *self.rotations() > number
    }

    /// The file after that of `number`, or the oldest one that is left, with its number. Only to be asked for after a
    /// complete one.
    pub(super) fn open_after(&self, number: u64) -> io::Result<(File, u64)> {
        let rotations = self.rotations();
        let oldest = rotations.saturating_sub(u64::from(self.max_files() - 1));
        for next in (number + 1).max(oldest)..=*rotations {
            let place = u32::try_from(*rotations - next).unwrap_or(u32::MAX);
            match File::open(self.numbered(place)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.map(|file| (file, next)),
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", self.path.display())))
    }

    fn max_files(&self) -> u32 {
        self.rotation.map_or(1, |rotation| rotation.max_files.max(1))
    }

    /// 0 is the one that is written to.
    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotations(&self) -> MutexGuard<'_, u64> {
        self.rotations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
