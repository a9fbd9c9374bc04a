//! What a thread cannot say of itself, and whether the clock was set.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use sd_notify::NotifyState;

use super::Shared;

/// A clock that differs by more from what has passed was set.
const CLOCK_SET: Duration = Duration::from_secs(60);

/// Tells systemd that the reading thread makes progress, as long as it does. Until the backlog is read this also extends
/// the time that a start may take.
pub(super) fn feed_watchdog(shared: &Shared, interval: Duration) {
    let extend = u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.heartbeat.age() < interval / 2 {
            let mut states = vec![NotifyState::Watchdog];
            if !shared.ready.load(Ordering::SeqCst) {
                states.push(NotifyState::ExtendTimeoutUsec(extend));
            }
            let _ = sd_notify::notify(&states);
        }
        std::thread::sleep(interval / 4);
    }
}

/// Finds out whether the clock was set.
pub(super) struct Clock {
    at: Instant,
    said: SystemTime,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            at: Instant::now(),
            said: SystemTime::now(),
        }
    }
}

impl Clock {
    /// By how many seconds it was, since this was last asked.
    pub(super) fn was_set(&mut self) -> Option<i64> {
        let now = Self::default();
        let expected = self.said + now.at.duration_since(self.at);
        *self = now;
        let (by, sign) = match self.said.duration_since(expected) {
            Ok(ahead) => (ahead, 1),
            Err(behind) => (behind.duration(), -1),
        };
        (by >= CLOCK_SET).then(|| i64::try_from(by.as_secs()).unwrap_or(i64::MAX) * sign)
    }
}
