//! The connections of a source that are open, and who has to go when there are too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

/// A connection on which a message came since then is not closed for another's sake.
const IDLE: Duration = Duration::from_secs(60);

/// Connections beyond the limits of all sources that are given a moment at the same time. Each has a descriptor.
const MOMENTS_MAX: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<Open>,
    /// Notified when one is over.
    over: Notify,
    moments: Semaphore,
}

impl Default for Connections {
    fn default() -> Self {
        Connections::of_one_source(1)
    }
}

#[derive(Debug, Default)]
struct Open {
    last_id: u64,
    by_id: HashMap<u64, Entry>,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    /// Nothing for a balancer whose header has not come yet.
    address: Option<IpAddr>,
    /// When a message came last; when it was opened if none did.
    active: Instant,
    has_sent: bool,
    evicted: Arc<Notify>,
}

/// An open connection; closed when it is dropped.
#[derive(Debug)]
pub(super) struct Connection<'c> {
    connections: &'c Connections,
    id: u64,
    /// Ready when it has to make way for another.
    pub(super) evicted: Arc<Notify>,
}

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) all: usize,
    pub(super) of_one_address: usize,
}

impl Connections {
    /// Those of one of so many sources.
    pub(super) fn of_one_source(sources: usize) -> Self {
        Connections {
            open: Mutex::default(),
            over: Notify::new(),
            moments: Semaphore::new((MOMENTS_MAX / sources.max(1)).max(1)),
        }
    }

    /// What `attempt` gives, if need be after others are over. Of somebody who connects anew for each message, the former
    /// connections may be over, and it takes a moment until that is known.
    pub(super) async fn wait<T>(
        &self,
        moment: Duration,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if let Some(got) = attempt() {
            return Some(got);
        }
        let until_got = async {
            loop {
                let over = self.over.notified();
                if let Some(got) = attempt() {
                    return got;
                }
                over.await;
            }
        };
        self.within(moment, until_got).await
    }

    /// What a future gives within a moment. Nothing if too many are waited for.
    pub(super) async fn within<T>(
        &self,
        moment: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let _permit = self.moments.try_acquire().ok()?;
        timeout(moment, future).await.ok()
    }

    /// A place for a connection from this address, if need be that of one on which no message comes; of the same address,
    /// if that has too many. `None` if there is none.
    pub(super) fn open(
        &self,
        address: Option<IpAddr>,
        limits: Limits,
        now: Instant,
    ) -> Option<Connection<'_>> {
        let mut open = self.open.lock();
        open.make_space_of(address, limits, now)?;
        if open.by_id.len() >= limits.all {
            open.evict(now, |_| true)?;
        }
        open.last_id += 1;
        let id = open.last_id;
        let evicted = Arc::new(Notify::new());
        let entry = Entry {
            address: None,
            active: now,
            has_sent: false,
            evicted: evicted.clone(),
        };
        open.by_id.insert(id, entry);
        open.set_address(id, address);
        drop(open);
        Some(Connection {
            connections: self,
            id,
            evicted,
        })
    }
}

impl Open {
    fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    fn set_address(&mut self, id: u64, address: Option<IpAddr>) {
        if let Some(entry) = self.by_id.get_mut(&id)
            && let Some(address) = address
        {
            entry.address = Some(address);
            *self.by_address.entry(address).or_default() += 1;
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        if let Some(address) = entry.address
            && let Some(count) = self.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(entry)
    }

    /// Evicts one of this address if it has as many as it may.
    fn make_space_of(
        &mut self,
        address: Option<IpAddr>,
        limits: Limits,
        now: Instant,
    ) -> Option<()> {
        match address {
            Some(address) if self.of(address) >= limits.of_one_address => {
                self.evict(now, |entry| entry.address == Some(address))
            }
            _ => Some(()),
        }
    }

    /// Evicts the oldest that never sent a message, else the one that has been idle for longest.
    fn evict(&mut self, now: Instant, is_meant: impl Fn(&Entry) -> bool) -> Option<()> {
        let oldest = |has_sent| {
            let of = (self.by_id.iter())
                .filter(|(_, entry)| entry.has_sent == has_sent && is_meant(entry));
            of.min_by_key(|(id, entry)| (entry.active, **id))
        };
        let idle = || {
            oldest(true).filter(|(_, entry)| now.saturating_duration_since(entry.active) >= IDLE)
        };
        let gone = oldest(false).or_else(idle).map(|(id, _)| *id)?;
        self.remove(gone)?.evicted.notify_one();
        Some(())
    }
}

impl Connection<'_> {
    /// A message came.
    pub(super) fn is_active(&self, now: Instant) {
        if let Some(entry) = self.connections.open.lock().by_id.get_mut(&self.id) {
            entry.active = now;
            entry.has_sent = true;
        }
    }

    /// Nothing was read of it, for want of space: if it has sent before, it is not idle.
    pub(super) fn is_waiting(&self, now: Instant) {
        if let Some(entry) = self.connections.open.lock().by_id.get_mut(&self.id)
            && entry.has_sent
        {
            entry.active = now;
        }
    }

    /// The header of a balancer names the sender's address; false if that has too many connections.
    pub(super) fn is_of(&self, address: IpAddr, limits: Limits, now: Instant) -> bool {
        let mut open = self.connections.open.lock();
        let has_space = open.make_space_of(Some(address), limits, now).is_some();
        if has_space {
            open.set_address(self.id, Some(address));
        }
        has_space
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.connections.open.lock().remove(self.id);
        self.connections.over.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_way() {
        let limits = Limits {
            all: 3,
            of_one_address: 2,
        };
        let connections = Connections::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let open = |last: u8, now| connections.open(Some([192, 0, 2, last].into()), limits, now);
        let first = open(1, at(0)).unwrap();
        first.is_active(at(0));
        let second = open(1, at(1)).unwrap();
        let third = open(2, at(2)).unwrap();
        // The one that never sent anything goes, though it is younger than the first.
        let fourth = open(3, at(3)).unwrap();
        let evicted = second.evicted.clone();
        let mut gone = std::pin::pin!(evicted.notified());
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(gone.as_mut().poll(&mut context).is_ready());
        assert_eq!(connections.open.lock().by_id.len(), 3);
        drop(second);
        assert_eq!(connections.open.lock().by_id.len(), 3);
        third.is_active(at(4));
        fourth.is_active(at(5));
        assert!(
            open(4, at(59)).is_none(),
            "all have sent in the last minute"
        );
        let fifth = open(4, at(60)).unwrap();
        drop((first, third, fourth, fifth));
        assert_eq!(connections.open.lock().by_id.len(), 0);
        assert!(connections.open.lock().by_address.is_empty());
    }

    #[test]
    fn who_makes_way_for_another_of_the_same_address() {
        let limits = Limits {
            all: 9,
            of_one_address: 2,
        };
        let connections = Connections::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let open = |last: u8, now| connections.open(Some([192, 0, 2, last].into()), limits, now);
        let is_open = |id| connections.open.lock().by_id.contains_key(&id);
        let other = open(2, at(0)).unwrap();
        let first = open(1, at(1)).unwrap();
        let second = open(1, at(2)).unwrap();
        // Neither has sent a message.
        let third = open(1, at(3)).unwrap();
        assert_eq!((is_open(first.id), is_open(second.id)), (false, true));
        second.is_active(at(4));
        third.is_active(at(5));
        assert!(
            open(1, at(63)).is_none(),
            "both have sent in the last minute"
        );
        let fourth = open(1, at(64)).unwrap();
        assert_eq!((is_open(second.id), is_open(third.id)), (false, true));
        assert!(is_open(other.id), "it is of another address");
        drop((first, second, third, fourth, other));
        assert!(connections.open.lock().by_address.is_empty());
    }

    #[test]
    fn a_balancer_passes_on_connections_of_several() {
        let limits = Limits {
            all: 9,
            of_one_address: 1,
        };
        let connections = Connections::default();
        let now = Instant::now();
        let open = || connections.open(None, limits, now).unwrap();
        let (one, two, three) = (open(), open(), open());
        assert!(one.is_of([192, 0, 2, 1].into(), limits, now));
        assert!(two.is_of([192, 0, 2, 2].into(), limits, now));
        two.is_active(now);
        assert!(!three.is_of([192, 0, 2, 2].into(), limits, now));
        drop(two);
        assert!(three.is_of([192, 0, 2, 2].into(), limits, now));
    }
}
