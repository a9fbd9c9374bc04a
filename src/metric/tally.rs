//! What one thread has counted and not flushed yet.

use super::Slot;

/// A series that nothing was added to. Amounts are never negative, so no sum is.
const UNTOUCHED: f64 = -1.0;

/// Additions to counters that are not in the table yet, summed up by series: threads that read lines need not wait for
/// each other at every one of them. [`Table::apply`](super::Table::apply) flushes them.
///
/// Holds a number for each of the table's slots, and names each series once, so it is bounded as the table is.
#[derive(Debug, Default)]
pub struct CounterDeltas {
    /// By slot.
    sums: Vec<f64>,
    added: Vec<Slot>,
    stamped: Vec<Slot>,
}

/// What a [`CounterDeltas`] says of a series.
#[derive(Clone, Copy, Debug)]
pub(super) enum Delta {
    /// So much is to be added.
    Sum(f64),
    /// It is to be set to the time.
    Stamp,
}

impl CounterDeltas {
    /// Adds to a counter; nothing for [`Slot::NONE`]. The amount must not be negative.
    #[inline]
    pub fn add(&mut self, slot: Slot, amount: f64) {
        match self.sums.get_mut(slot.0 as usize) {
            Some(sum) if *sum >= 0.0 => *sum += amount,
            _ => {
                if self.touch(slot, amount) {
                    self.added.push(slot);
                }
            }
        }
    }

    /// Sets a gauge to the time of the flush.
    #[inline]
    pub fn stamp(&mut self, slot: Slot) {
        match self.sums.get(slot.0 as usize) {
            Some(sum) if *sum >= 0.0 => {}
            _ => {
                if self.touch(slot, 0.0) {
                    self.stamped.push(slot);
                }
            }
        }
    }

    /// Begins the sum of a series; false if there is no series.
    #[cold]
    fn touch(&mut self, slot: Slot, amount: f64) -> bool {
        let is_one = !matches!(slot, Slot::NONE | Slot::UNKNOWN);
        if is_one {
            let at = slot.0 as usize;
            if self.sums.len() <= at {
                self.sums.resize(at + 1, UNTOUCHED);
            }
            self.sums[at] = amount;
        }
        is_one
    }

    /// Calls `each` for every series once, and begins anew.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Slot, Delta)) {
        let Self {
            sums,
            added,
            stamped,
        } = self;
        let mut take = |slot: Slot| {
            sums.get_mut(slot.0 as usize)
                .map_or(0.0, |sum| std::mem::replace(sum, UNTOUCHED))
        };
        for slot in added.drain(..) {
            each(slot, Delta::Sum(take(slot)));
        }
        for slot in stamped.drain(..) {
            take(slot);
            each(slot, Delta::Stamp);
        }
    }

    /// Whether there is nothing to flush.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.stamped.is_empty()
    }
}
