//! What a series is called by, and which others it belongs to.

use std::sync::Arc;

use super::{ApplianceId, MetricId, Slot};

/// What is known of a series besides its value.
#[derive(Clone, Debug)]
pub(super) struct SeriesKey {
    pub(super) metric: MetricId,
    pub(super) appliance: ApplianceId,
    pub(super) test: bool,
    /// The table's epoch when the series was made.
    pub(super) since: u32,
    /// When the series was born, seconds since 1970; 0 if that is not known.
    pub(super) created: u32,
    /// The number of its birth; 0 if it had none that a scraper must see.
    pub(super) born: u64,
    pub(super) values: Arc<[Arc<str>]>,
}

impl SeriesKey {
    /// Whether it is that of these labels; `values` are those after `appliance`.
    pub(super) fn is(
        &self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
        values: &[&str],
    ) -> bool {
        let own = self.values.iter().skip(1).map(|value| &**value);
        (self.metric, self.appliance, self.test) == (metric, appliance, test)
            && own.eq(values.iter().copied())
    }
}

/// The series of one metric of one appliance.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) slots: Vec<Slot>,
    /// How many series had been made in the table when the last one was made here.
    pub(super) last_entered: u64,
}
