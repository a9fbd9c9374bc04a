//! Births of counters, which are numbered so that a number says which of them somebody has been shown (`view.rs`).

use super::Table;

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

    /// Takes the place of `former`: time goes on, and births are numbered on.
    pub(crate) fn succeed(&mut self, former: &Table) {
        self.now = former.now;
        self.share_birth_numbers(former);
        self.last_birth = former.last_birth;
    }
}
