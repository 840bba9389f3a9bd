//! The descriptors of a process's standard streams: its own ends, and ours.

use std::io;
use std::os::fd::OwnedFd;

use berth_protocol::agent::Process;
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Our end of a pipe or a terminal's master.
pub(crate) struct Endpoint {
    descriptor: AsyncFd<OwnedFd>,
}

impl Endpoint {
    /// # Errors
    /// If the descriptor cannot be polled.
    pub(crate) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        ioctl_fionbio(&descriptor, true)?;
        Ok(Self { descriptor: sys::register(descriptor, interest)? })
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        self.descriptor.get_ref()
    }

    /// Waits until there is something to read, or the other end is closed.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.descriptor.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// At most `limit` bytes; none are the end.
    pub(super) async fn read(&self, limit: usize) -> io::Result<Vec<u8>> {
        loop {
            let mut guard = self.descriptor.readable().await?;
            // Not zeroed before: most reads are short.
            let mut bytes = Vec::with_capacity(limit);
            if let Ok(result) =
                guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), spare_capacity(&mut bytes))?))
            {
                return result.map(|_length| bytes);
            }
        }
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.descriptor.writable().await?;
            if let Ok(written) = guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                bytes = bytes.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// What the new process gets as 0, 1 and 2. With a terminal these are /dev/null until it has opened one.
pub(crate) struct ProcessEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// What the agent keeps, before it is served. Nothing of it exists for a terminal.
#[derive(Default)]
pub(crate) struct Stdio {
    pub(crate) stdin: Option<Endpoint>,
    pub(crate) stdout: Option<Endpoint>,
    pub(crate) stderr: Option<Endpoint>,
}

impl Stdio {
    /// Pipes as the process wants them, or none for a terminal.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(crate) fn create(process: &Process) -> io::Result<(Self, ProcessEnds)> {
        if process.terminal {
            let ends = ProcessEnds { stdin: null()?, stdout: null()?, stderr: null()? };
            return Ok((Self::default(), ends));
        }
        let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin_end, stdin) = if process.stdin {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            (reader, Some(Endpoint::new(writer, Interest::WRITABLE)?))
        } else {
            (null()?, None)
        };
        let ours = Self {
            stdin,
            stdout: Some(Endpoint::new(stdout, Interest::READABLE)?),
            stderr: Some(Endpoint::new(stderr, Interest::READABLE)?),
        };
        Ok((ours, ProcessEnds { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end }))
    }
}

fn null() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}
