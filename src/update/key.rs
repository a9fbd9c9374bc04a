//! What series are found by.

use super::Line;
use crate::rules::RuleId;

/// What decides which series a line leads to. No key is the beginning of another one: the rule says how many values follow,
/// and each stands behind its length.
#[derive(Debug, Default)]
pub(super) struct RowKey(Vec<u8>);

impl RowKey {
    /// That of a line before any value, in place of what was there.
    #[inline]
    pub(super) fn start(&mut self, line: &Line<'_>, rule: Option<RuleId>) {
        let record = line.record;
        let rule = rule.map_or(u32::MAX, |rule| rule.0);
        let program = record.program_id.map_or(u16::MAX, |id| id.0);
        let severity = record.severity.map_or(u8::MAX, |severity| severity as u8);
        let what = u32::from(program) << 16 | u32::from(severity) << 8 | u32::from(record.test);
        self.0.clear();
        for part in [rule, line.appliance.0, what] {
            self.0.extend_from_slice(&part.to_le_bytes());
        }
    }

    /// Adds a value, or that there is none.
    #[inline]
    pub(super) fn push(&mut self, value: Option<&[u8]>) {
        // No text is so long as to be taken for none.
        let len = value.map_or(u32::MAX, |value| value.len() as u32);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(value.unwrap_or_default());
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
