//! Births of counters, which are numbered so that a number says which of them somebody has been shown (`view.rs`).

use std::sync::atomic::Ordering;

use super::{Slot, Table};

impl Table {
    /// From now on each new counter has a birth: every scraper is shown it at 0 first, so that `increase()` sees its first
    /// event. Before, that is while a first start reads what it finds, a counter begins with what is known of the past.
    pub fn finish_backfill(&mut self) {
        self.backfilling = false;
    }

    /// From now on births are numbered together with those of `other`, so that one number says which births of both tables
    /// somebody has been shown.
    pub fn share_birth_numbers(&mut self, other: &Table) {
        self.birth_numbers = other.birth_numbers.clone();
    }

    /// What was restored was numbered by another process, which had shown its births up to `shown`. Later ones are born once
    /// more; earlier ones need not be shown at 0 again, which would be a reset.
    pub fn restart_births(&mut self, shown: u64) {
        for at in 0..self.labels.len() {
            if let Some(label) = &mut self.labels[at]
                && label.born <= shown
            {
                label.born = 0;
                self.change(Slot(at as u32));
            }
        }
        self.renumber_births(shown);
    }

    /// Gives all births after this one the next number: nobody was shown them, whatever else was shown meanwhile.
    pub fn renumber_births(&mut self, after: u64) {
        let mut next = None;
        for at in 0..self.labels.len() {
            let Some(label) = &mut self.labels[at] else {
                continue;
            };
            if label.born > after {
                let numbers = &self.birth_numbers;
                label.born =
                    *next.get_or_insert_with(|| numbers.fetch_add(1, Ordering::SeqCst) + 1);
                self.change(Slot(at as u32));
            }
        }
        self.last_birth = next.unwrap_or(self.last_birth);
    }

    /// Takes the place of `former`: time goes on, and births are numbered on.
    pub(crate) fn succeed(&mut self, former: &Table) {
        self.now = former.now;
        self.share_birth_numbers(former);
        self.last_birth = former.last_birth;
    }
}
