//! What is asked of a container to know its health: a command, and when it is run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// With the value `true` a container that becomes unhealthy is stopped and started again, by the rules of restart
/// policies for the wait in between, whatever its own policy is.
pub const RESTART_UNHEALTHY_LABEL: &str = "berth.restart-unhealthy";

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// As image or request say it; 0 and an empty test are "as the image says", and then the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `CMD` and a program with arguments, `CMD-SHELL` and a shell's command, or `NONE`.
    pub test: Vec<String>,
    pub interval_ns: u64,
    /// Of one probe.
    pub timeout_ns: u64,
    /// From the start of the run: failures in it do not count until a probe has succeeded.
    pub start_period_ns: u64,
    /// Between probes in the start period.
    pub start_interval_ns: u64,
    /// Failures in a row that make a container unhealthy.
    pub retries: u32,
}

impl Healthcheck {
    /// What the request left open is as the image says.
    #[must_use]
    pub(crate) fn or_images(self, image: Self) -> Self {
        let or = |own: u64, images: u64| if own == 0 { images } else { own };
        Self {
            test: if self.test.is_empty() { image.test } else { self.test },
            interval_ns: or(self.interval_ns, image.interval_ns),
            timeout_ns: or(self.timeout_ns, image.timeout_ns),
            start_period_ns: or(self.start_period_ns, image.start_period_ns),
            start_interval_ns: or(self.start_interval_ns, image.start_interval_ns),
            retries: if self.retries == 0 { image.retries } else { self.retries },
        }
    }

    /// The image's own, in Docker's form; what is out of range in it counts as not said.
    pub(crate) fn of_image(config: &serde_json::Value) -> Self {
        let number = |name: &str| config.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let test = config.get("Test").and_then(|test| serde_json::from_value(test.clone()).ok());
        Self {
            test: test.unwrap_or_default(),
            interval_ns: number("Interval"),
            timeout_ns: number("Timeout"),
            start_period_ns: number("StartPeriod"),
            start_interval_ns: number("StartInterval"),
            retries: u32::try_from(number("Retries")).unwrap_or(0),
        }
    }

    /// In Docker's form: what was not said is not shown.
    #[must_use]
    pub fn document(&self) -> serde_json::Value {
        use serde_json::json;
        let numbers = [
            ("Interval", self.interval_ns),
            ("Timeout", self.timeout_ns),
            ("StartPeriod", self.start_period_ns),
            ("StartInterval", self.start_interval_ns),
            ("Retries", self.retries.into()),
        ];
        let mut document = serde_json::Map::new();
        if !self.test.is_empty() {
            document.insert("Test".to_owned(), json!(self.test));
        }
        let said = numbers.into_iter().filter(|(_name, number)| *number != 0);
        document.extend(said.map(|(name, number)| (name.to_owned(), json!(number))));
        document.into()
    }

    /// The command of a probe; nothing if none is asked for.
    pub(super) fn command(&self) -> Option<Vec<String>> {
        let (kind, rest) = self.test.split_first()?;
        match kind.as_str() {
            "CMD" if !rest.is_empty() => Some(rest.to_vec()),
            "CMD-SHELL" if !rest.is_empty() => {
                let shell = ["/bin/sh", "-c"].into_iter().map(str::to_owned);
                Some(shell.chain(rest.iter().cloned()).collect())
            }
            _ => None,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        or_default(self.timeout_ns, TIMEOUT)
    }

    pub(super) fn start_period(&self) -> Duration {
        Duration::from_nanos(self.start_period_ns)
    }

    pub(super) fn retries(&self) -> u32 {
        if self.retries == 0 { RETRIES } else { self.retries }
    }

    /// How long to wait for the next probe of a container that was started so long ago.
    pub(super) fn pause(&self, is_starting: bool, since_start: Duration) -> Duration {
        if is_starting && since_start < self.start_period() {
            or_default(self.start_interval_ns, START_INTERVAL)
        } else {
            or_default(self.interval_ns, INTERVAL)
        }
    }
}

fn or_default(nanoseconds: u64, default: Duration) -> Duration {
    if nanoseconds == 0 { default } else { Duration::from_nanos(nanoseconds) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_test_is_a_program_a_shells_command_or_nothing() {
        for (test, command) in [
            (vec!["CMD", "true", "x"], Some(words(&["true", "x"]))),
            (vec!["CMD-SHELL", "exit 1"], Some(words(&["/bin/sh", "-c", "exit 1"]))),
            (vec!["NONE"], None),
            (vec!["CMD"], None),
            (vec![], None),
            (vec!["true"], None),
        ] {
            let check = Healthcheck { test: words(&test), ..Healthcheck::default() };
            assert_eq!(check.command(), command, "{test:?}");
        }
    }

    #[test]
    fn what_the_request_leaves_open_is_the_images_and_then_dockers() {
        let image =
            json!({ "Test": ["CMD", "true"], "Interval": 7_000_000_000_i64, "Retries": 5, "Timeout": -1 });
        let own = Healthcheck { interval_ns: 1_000_000_000, ..Healthcheck::default() };
        let check = own.or_images(Healthcheck::of_image(&image));
        assert_eq!(check.test, words(&["CMD", "true"]));
        assert_eq!((check.pause(true, Duration::ZERO), check.retries()), (Duration::from_secs(1), 5));
        assert_eq!((check.timeout(), check.start_period()), (TIMEOUT, Duration::ZERO));
    }

    #[test]
    fn probes_come_faster_while_it_starts() {
        let check = Healthcheck { start_period_ns: 10_000_000_000, ..Healthcheck::default() };
        assert_eq!(check.pause(true, Duration::from_secs(9)), START_INTERVAL);
        assert_eq!(check.pause(false, Duration::from_secs(9)), INTERVAL);
        assert_eq!(check.pause(true, Duration::from_secs(10)), INTERVAL);
    }
}
