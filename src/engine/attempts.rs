//! Failed attempts in a row, by appliance and by whose they are, so that the one that succeeds after many is told from
//! all others.
//!
//! They are held in memory only: after a restart or a reload the rows begin anew.

use std::hash::{BuildHasher, Hasher};

use hashbrown::{DefaultHashBuilder, HashMap};

use crate::metric::ApplianceId;

/// Rows at most, 24 bytes each. Beyond that, those that are over are dropped, then those of few failures, then all.
const ROWS_MAX: usize = 1 << 16;

/// Rows of so many failures go first.
const FEW: u32 = 2;

/// Seconds without a failure after which a row is over.
const PAUSE_MAX: u32 = 30 * 60;

/// All rows of an engine.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    rows: HashMap<(ApplianceId, u64), Row>,
    hasher: DefaultHashBuilder,
    /// The table's epoch that the appliances belong to.
    epoch: u32,
}

#[derive(Debug)]
struct Row {
    failures: u32,
    /// When the last one was, in seconds since 1970.
    last: u32,
}

impl Row {
    fn is_over(&self, now: u32) -> bool {
        now.saturating_sub(self.last) > PAUSE_MAX
    }
}

impl Attempts {
    /// Forgets everything if appliances have got other numbers since.
    pub(super) fn in_epoch(&mut self, epoch: u32) -> &mut Self {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.rows.clear();
        }
        self
    }

    fn key(&self, appliance: ApplianceId, name: &str, whose: &str) -> (ApplianceId, u64) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name.as_bytes());
        hasher.write_u8(0);
        hasher.write(whose.as_bytes());
        (appliance, hasher.finish())
    }

    /// So many attempts failed at `now`.
    pub(super) fn failed(
        &mut self,
        appliance: ApplianceId,
        name: &str,
        whose: &str,
        times: u32,
        now: u32,
    ) {
        let key = self.key(appliance, name, whose);
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.make_room(now);
        }
        let row = self.rows.entry(key).or_insert(Row {
            failures: 0,
            last: now,
        });
        if row.is_over(now) {
            row.failures = 0;
        }
        row.failures = row.failures.saturating_add(times);
        row.last = row.last.max(now);
    }

    /// An attempt succeeded at `now`: the row is over. How many failures it had.
    pub(super) fn passed(
        &mut self,
        appliance: ApplianceId,
        name: &str,
        whose: &str,
        now: u32,
    ) -> u32 {
        let key = self.key(appliance, name, whose);
        let row = self.rows.remove(&key).filter(|row| !row.is_over(now));
        row.map_or(0, |row| row.failures)
    }

    /// Half of the rows must go, so that this is not done for each of the next ones.
    #[cold]
    fn make_room(&mut self, now: u32) {
        self.rows.retain(|_, row| !row.is_over(now));
        if self.rows.len() > ROWS_MAX / 2 {
            self.rows.retain(|_, row| row.failures > FEW);
        }
        if self.rows.len() > ROWS_MAX / 2 {
            self.rows.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HSM: ApplianceId = ApplianceId(1);

    #[test]
    fn rows_are_by_appliance_name_and_owner_and_end_with_a_success_or_a_pause() {
        let mut attempts = Attempts::default();
        attempts.failed(HSM, "address", "192.0.2.7", 3, 100);
        attempts.failed(HSM, "address", "192.0.2.7", 1, 90);
        attempts.failed(HSM, "address", "192.0.2.8", 1, 100);
        attempts.failed(ApplianceId(2), "address", "192.0.2.7", 1, 100);
        attempts.failed(HSM, "user", "192.0.2.7", 1, 100);
        assert_eq!(attempts.passed(HSM, "address", "192.0.2.9", 101), 0);
        assert_eq!(
            attempts.passed(HSM, "address", "192.0.2.7", 100 + PAUSE_MAX),
            4
        );
        assert_eq!(attempts.passed(HSM, "address", "192.0.2.7", 101), 0);
        assert_eq!(
            attempts.passed(HSM, "user", "192.0.2.7", 101 + PAUSE_MAX),
            0
        );
        attempts.failed(HSM, "address", "192.0.2.8", 1, 101 + PAUSE_MAX);
        assert_eq!(
            attempts.passed(HSM, "address", "192.0.2.8", 101 + PAUSE_MAX),
            1
        );
        attempts.failed(HSM, "address", "192.0.2.8", 1, 100);
        assert_eq!(
            attempts
                .in_epoch(1)
                .passed(HSM, "address", "192.0.2.8", 101),
            0
        );
    }

    #[test]
    fn a_flood_of_addresses_does_not_hide_who_tries_on_and_memory_is_bounded() {
        let mut attempts = Attempts::default();
        attempts.failed(HSM, "address", "192.0.2.7", 20, 100);
        for number in 0..3 * ROWS_MAX {
            attempts.failed(HSM, "address", &number.to_string(), 1, 100);
            assert!(attempts.rows.len() <= ROWS_MAX);
        }
        assert_eq!(attempts.passed(HSM, "address", "192.0.2.7", 101), 20);
        for number in 0..3 * ROWS_MAX {
            attempts.failed(HSM, "address", &number.to_string(), 5, 100);
            assert!(attempts.rows.len() <= ROWS_MAX);
        }
    }
}
