//! Failed attempts in a row, by appliance and by whose they are, so that many of them, or the one that succeeds after them,
//! are told from all others.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::metric::SavedAttempts;

/// Rows at most, 16 bytes each. Beyond that, those that are over are dropped, then those of appliances with more than
/// their share: those of few failures, then all.
const ROWS_MAX: usize = 1 << 16;

/// Rows of so many failures go first.
const FEW: u32 = 2;

/// Seconds without a failure after which a row is over.
const PAUSE_MAX: u32 = 30 * 60;

/// All rows of an engine.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// By [`key`]. Numbers of appliances would be shorter, but change when series are removed and with each start.
    rows: HashMap<u64, Row>,
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

/// The hash of whose attempts they are. Who makes two of them collide gains nothing: he could have failed under the other
/// one as well.
pub(super) fn key(appliance: &str, name: &str, whose: &str) -> u64 {
    let appliance = xxh3_64_with_seed(appliance.as_bytes(), 0);
    let attempts = [name, whose].iter().fold(appliance, |seed, text| {
        xxh3_64_with_seed(text.as_bytes(), seed)
    });
    appliance & OWNER | attempts & !OWNER
}

/// The bits of a key that come from the appliance alone.
const OWNER: u64 = 0xffff_ffff << 32;

impl Attempts {
    /// So many attempts failed at `now`. How many failures the row has then.
    pub(super) fn failed(&mut self, key: u64, times: u32, now: u32) -> u32 {
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
        row.failures
    }

    /// An attempt succeeded at `now`: the row is over. How many failures it had.
    pub(super) fn passed(&mut self, key: u64, now: u32) -> u32 {
        let row = self.rows.remove(&key).filter(|row| !row.is_over(now));
        row.map_or(0, |row| row.failures)
    }

    /// The clock was set to `now`, by so many seconds: no failure is older than before, or in the future.
    pub(super) fn clock_was_set(&mut self, now: u32, by_seconds: i64) {
        for row in self.rows.values_mut() {
            let moved = i64::from(row.last).saturating_add(by_seconds);
            row.last = moved.clamp(0, i64::from(now)) as u32;
        }
    }

    /// Those that were not over when the last attempt failed.
    pub(super) fn save(&self) -> Vec<SavedAttempts> {
        let newest = self.rows.values().map(|row| row.last).max().unwrap_or(0);
        self.rows
            .iter()
            .filter(|(_, row)| !row.is_over(newest))
            .map(|(key, row)| SavedAttempts {
                key: *key,
                failures: row.failures,
                last: row.last,
            })
            .collect()
    }

    /// Takes over what was saved.
    pub(super) fn restore(&mut self, saved: &[SavedAttempts]) {
        for row in saved {
            self.failed(row.key, row.failures, row.last);
        }
    }

    /// Half of the rows must go, so that this is not done for each of the next ones.
    #[cold]
    fn make_room(&mut self, now: u32) {
        self.rows.retain(|_, row| !row.is_over(now));
        for few in [FEW, u32::MAX] {
            if self.rows.len() > ROWS_MAX / 2 {
                let mut owned: HashMap<u64, usize> = HashMap::new();
                for key in self.rows.keys() {
                    *owned.entry(key & OWNER).or_default() += 1;
                }
                let share = ROWS_MAX / 2 / owned.len();
                let is_over_share = |key: &u64| owned[&(key & OWNER)] > share;
                self.rows
                    .retain(|key, row| !is_over_share(key) || row.failures > few);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_by_appliance_name_and_owner_and_end_with_a_success_or_a_pause() {
        let mut attempts = Attempts::default();
        let own = key("hsm1", "address", "192.0.2.7");
        let of_user = key("hsm1", "user", "192.0.2.7");
        attempts.failed(own, 3, 100);
        attempts.failed(own, 1, 90);
        attempts.failed(key("hsm1", "address", "192.0.2.8"), 1, 100);
        attempts.failed(key("hsm2", "address", "192.0.2.7"), 1, 100);
        attempts.failed(of_user, 1, 100);
        assert_eq!(attempts.passed(key("hsm1", "address", "192.0.2.9"), 101), 0);
        assert_eq!(attempts.passed(own, 100 + PAUSE_MAX), 4);
        assert_eq!(attempts.passed(own, 101), 0);
        assert_eq!(attempts.passed(of_user, 101 + PAUSE_MAX), 0);
        attempts.failed(own, 1, 101 + PAUSE_MAX);
        assert_eq!(attempts.passed(own, 101 + PAUSE_MAX), 1);
    }

    #[test]
    fn a_clock_that_is_set_neither_ends_a_row_nor_keeps_it() {
        let mut attempts = Attempts::default();
        let (row, year) = (key("hsm1", "address", "192.0.2.7"), 365 * 86_400);
        attempts.failed(row, 3, 100);
        attempts.clock_was_set(160 + year, i64::from(year));
        assert_eq!(attempts.failed(row, 1, 160 + year), 4);
        attempts.clock_was_set(220, -i64::from(year));
        assert_eq!(attempts.failed(row, 1, 220), 5);
        assert_eq!(attempts.passed(row, 221 + PAUSE_MAX), 0);
    }

    #[test]
    fn what_is_saved_goes_on_and_what_is_over_is_not_saved() {
        let mut attempts = Attempts::default();
        attempts.failed(1, 30, 100);
        attempts.failed(2, 9, 200);
        attempts.failed(3, 1, 200 + PAUSE_MAX);
        let mut next = Attempts::default();
        next.restore(&attempts.save());
        assert_eq!(next.rows.len(), 2);
        next.failed(2, 1, 201);
        assert_eq!(next.passed(2, 202), 10);
        assert_eq!(next.passed(1, 202), 0);
    }

    #[test]
    fn a_flood_of_addresses_does_not_hide_who_tries_on_and_memory_is_bounded() {
        let mut attempts = Attempts::default();
        attempts.failed(0, 20, 100);
        for number in 1..3 * ROWS_MAX as u64 {
            attempts.failed(number, 1, 100);
            assert!(attempts.rows.len() <= ROWS_MAX);
        }
        assert_eq!(attempts.passed(0, 101), 20);
        for number in 1..3 * ROWS_MAX as u64 {
            attempts.failed(number, 5, 100);
            assert!(attempts.rows.len() <= ROWS_MAX);
        }
    }

    #[test]
    fn a_flood_of_one_appliance_does_not_hide_attempts_on_another() {
        let mut attempts = Attempts::default();
        for appliance in ["hsm1", "hsm3"] {
            attempts.failed(key(appliance, "address", "192.0.2.9"), 20, 100);
            attempts.failed(key(appliance, "user", "admin"), 1, 100);
        }
        for number in 0..3 * ROWS_MAX {
            let address = key("hsm2", "address", &number.to_string());
            attempts.failed(address, 1 + number as u32 % 100, 100);
            assert!(attempts.rows.len() <= ROWS_MAX);
        }
        for appliance in ["hsm1", "hsm3"] {
            for (name, whose, failures) in [("address", "192.0.2.9", 20), ("user", "admin", 1)] {
                assert_eq!(attempts.passed(key(appliance, name, whose), 101), failures);
            }
        }
    }
}
