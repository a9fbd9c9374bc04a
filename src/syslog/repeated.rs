//! What is not logged each time.

use std::time::{Duration, Instant};

/// What happens again and again is logged once a minute.
#[derive(Debug, Default)]
pub(super) struct Repeated(Option<Instant>);

impl Repeated {
    pub(super) fn is_due(&mut self) -> bool {
        const LOG_EVERY: Duration = Duration::from_secs(60);
        let is_due = self.0.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}
