//! Guests that show whether a machine which goes on from a snapshot is the one that was saved.
//!
//! What they do is in `snapshot_guests.s`, written with the macros of [`super::program`], which assembles it.

#![expect(unsafe_code, reason = "the assembler's output can only be reached by its symbols")]

use super::program::program;

program!(
    /// Prints the alphabet, over and over; the letter that comes next is in memory, the last one in a register.
    letters,
    stub_letters,
    stub_letters_end
);
program!(
    /// Reads sector 0 of the first virtio device, a disk, over and over, and prints its first character.
    disk_letters,
    stub_disk_letters,
    stub_disk_letters_end
);
program!(
    /// Waits for a number of places at 0x6000, the distance between them behind it; writes two bytes in each, from 8 MiB on,
    /// and prints "ready"; waits until the byte at 0x7000 is not zero, writes one of the two anew, prints "done", and waits anew.
    touch,
    stub_touch,
    stub_touch_end
);
