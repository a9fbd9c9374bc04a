//! What one thread has counted, until the table hears of it.

use super::Slot;

/// A series that nothing was added to. Amounts are never negative, so no sum is.
const UNTOUCHED: f64 = -1.0;

/// Additions to counters that the table does not know yet, summed up by series: threads that read lines need not wait for
/// each other at every one of them. [`Table::apply`](super::Table::apply) hands them over.
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
            Some(sum) => {
                *sum = amount;
                self.added.push(slot);
            }
            None => self.grow(slot, amount),
        }
    }

    /// Sets a gauge to the time at which the tally is handed over.
    #[inline]
    pub fn stamp(&mut self, slot: Slot) {
        match self.sums.get_mut(slot.0 as usize) {
            Some(sum) if *sum >= 0.0 => {}
            Some(sum) => {
                *sum = 0.0;
                self.stamped.push(slot);
            }
            None => self.grow_to(slot, Self::stamp),
        }
    }

    #[cold]
    fn grow(&mut self, slot: Slot, amount: f64) {
        self.grow_to(slot, |this, slot| this.add(slot, amount));
    }

    fn grow_to(&mut self, slot: Slot, then: impl FnOnce(&mut Self, Slot)) {
        if !matches!(slot, Slot::NONE | Slot::UNKNOWN) {
            self.sums.resize(slot.0 as usize + 1, UNTOUCHED);
            then(self, slot);
        }
    }

    /// Tells everything, each series once, and begins anew.
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

    /// Whether the table has heard of everything.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.stamped.is_empty()
    }
}
