//! How much one thread caches.

use crate::update::MemoLimits;

/// Bounds of one thread's caches, in entries. One that is full is cleared.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Headers, up to where the message begins.
    pub headers: usize,
    /// Hosts, and the appliance that each one is.
    pub hosts: usize,
    /// What rules captured, and the series that it leads to.
    pub memo: MemoLimits,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            headers: 1 << 15,
            hosts: 20_000,
            memo: MemoLimits::default(),
        }
    }
}
