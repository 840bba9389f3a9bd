//! Where the time of a start went: in inspect's `Berth` and in a header of start's answer, because a container that
//! is removed at its end may be gone before anybody could inspect it.

use axum::http::HeaderValue;
use serde::Serialize;

use crate::engine::Timeline;

pub(super) const HEADER: &str = "berth-start-timeline";

/// One part of a start; consecutive, and their sum is the whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Phase {
    phase: &'static str,
    milliseconds: f64,
}

pub(super) fn phases(timeline: &Timeline) -> [Phase; 5] {
    [
        Phase::new("image", timeline.image_us),
        Phase::new("machine", timeline.machine_us),
        Phase::new("kernel", timeline.kernel_us),
        Phase::new("agent", timeline.agent_us),
        Phase::new("container", timeline.container_us),
    ]
}

impl Phase {
    fn new(phase: &'static str, microseconds: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 142 years")]
        let milliseconds = microseconds as f64 / 1000.0;
        Self { phase, milliseconds }
    }
}

pub(super) fn header_value(timeline: &Timeline) -> HeaderValue {
    let json = serde_json::to_string(&phases(timeline)).expect("names and numbers have JSON");
    HeaderValue::try_from(json).expect("names and numbers are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_a_list_of_phases_in_order() {
        let timeline = Timeline {
            image_us: 1500,
            machine_us: 2000,
            kernel_us: 3000,
            agent_us: 4000,
            container_us: 5000,
        };
        let expected = concat!(
            r#"[{"Phase":"image","Milliseconds":1.5},{"Phase":"machine","Milliseconds":2.0},"#,
            r#"{"Phase":"kernel","Milliseconds":3.0},{"Phase":"agent","Milliseconds":4.0},"#,
            r#"{"Phase":"container","Milliseconds":5.0}]"#,
        );
        assert_eq!(header_value(&timeline), expected);
    }
}
