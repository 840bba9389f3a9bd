//! Signals by number and by name, as `kill -s`, `--stop-signal` and an image's `StopSignal` write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signal of Linux on x86-64, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(u8);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(String);

/// signal(7), in order from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const REALTIME_MIN: u8 = 34;
const REALTIME_MAX: u8 = 64;

impl Signal {
    pub const KILL: Self = Self(9);
    pub const TERM: Self = Self(15);

    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = InvalidSignal;

    /// Accepts "15", "TERM", "SIGTERM" in any case, and "RTMIN+3", "RTMAX-1".
    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        let invalid = || InvalidSignal(text.to_owned());
        if let Ok(number) = text.parse::<u8>() {
            return if (1..=REALTIME_MAX).contains(&number) { Ok(Self(number)) } else { Err(invalid()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let standard = NAMES.iter().zip(1..).find(|(known, _)| **known == name);
        standard.map(|(_, number)| number).or_else(|| realtime(name)).map(Self).ok_or_else(invalid)
    }
}

fn realtime(name: &str) -> Option<u8> {
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(REALTIME_MIN),
        (_, Some("")) => Some(REALTIME_MAX),
        (Some(above), _) => REALTIME_MIN.checked_add(above.strip_prefix('+')?.parse().ok()?),
        (_, Some(below)) => REALTIME_MAX.checked_sub(below.strip_prefix('-')?.parse().ok()?),
        (None, None) => None,
    };
    number.filter(|number| (REALTIME_MIN..=REALTIME_MAX).contains(number))
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = InvalidSignal;

    fn try_from(text: String) -> Result<Self, InvalidSignal> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_means_the_same_signal() {
        for spelling in ["15", "TERM", "SIGTERM", "sigterm"] {
            assert_eq!(spelling.parse(), Ok(Signal::TERM));
        }
        assert_eq!("RTMIN+3".parse(), Ok(Signal(37)));
        assert_eq!("SIGRTMAX-1".parse(), Ok(Signal(63)));
    }

    #[test]
    fn what_is_no_signal_is_refused_by_name() {
        for wrong in ["", "0", "65", "-1", "SIGNOPE", "RTMIN+40", "RTMAX-99", "SIG"] {
            assert_eq!(wrong.parse::<Signal>(), Err(InvalidSignal(wrong.to_owned())));
        }
    }

    #[test]
    fn every_number_survives_being_written_and_read() {
        for number in 1..=REALTIME_MAX {
            assert_eq!(Signal(number).to_string().parse(), Ok(Signal(number)));
        }
    }
}
