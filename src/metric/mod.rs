//! The series table: values, bounds, expiry, snapshot. It never hears of rules.
//!
//! A metric is a [`MetricDesc`], a device an [`ApplianceId`], a series a [`Slot`] in the [`Table`]. Whoever updates a series
//! often keeps its slot, and an update is then an addition at an index.

mod appliances;
mod births;
mod budget;
mod gauges;
mod key;
mod plausible;
mod snapshot;
mod table;
mod tally;
mod view;

use std::sync::Arc;

pub use budget::Limits;
pub(crate) use plausible::{is_low_worse, plausible};
pub use snapshot::{Restored, Saved, SavedAmount, SavedAttempts, SavedRepeat, SavedSeries, Shown};
pub use table::Table;
pub use tally::CounterDeltas;
pub use view::ScrapeView;

/// A metric, as an index into the specs that the table was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricId(pub u32);

/// A device that lines are about, as an index into the table's appliances. `other` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApplianceId(pub u32);

/// The appliance of all lines beyond the limit of appliances.
pub const OTHER: ApplianceId = ApplianceId(0);

/// A series' place in the table. Good as long as [`Table::epoch`] does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// No series: updates to it are ignored.
    pub const NONE: Slot = Slot(u32::MAX);

    /// A series that was not looked up yet, for those who cache slots; updates to it are ignored, too.
    pub const UNKNOWN: Slot = Slot(u32::MAX - 1);
}

/// Which values a label may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelValues {
    /// Whatever the device makes up; the limits are the only bound. Series with these values are expected.
    Any(Vec<Arc<str>>),
    /// One of these; another one becomes `other`.
    OneOf(Vec<Arc<str>>),
}

impl LabelValues {
    /// The values that are expected.
    pub fn known(&self) -> &[Arc<str>] {
        match self {
            LabelValues::Any(known) | LabelValues::OneOf(known) => known,
        }
    }
}

/// A metric and its bounds.
#[derive(Clone, Debug)]
pub struct MetricDesc {
    /// Name, help, type and labels; `appliance` is the first label.
    pub family: Arc<Family>,
    /// One for each label after `appliance`.
    pub domains: Vec<LabelValues>,
    /// A series goes when it was not touched for so many seconds.
    pub expire_seconds: Option<u32>,
}

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
    /// When the series was born, seconds since 1970; 0 if that is not known, as for gauges.
    pub created: u32,
    /// The sample.
    pub value: f64,
}

/// What one scrape shows: families in order of name, series in a stable order.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Families that have at least one series.
    pub families: Vec<(Arc<Family>, Vec<Series>)>,
}
