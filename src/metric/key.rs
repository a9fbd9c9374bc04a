//! What a series is called by.

use std::sync::Arc;

use super::{ApplianceId, MetricId};

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
