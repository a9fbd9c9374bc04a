//! Which series a line leads to, by what it captured.
//!
//! ```text
//!  key: rule, appliance, program, severity, test, values
//!        │ hash
//!        ▼                 keys                              cells
//!  ┌──────────┐  key   ┌───────────────────────┐  start   ┌─────────────────────────────┐
//!  │ row      │ ─────▶ │ 7 4 12 2 0 · 3 "eth" …│   ┌────▶ │ series of line and counters,│
//!  │          │ ───────┼───────────────────────┼───┘      │ then of each step or its plan│
//!  └──────────┘        └───────────────────────┘          └─────────────────────────────┘
//! ```
//!
//! An entry takes some 50 bytes besides its values, and there is one only for what was met: nothing is laid out for
//! every rule of every appliance. When a limit is reached everything is cleared, which costs no more than to look the
//! same series up in the table again.
//!
//! **Not used** to remember the value of an update: it may be another one in each line.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::key::RowKey;
use super::state_set::Planned;
use crate::metric::Slot;
use crate::record::starts_with;

/// A series, or a plan, that was not looked up yet.
pub(super) const UNKNOWN: u32 = Slot::UNKNOWN.0;

/// Bounds of one thread's memo.
#[derive(Clone, Copy, Debug)]
pub struct MemoLimits {
    /// Combinations of rule, program, appliance and values.
    pub rows_max: usize,
    /// Bytes of values.
    pub key_bytes_max: usize,
    /// State sets and comparisons.
    pub plans_max: usize,
}

impl Default for MemoLimits {
    fn default() -> Self {
        Self {
            rows_max: 1 << 18,
            key_bytes_max: 8 << 20,
            plans_max: 1 << 14,
        }
    }
}

/// The memo of one thread.
#[derive(Debug, Default)]
pub(super) struct SeriesMemo {
    limits: MemoLimits,
    rows: HashTable<Row>,
    /// By row what its [`RowKey`] held.
    keys: Vec<u8>,
    hasher: DefaultHashBuilder,
    /// By row the series of the line, its counters and steps, or for steps of several series the number of a plan;
    /// [`UNKNOWN`] before the first time.
    pub(super) cells: Vec<u32>,
    pub(super) plans: Vec<Planned>,
}

#[derive(Debug)]
struct Row {
    hash: u64,
    /// Where its key begins among the keys.
    key: u32,
    /// Where its cells begin.
    start: u32,
}

impl SeriesMemo {
    pub(super) fn new(limits: MemoLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Clears everything if a limit is reached. What one line adds fits in between.
    #[inline]
    pub(super) fn make_room(&mut self) {
        let limits = self.limits;
        if self.rows.len() >= limits.rows_max
            || self.keys.len() >= limits.key_bytes_max
            || self.plans.len() >= limits.plans_max
        {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.keys.clear();
        self.cells.clear();
        self.plans.clear();
    }

    /// Where the cells of a key begin, so many, [`UNKNOWN`] if it is new.
    #[inline]
    pub(super) fn row(&mut self, key: &RowKey, cells: usize) -> usize {
        let key = key.bytes();
        let hash = self.hasher.hash_one(key);
        let is_same = |row: &Row| {
            let known = self.keys.get(row.key as usize..).unwrap_or_default();
            row.hash == hash && starts_with(known, key)
        };
        match self.rows.find(hash, is_same) {
            Some(row) => row.start as usize,
            None => self.insert(hash, key, cells),
        }
    }

    #[cold]
    fn insert(&mut self, hash: u64, key: &[u8], cells: usize) -> usize {
        let start = self.cells.len();
        let row = Row {
            hash,
            key: self.keys.len() as u32,
            start: start as u32,
        };
        self.rows.insert_unique(hash, row, |row| row.hash);
        self.keys.extend_from_slice(key);
        self.cells.resize(start + cells, UNKNOWN);
        start
    }

    /// Keeps a plan in place of the one with the number `known`, if there is one.
    #[cold]
    pub(super) fn keep(&mut self, cell: usize, known: u32, plan: Planned) {
        match self.plans.get_mut(known as usize) {
            Some(old) => *old = plan,
            None => {
                self.cells[cell] = self.plans.len() as u32;
                self.plans.push(plan);
            }
        }
    }
}
