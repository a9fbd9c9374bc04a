//! Whether a thread makes progress, as another one sees it: a thread that hangs cannot say so itself. One that panics ends
//! the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::error;

use crate::logfmt;

/// Shared by the thread that is watched and those who watch it.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    started: Instant,
    /// When it last made progress, in milliseconds since `started`.
    last_ms: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    /// The thread makes progress.
    pub(crate) fn beat(&self) {
        let ms = self.started.elapsed().as_millis();
        self.last_ms
            .store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// For how long it has made none.
    pub(crate) fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }
}

/// Ends the process if the thread or task that holds it panics: an exporter that serves and does not read or receive would
/// look healthy. A supervisor starts it again, and with a state directory nothing is lost.
pub(crate) struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("a thread has panicked; ending");
            logfmt::flush(Duration::from_millis(500));
            std::process::abort();
        }
    }
}
