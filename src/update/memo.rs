//! Which series a line leads to, by what it captured.
//!
//! ```text
//!  hash of (rule, program, appliance, test, values)
//!        │
//!        ▼                 keys                              cells
//!  ┌──────────┐  key   ┌───────────────────────┐  start   ┌─────────────────────────────┐
//!  │ row      │ ─────▶ │ 3 "eth" · absent · …  │   ┌────▶ │ series of each counter, then│
//!  │          │ ───────┼───────────────────────┼───┘      │ of each step, or its plan   │
//!  └──────────┘        └───────────────────────┘          └─────────────────────────────┘
//! ```
//!
//! An entry takes some 50 bytes besides its values, and there is one only for what was met: nothing is laid out for
//! every rule of every appliance. When a limit is reached everything is cleared, which costs no more than to look the
//! same series up in the table again.
//!
//! **Not used** for values of more than [`KEY_BYTES_MAX`] bytes or [`SOURCES_MAX`] in number, and for
//! parameters with escapes, whose value does not stand in the line as it is.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};

use arrayvec::ArrayVec;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::eval::EvalContext;
use super::state_set::StateSetPlan;
use super::{RulePlan, Source};
use crate::metric::{ApplianceId, Slot};
use crate::record::starts_with;
use crate::rules::RuleId;

/// Longest combination of values that is cached, bytes.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Values in a combination that is cached.
const SOURCES_MAX: usize = 16;

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
    /// By row the series of its counters and steps, or for steps of several series the number of a plan; [`UNKNOWN`] before
    /// the first time.
    pub(super) cells: Vec<u32>,
    pub(super) plans: Vec<StateSetPlan>,
    /// How often a limit was reached.
    #[cfg(test)]
    pub(super) evictions: usize,
}

#[derive(Debug)]
struct Row {
    hash: u64,
    rule: RuleId,
    appliance: ApplianceId,
    /// Where its values begin among the keys.
    key: u32,
    /// Where its cells begin.
    start: u32,
    /// `u16::MAX` if no pack knows it.
    program: u16,
    test: bool,
}

/// The values of a rule's sources; a value may be absent.
type Values<'l> = ArrayVec<Option<&'l [u8]>, SOURCES_MAX>;

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
        let Self {
            limits,
            rows,
            keys,
            plans,
            ..
        } = self;
        if rows.len() >= limits.rows_max
            || keys.len() >= limits.key_bytes_max
            || plans.len() >= limits.plans_max
        {
            self.clear();
            #[cfg(test)]
            {
                self.evictions += 1;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.keys.clear();
        self.cells.clear();
        self.plans.clear();
    }

    /// Where the cells for what this line captured begin; none if that cannot be cached.
    #[inline]
    pub(super) fn lookup(
        &mut self,
        plan: &RulePlan,
        line: &EvalContext<'_>,
        rule: RuleId,
        appliance: ApplianceId,
    ) -> Option<usize> {
        let program = line.record.program_id.map_or(u16::MAX, |id| id.0);
        let test = line.record.test;
        let mut values = Values::new();
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(u64::from(rule.0) << 32 | u64::from(appliance.0));
        hasher.write_u32(u32::from(program) << 1 | u32::from(test));
        for source in &plan.sources {
            let value = match source {
                Source::Raw(from) => Some(line.raw(*from)),
                Source::Compared(at) => line.compared(*at).map(str::as_bytes),
                Source::Param(at) => match line.param(*at) {
                    Some(Cow::Owned(_)) => return None,
                    Some(Cow::Borrowed(value)) => Some(value),
                    None => None,
                },
            };
            hasher.write(value.unwrap_or_default());
            values.try_push(value).ok()?;
        }
        let hash = hasher.finish();
        let found = self.rows.find(hash, |row| {
            row.hash == hash
                && row.rule == rule
                && row.appliance == appliance
                && (row.program, row.test) == (program, test)
                && row.has(&self.keys, &values)
        });
        if let Some(row) = found {
            return Some(row.start as usize);
        }
        let row = Row {
            hash,
            rule,
            appliance,
            key: self.keys.len() as u32,
            start: self.cells.len() as u32,
            program,
            test,
        };
        self.insert(row, &values, plan.len)
    }

    #[cold]
    fn insert(&mut self, row: Row, values: &Values<'_>, cells: u32) -> Option<usize> {
        let bytes: usize = values.iter().flatten().map(|value| value.len()).sum();
        if bytes > KEY_BYTES_MAX {
            return None;
        }
        for value in values {
            self.keys.extend_from_slice(&len_of(*value).to_le_bytes());
            self.keys.extend_from_slice(value.unwrap_or_default());
        }
        let start = self.cells.len();
        self.cells.resize(start + cells as usize, UNKNOWN);
        self.rows.insert_unique(row.hash, row, |row| row.hash);
        Some(start)
    }

    /// Keeps a plan in place of the one with the number `known`, if there is one.
    #[cold]
    pub(super) fn keep(&mut self, cell: Option<usize>, known: u32, plan: StateSetPlan) {
        let Some(cell) = cell else { return };
        match self.plans.get_mut(known as usize) {
            Some(old) => *old = plan,
            None => {
                self.cells[cell] = self.plans.len() as u32;
                self.plans.push(plan);
            }
        }
    }
}
