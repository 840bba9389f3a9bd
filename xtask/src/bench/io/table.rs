//! Rows of figures, each measured in several places.

use std::collections::BTreeMap;

use super::super::figures::Figures;

/// Where something was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Berth,
    Peer,
    /// Without any container.
    Host,
}

/// What a row's numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    MegabytesPerSecond,
    NanosecondsPerByte,
    Microseconds,
    Milliseconds,
    /// Operations.
    PerSecond,
    /// Of processor time, an operation.
    MicrosecondsEach,
    Requests,
    RequestsPerMebibyte,
    /// For an operation.
    RequestsEach,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) figures: BTreeMap<Place, Figures>,
}

/// Rows under one heading, and whose figures ours are divided by, if anybody else has any.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) what: String,
    pub(super) reference: Option<Place>,
    pub(super) rows: Vec<Row>,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Berth, Self::Peer, Self::Host];
}

impl Unit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MegabytesPerSecond => "MB/s",
            Self::NanosecondsPerByte => "ns a byte",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::PerSecond => "a second",
            Self::MicrosecondsEach => "µs each",
            Self::Requests => "requests",
            Self::RequestsPerMebibyte => "requests a MiB",
            Self::RequestsEach => "requests each",
        }
    }

    /// Behind the point.
    pub(super) fn digits(self) -> usize {
        match self {
            Self::NanosecondsPerByte | Self::RequestsPerMebibyte | Self::RequestsEach => 2,
            Self::MegabytesPerSecond | Self::Microseconds | Self::MicrosecondsEach => 1,
            Self::Milliseconds | Self::PerSecond | Self::Requests => 0,
        }
    }
}

impl Row {
    pub(super) fn new(what: &str, unit: Unit) -> Self {
        Self { what: what.to_owned(), unit, figures: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, place: Place, number: f64) {
        self.figures.entry(place).or_default().add_number(number);
    }

    /// Ours divided by those of `reference`, of the medians.
    pub(super) fn ratio(&self, reference: Option<Place>) -> Option<f64> {
        let median = |place| self.figures.get(&place)?.percentile(50);
        let (ours, theirs) = (median(Place::Berth)?, median(reference?)?);
        (theirs > 0.0).then(|| ours / theirs)
    }
}

impl Table {
    /// Where any of it was measured, and where it should have been.
    pub(super) fn places(&self) -> Vec<Place> {
        let is_there = |place: &Place| {
            *place == Place::Berth
                || Some(*place) == self.reference
                || self.rows.iter().any(|row| row.figures.contains_key(place))
        };
        Place::ALL.into_iter().filter(is_there).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_needs_both() {
        let mut row = Row::new("a thing", Unit::Microseconds);
        row.add(Place::Berth, 3.0);
        assert_eq!(row.ratio(Some(Place::Peer)), None);
        row.add(Place::Peer, 2.0);
        assert_eq!(row.ratio(Some(Place::Peer)), Some(1.5));
    }

    #[test]
    fn a_place_where_nothing_was_measured_is_named_if_it_is_the_reference() {
        let mut row = Row::new("a thing", Unit::Microseconds);
        row.add(Place::Berth, 3.0);
        let table = |reference, rows| Table { what: "things".to_owned(), reference, rows };
        assert_eq!(table(Some(Place::Host), vec![row]).places(), [Place::Berth, Place::Host]);
        assert_eq!(table(Some(Place::Peer), Vec::new()).places(), [Place::Berth, Place::Peer]);
    }
}
