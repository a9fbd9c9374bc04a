//! For how long a buffer was full.

use std::time::{Duration, Instant};

/// Time without space, since the start.
#[derive(Debug, Default)]
pub(super) struct FullTime {
    since: Option<Instant>,
    before: Duration,
}

impl FullTime {
    /// Something found no space.
    pub(super) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Something found space.
    pub(super) fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.before += since.elapsed();
        }
    }

    /// Until now.
    pub(super) fn total(&self) -> Duration {
        let now = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.before + now
    }
}
