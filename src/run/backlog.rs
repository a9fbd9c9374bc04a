//! What waited when reading began, or when a reload added sources: until it is read, nothing is shown.

use std::time::{Duration, Instant};

use tracing::info;

use crate::tail::Progress;

/// Time between two log messages.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Bytes that were read, and those that were there to be read at the beginning. More may be written all the time, so
/// that nothing waits any more is no sign.
#[derive(Default)]
pub(super) struct Backlog {
    read_bytes: u64,
    all_bytes: Option<u64>,
    is_read: bool,
    report_at: Option<Instant>,
}

impl Backlog {
    /// Something was read; `waiting_bytes` says how much is left. Returns the length of the backlog once, when it is
    /// read; not before nothing [is held back](crate::followed::Files::has_unsaved).
    pub(super) fn read(
        &mut self,
        now: Instant,
        progress: Progress,
        is_held_back: bool,
        waiting_bytes: impl FnOnce() -> u64,
    ) -> Option<u64> {
        if self.is_read {
            return None;
        }
        self.read_bytes += progress.bytes;
        let all_bytes = *(self.all_bytes).get_or_insert_with(|| self.read_bytes + waiting_bytes());
        if !is_held_back && (!progress.more || self.read_bytes > all_bytes) {
            self.is_read = true;
            return Some(self.read_bytes);
        }
        self.report(now, all_bytes);
        None
    }

    /// A short one is not worth a message.
    fn report(&mut self, now: Instant, all_bytes: u64) {
        if now < *self.report_at.get_or_insert(now + PROGRESS_EVERY) {
            return;
        }
        self.report_at = Some(now + PROGRESS_EVERY);
        let percent = self.read_bytes.saturating_mul(100) / all_bytes.max(1);
        info!(
            read_bytes = self.read_bytes,
            left_bytes = all_bytes.saturating_sub(self.read_bytes),
            percent = percent.min(100),
            "reading the backlog"
        );
    }
}
