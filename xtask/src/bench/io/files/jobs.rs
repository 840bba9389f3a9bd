//! Jobs of fio's: one process that reads or writes one file, one request after the other, by the page cache.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::runner::Runner;
use super::{Place, Row, Unit};

/// How a job goes through its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Sequential,
    Random,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) what: &'static str,
    pub(super) order: Order,
    pub(super) arguments: &'static str,
    pub(super) bytes: usize,
}

/// Of the files that are written.
pub(super) const FILE_BYTES: usize = 256 << 20;
/// Slow places do not finish a whole file.
const SECONDS: u32 = 3;

pub(super) const WRITE: Job = Job {
    what: "sequential writes of 128 KiB, then fsync",
    order: Order::Sequential,
    arguments: "--rw=write --bs=128k --end_fsync=1",
    bytes: FILE_BYTES,
};
pub(super) const READ: Job = Job {
    what: "sequential reads of 128 KiB",
    order: Order::Sequential,
    arguments: "--rw=read --bs=128k",
    bytes: FILE_BYTES,
};
pub(super) const RANDOM_READ: Job = Job {
    what: "random reads of 4 KiB",
    order: Order::Random,
    arguments: "--rw=randread --bs=4k",
    bytes: FILE_BYTES,
};
pub(super) const RANDOM_WRITE: Job = Job {
    what: "random writes of 4 KiB, then fsync",
    order: Order::Random,
    arguments: "--rw=randwrite --bs=4k --end_fsync=1",
    bytes: FILE_BYTES,
};
pub(super) const DURABLE_WRITE: Job = Job {
    what: "random writes of 4 KiB, fsync after each",
    order: Order::Random,
    arguments: "--rw=randwrite --bs=4k --fsync=1",
    bytes: FILE_BYTES,
};
/// The first makes the file that the others need.
pub(super) const ON_A_NEW_FILE: [&Job; 5] = [&WRITE, &READ, &RANDOM_READ, &RANDOM_WRITE, &DURABLE_WRITE];

/// Of one job: how fast, and what it costs the host.
pub(super) struct Rows {
    rate: Row,
    cost: Row,
}

impl Job {
    pub(super) fn rows(&self) -> Rows {
        let cost = "– processor time of the host";
        match self.order {
            Order::Sequential => Rows {
                rate: Row::new(self.what, Unit::MegabytesPerSecond),
                cost: Row::new(cost, Unit::NanosecondsPerByte),
            },
            Order::Random => Rows {
                rate: Row::new(self.what, Unit::PerSecond),
                cost: Row::new(cost, Unit::MicrosecondsEach),
            },
        }
    }

    pub(super) fn script(&self, file: &str) -> String {
        let Self { arguments, bytes, .. } = self;
        format!(
            "fio --name=job --filename={file} --size={bytes} {arguments} --runtime={SECONDS} --ioengine=psync \
             --invalidate=0 --fallocate=none --thread --output-format=json"
        )
    }

    /// How many requests it made, of which fio said that.
    pub(super) fn requests(&self, said: &str, count: f64) -> anyhow::Result<(Unit, f64)> {
        let Outcome { bytes, operations, .. } = Outcome::parse(said).with_context(|| self.what)?;
        Ok(match self.order {
            Order::Sequential => (Unit::RequestsPerMebibyte, count / bytes * f64::from(1 << 20)),
            Order::Random => (Unit::RequestsEach, count / operations),
        })
    }

    /// Once, with what was read before forgotten by the guest. `start` is what fio takes that does next to nothing.
    pub(super) fn run(
        &self,
        runner: &Runner<'_>,
        file: &str,
        start: Duration,
        rows: &mut Rows,
    ) -> anyhow::Result<()> {
        runner.forget()?;
        let done = runner.run(&self.script(file)).with_context(|| self.what)?;
        let outcome = Outcome::parse(&done.said).with_context(|| self.what)?;
        let spent = done.spent.saturating_sub(start).as_secs_f64();
        rows.add(self.order, runner.place(), &outcome, spent);
        Ok(())
    }
}

impl Rows {
    fn add(&mut self, order: Order, place: Place, outcome: &Outcome, spent_s: f64) {
        let Outcome { bytes, operations, seconds } = outcome;
        let (rate, cost) = match order {
            Order::Sequential => (bytes / 1e6 / seconds, spent_s * 1e9 / bytes),
            Order::Random => (operations / seconds, spent_s * 1e6 / operations),
        };
        self.rate.add(place, rate);
        // Less than the start of fio varies by is no figure.
        if cost > 0.0 {
            self.cost.add(place, cost);
        }
    }

    pub(super) fn into_rows(self) -> [Row; 2] {
        [self.rate, self.cost]
    }
}

/// What fio is worth that reads one block.
pub(super) fn start(runner: &Runner<'_>, file: &str) -> anyhow::Result<Duration> {
    let nothing = Job { what: "one read", order: Order::Random, arguments: "--rw=read --bs=4k", bytes: 4096 };
    Ok(runner.run(&nothing.script(file)).context("fio that does nothing")?.spent)
}

/// What fio says of its one job.
#[derive(Debug, PartialEq)]
struct Outcome {
    bytes: f64,
    operations: f64,
    /// With the last fsync.
    seconds: f64,
}

impl Outcome {
    fn parse(said: &str) -> anyhow::Result<Self> {
        // Warnings come before it.
        let json = said.find('{').map_or("", |start| &said[start..]);
        let told: Value = serde_json::from_str(json).with_context(|| format!("fio said {said:?}"))?;
        let job = &told["jobs"][0];
        for direction in ["read", "write"] {
            let number = |name: &str| job[direction][name].as_f64().unwrap_or_default();
            if number("total_ios") > 0.0 {
                let milliseconds = job["job_runtime"].as_f64().unwrap_or_default().max(number("runtime"));
                return Ok(Self {
                    bytes: number("io_bytes"),
                    operations: number("total_ios"),
                    seconds: milliseconds.max(1.0) / 1e3,
                });
            }
        }
        bail!("fio did nothing: {said:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fio_is_understood_behind_its_warnings() {
        let said = r#"note: both iodepth >= 1 and synchronous
            {"jobs": [{"job_runtime": 500, "read": {"total_ios": 0},
            "write": {"io_bytes": 8192, "total_ios": 2, "runtime": 400}}]}"#;
        let expected = Outcome { bytes: 8192.0, operations: 2.0, seconds: 0.5 };
        assert_eq!(Outcome::parse(said).unwrap(), expected);
        assert!(Outcome::parse("fio: no such file").is_err());
    }
}
