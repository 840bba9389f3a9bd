//! What a container's program waits for when it first looks at its files, and when it looks again.

use anyhow::Context;

use super::super::figures::Figures;
use super::side::Side;

/// Prints four durations in seconds, a line each: `find` twice, then 1,000 files twice.
const SCRIPT: &str = "TIMEFORMAT=%3R
look() { find / -xdev > /tmp/found; }
read_files() { xargs cat < /tmp/files > /dev/null; }
{ time look; time look; } 2>&1
find /usr -xdev -type f | sort | head -n 1000 > /tmp/files
{ time read_files; time read_files; } 2>&1";

/// Several containers' durations.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) find_cold: Figures,
    pub(super) find_warm: Figures,
    pub(super) cat_cold: Figures,
    pub(super) cat_warm: Figures,
}

impl Reading {
    /// One more container.
    pub(super) fn run(&mut self, side: &Side, image: &str) -> anyhow::Result<()> {
        side.forget_contents()?;
        let said = side.shell(image, SCRIPT)?;
        let [find_cold, find_warm, cat_cold, cat_warm] = durations_ms(&said).with_context(|| said.clone())?;
        self.find_cold.add_number(find_cold);
        self.find_warm.add_number(find_warm);
        self.cat_cold.add_number(cat_cold);
        self.cat_warm.add_number(cat_warm);
        Ok(())
    }
}

fn durations_ms(said: &str) -> Option<[f64; 4]> {
    let seconds: Option<Vec<f64>> = said.lines().map(|line| line.trim().parse::<f64>().ok()).collect();
    let seconds: [f64; 4] = seconds?.try_into().ok()?;
    Some(seconds.map(|seconds| seconds * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_lines_are_four_durations() {
        assert_eq!(durations_ms("0.250\n0.125\n1.000\n0.500\n"), Some([250.0, 125.0, 1000.0, 500.0]));
        assert_eq!(durations_ms("0.250\nfind: no such file\n"), None);
    }
}
