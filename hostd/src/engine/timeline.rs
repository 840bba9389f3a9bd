//! Where the time of a start went.

use std::fmt;
use std::time::{Duration, Instant};

use berth_protocol::agent::Ready;
use serde::{Deserialize, Serialize};

/// Consecutive parts of one start, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Finding the image disk and cloning the scratch disk.
    pub image_us: u64,
    /// From starting `berth-vmm` until the guest's kernel ran, and hearing of its end.
    pub machine_us: u64,
    /// The guest's kernel, from its entry until it executed the agent.
    pub kernel_us: u64,
    /// The agent, until it served.
    pub agent_us: u64,
    /// Mounting, and starting the container's first process.
    pub container_us: u64,
}

impl Timeline {
    #[must_use]
    pub fn total_us(&self) -> u64 {
        self.image_us + self.machine_us + self.kernel_us + self.agent_us + self.container_us
    }
}

/// As events say it: "image=1.5ms machine=20.0ms …".
impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = [
            ("image", self.image_us),
            ("machine", self.machine_us),
            ("kernel", self.kernel_us),
            ("agent", self.agent_us),
            ("container", self.container_us),
        ];
        let parts = phases.map(|(phase, us)| format!("{phase}={}.{}ms", us / 1000, us % 1000 / 100));
        f.write_str(&parts.join(" "))
    }
}

/// Collects a timeline while a start goes on.
#[derive(Debug)]
pub(super) struct StartClock {
    last: Instant,
    image: Duration,
    boot: Duration,
}

impl StartClock {
    pub(super) fn start() -> Self {
        Self { last: Instant::now(), image: Duration::ZERO, boot: Duration::ZERO }
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.last, now)
    }

    pub(super) fn image_ready(&mut self) {
        self.image = self.lap();
    }

    pub(super) fn agent_ready(&mut self) {
        self.boot = self.lap();
    }

    /// The guest counts kernel and agent itself; the rest of the boot is the machine's. The guest's word is bounded by
    /// what the host measured.
    pub(super) fn container_started(mut self, ready: &Ready) -> Timeline {
        let boot_us = microseconds(self.boot);
        let kernel_us = ready.agent_started_us.min(boot_us);
        let agent_us = ready.agent_ready_us.saturating_sub(ready.agent_started_us).min(boot_us - kernel_us);
        Timeline {
            image_us: microseconds(self.image),
            machine_us: boot_us - kernel_us - agent_us,
            kernel_us,
            agent_us,
            container_us: microseconds(self.lap()),
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_it_in_milliseconds() {
        let timeline = Timeline {
            image_us: 1599,
            machine_us: 20_000,
            kernel_us: 0,
            agent_us: 99,
            container_us: 1_000_100,
        };
        let expected = "image=1.5ms machine=20.0ms kernel=0.0ms agent=0.0ms container=1000.1ms";
        assert_eq!(timeline.to_string(), expected);
    }

    #[test]
    fn a_guest_that_lies_about_its_clock_cannot_make_a_part_longer_than_the_whole() {
        let mut clock = StartClock::start();
        clock.image_ready();
        clock.agent_ready();
        let ready = Ready { agent_started_us: u64::MAX, agent_ready_us: 5, ..Ready::default() };
        let boot = microseconds(clock.boot);
        let timeline = clock.container_started(&ready);
        assert_eq!(timeline.machine_us + timeline.kernel_us + timeline.agent_us, boot);
    }
}
