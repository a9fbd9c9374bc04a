//! Which values a metric can have, by the unit in its name: what is outside was not measured but made up or misread.

use std::ops::RangeInclusive;

use super::{Family, Kind};

/// Beyond it a whole number is not exact any more, and a counter would not notice another event.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// The end of the year 9999, which certificates without an end name.
const YEAR_9999: f64 = 253_402_300_799.0;

/// The values that a gauge may be set to, or the amounts that one line may add to a counter.
pub(crate) fn plausible(family: &Family) -> RangeInclusive<f64> {
    let name = family.name.trim_end_matches("_total");
    let is = |suffix: &str| name.ends_with(suffix);
    match family.kind {
        Kind::Counter if is("_bytes") => 0.0..=1e15,
        Kind::Counter if is("_seconds") => 0.0..=1e9,
        Kind::Counter => 0.0..=1e6,
        Kind::Gauge if is("_timestamp_seconds") => 0.0..=YEAR_9999,
        Kind::Gauge if is("_seconds") => 0.0..=1e10,
        Kind::Gauge if is("_bytes") => 0.0..=1e18,
        Kind::Gauge if is("_celsius") => -273.15..=1e4,
        // A disk's wear is given up to 255 per cent.
        Kind::Gauge if is("_percentage_used_ratio") => 0.0..=2.55,
        Kind::Gauge if is("_ratio") => 0.0..=1.0,
        // Volts, watts, revolutions a minute.
        Kind::Gauge if family.labels.iter().any(|label| **label == *"unit") => -1e6..=1e6,
        Kind::Gauge => -EXACT_MAX..=EXACT_MAX,
    }
}

/// Whether the lower of two values is the worse one.
pub(crate) fn is_low_worse(family: &Family) -> bool {
    let suffixes = ["_up", "_ok", "_expiry_timestamp_seconds", "_spare_ratio"];
    suffixes.iter().any(|suffix| family.name.ends_with(suffix))
}
