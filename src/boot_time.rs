//! Time since the machine was started: what a lease is measured by.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{DynamicClockId, clock_gettime_dynamic};

/// A time since the machine was started. Unlike [`std::time::Instant`], it also passes while the machine is suspended; like
/// it, nobody can set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// Later than any other.
    pub const END: Self = Self(Duration::MAX);

    /// The present. On a system without that clock it is the end of time, so that no lease holds; Linux has had it since
    /// 2.6.39.
    pub fn now() -> Self {
        let now = clock_gettime_dynamic(DynamicClockId::Boottime);
        now.map_or(Self::END, |now| {
            let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
            Self(Duration::new(
                seconds,
                u32::try_from(now.tv_nsec).unwrap_or(0),
            ))
        })
    }

    /// So long after the start.
    #[cfg(test)]
    pub fn after(start: Duration) -> Self {
        Self(start)
    }

    /// For how long that time has been over; zero if it is to come.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for BootTime {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_passes() {
        let before = BootTime::now();
        assert!(before > BootTime::default());
        let after = BootTime::now();
        assert!(after >= before);
        assert_eq!((before + Duration::from_secs(2)).since(before).as_secs(), 2);
        assert_eq!(
            before.since(before + Duration::from_secs(2)),
            Duration::ZERO
        );
    }
}
