//! The series table: values, bounds, expiry, snapshot. It never hears of rules.

use std::sync::Arc;

/// What a metric's samples mean over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only goes up; its name ends in `_total`.
    Counter,
    /// May go anywhere.
    Gauge,
}

/// A metric as a rule pack declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Name as exposed, `_total` included for counters.
    pub name: Arc<str>,
    /// One line; may hold any character, the exposition escapes it.
    pub help: Arc<str>,
    /// Counter or gauge.
    pub kind: Kind,
    /// Label names in the order of [`Series::values`]; `appliance` is the first.
    pub labels: Arc<[Arc<str>]>,
}

/// One series of a family at the time of a snapshot.
#[derive(Clone, Debug)]
pub struct Series {
    /// One value for each of the family's labels. Valid UTF-8, any character.
    pub values: Arc<[Arc<str>]>,
    /// The series has the label `test="true"` besides.
    pub test: bool,
    /// The sample.
    pub value: f64,
}

/// What one scrape shows: families in order of name, series in a stable order.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Families that have at least one series.
    pub families: Vec<(Arc<Family>, Vec<Series>)>,
}
