//! Which series a line leads to, by what it captured.
//!
//! ```text
//!  hash of (rule, program, severity, appliance, test, values)
//!        │
//!        ▼                 keys                              cells
//!  ┌──────────┐  key   ┌───────────────────────┐  start   ┌─────────────────────────────┐
//!  │ row      │ ─────▶ │ 3 "eth" · absent · …  │   ┌────▶ │ series of line and counters,│
//!  │          │ ───────┼───────────────────────┼───┘      │ then of each step or its plan│
//!  └──────────┘        └───────────────────────┘          └─────────────────────────────┘
//! ```
//!
//! An entry takes some 50 bytes besides its values, and there is one only for what was met: nothing is laid out for
//! every rule of every appliance. When a limit is reached everything is cleared, which costs no more than to look the
//! same series up in the table again.
//!
//! **Not used** for more than [`SOURCES_MAX`](super::eval::SOURCES_MAX) values, for parameters with escapes, whose value does
//! not stand in the line as it is, and for rules whose series may depend on anything in a line. Their cells are dropped
//! behind the line.

use std::hash::{BuildHasher, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Line;
use super::eval::Values;
use super::state_set::Planned;
use crate::metric::Slot;
use crate::record::starts_with;
use crate::rules::RuleId;

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
    /// By row its values, each behind its length.
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
    fixed: RowKey,
    /// Where its values begin among the keys.
    key: u32,
    /// Where its cells begin.
    start: u32,
}

/// What decides, beside captures, which series a line leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowKey {
    /// The rule, or none, and the appliance.
    who: u64,
    /// The program, its severity and whether it is a test.
    what: u32,
}

impl RowKey {
    #[inline]
    pub(super) fn new(line: &Line<'_>, rule: Option<RuleId>) -> Self {
        let record = line.record;
        let rule = rule.map_or(u32::MAX, |rule| rule.0);
        let program = record.program_id.map_or(u16::MAX, |id| id.0);
        let severity = record.severity.map_or(u8::MAX, |severity| severity as u8);
        Self {
            who: u64::from(rule) << 32 | u64::from(line.appliance.0),
            what: u32::from(program) << 16 | u32::from(severity) << 8 | u32::from(record.test),
        }
    }
}

/// The cells of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells {
    /// Where they begin.
    pub(super) start: usize,
    /// How many plans there were, if they are not to be kept.
    unkept: Option<usize>,
}

/// The length of a value as it is cached. No text is so long as to be taken for an absent one.
fn len_of(value: Option<&[u8]>) -> u32 {
    value.map_or(u32::MAX, |value| value.len() as u32)
}

impl Row {
    /// Whether it is that of these values, as many as it was made from.
    #[inline]
    fn has(&self, keys: &[u8], values: &[Option<&[u8]>]) -> bool {
        let mut rest = keys.get(self.key as usize..).unwrap_or_default();
        values.iter().all(|value| {
            let Some((len, after)) = rest.split_first_chunk::<4>() else {
                return false;
            };
            let text = value.unwrap_or_default();
            let is_same = u32::from_le_bytes(*len) == len_of(*value) && starts_with(after, text);
            rest = after.get(text.len()..).unwrap_or_default();
            is_same
        })
    }
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

    /// The cells of a line with these values, so many, [`UNKNOWN`] if it is the first.
    #[inline]
    pub(super) fn row(&mut self, fixed: RowKey, values: &Values<'_>, cells: usize) -> Cells {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(fixed.who);
        hasher.write_u32(fixed.what);
        for value in values {
            hasher.write(value.unwrap_or_default());
        }
        let hash = hasher.finish();
        let found = self.rows.find(hash, |row| {
            row.hash == hash && row.fixed == fixed && row.has(&self.keys, values)
        });
        if let Some(row) = found {
            return Cells {
                start: row.start as usize,
                unkept: None,
            };
        }
        let row = Row {
            hash,
            fixed,
            key: self.keys.len() as u32,
            start: self.cells.len() as u32,
        };
        self.insert(row, values);
        Cells {
            unkept: None,
            ..self.unkept_row(cells)
        }
    }

    #[cold]
    fn insert(&mut self, row: Row, values: &Values<'_>) {
        for value in values {
            self.keys.extend_from_slice(&len_of(*value).to_le_bytes());
            self.keys.extend_from_slice(value.unwrap_or_default());
        }
        self.rows.insert_unique(row.hash, row, |row| row.hash);
    }

    /// So many cells for one line alone.
    #[cold]
    pub(super) fn unkept_row(&mut self, cells: usize) -> Cells {
        let start = self.cells.len();
        self.cells.resize(start + cells, UNKNOWN);
        Cells {
            start,
            unkept: Some(self.plans.len()),
        }
    }

    /// Drops the cells of a line that are not kept. They must be the last ones.
    #[inline]
    pub(super) fn drop_unkept(&mut self, cells: Cells) {
        if let Some(plans) = cells.unkept {
            self.cells.truncate(cells.start);
            self.plans.truncate(plans);
        }
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
