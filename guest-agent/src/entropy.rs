//! Randomness from outside: it makes what the kernel gives out from now on unlike anything an equal machine gets.

use std::fs::File;
use std::io;

use crate::sys;

/// Adds the bytes to the kernel's pool and makes its generator start anew from that.
///
/// # Errors
/// More than [`sys::MAX_ENTROPY_BYTES`], or what the kernel answered.
pub(crate) fn reseed(bytes: &[u8]) -> io::Result<()> {
    let device = File::options().write(true).open("/dev/urandom")?;
    sys::credit_entropy(&device, bytes)?;
    sys::reseed_generator(&device)
}
