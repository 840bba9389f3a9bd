//! How long to wait for a guest, which depends on what executes its kernel.
//!
//! Deadlines are written for a guest on hardware; an interpreted one gets a multiple.

use std::time::Duration;

/// How fast a guest's kernel runs on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// On the processor, or translated for it.
    Ordinary,
    /// By software KVM, instruction by instruction: its programs run at full speed, a system call takes a millisecond.
    Interpreted,
}

/// A boot takes 8 s on an idle host where an emulated one takes half a second, and a busy host makes both slower by the
/// same factor. Deadlines are for busy hosts: five of them are minutes.
const INTERPRETED_FACTOR: u32 = 5;

impl Pace {
    /// The deadline here for what has the deadline `ordinary` elsewhere.
    pub(crate) fn deadline(self, ordinary: Duration) -> Duration {
        match self {
            Self::Ordinary => ordinary,
            Self::Interpreted => ordinary * INTERPRETED_FACTOR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_interpreted_guest_gets_more_time() {
        let ordinary = Duration::from_secs(120);
        assert_eq!(Pace::Ordinary.deadline(ordinary), ordinary);
        assert_eq!(Pace::Interpreted.deadline(ordinary), Duration::from_secs(600));
    }
}
