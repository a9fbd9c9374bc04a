//! The connections of a source that are open, and who has to go when there are too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::metric::lock;

/// A connection on which something came since then is not closed for another's sake.
const IDLE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last_id: u64,
    by_id: HashMap<u64, Entry>,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    /// Nothing for a balancer that has not said yet for whom it speaks.
    address: Option<IpAddr>,
    /// When something came last; when it was opened if nothing did.
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
    /// A place for a connection from this address, if need be that of one that sends nothing. `None` if there is none.
    pub(super) fn open(
        &self,
        address: Option<IpAddr>,
        limits: Limits,
        now: Instant,
    ) -> Option<Connection<'_>> {
        let mut open = lock(&self.0);
        if let Some(address) = address
            && open.of(address) >= limits.of_one_address
        {
            return None;
        }
        if open.by_id.len() >= limits.all {
            let gone = open.evictable(now)?;
            let entry = open.remove(gone)?;
            entry.evicted.notify_one();
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

    /// The oldest that never sent anything, else the one that has been idle for longest.
    fn evictable(&self, now: Instant) -> Option<u64> {
        let oldest = |has_sent| {
            let of = self
                .by_id
                .iter()
                .filter(move |(_, entry)| entry.has_sent == has_sent);
            of.min_by_key(|(id, entry)| (entry.active, **id))
        };
        let idle = || {
            oldest(true).filter(|(_, entry)| now.saturating_duration_since(entry.active) >= IDLE)
        };
        oldest(false).or_else(idle).map(|(id, _)| *id)
    }
}

impl Connection<'_> {
    /// Something came.
    pub(super) fn is_active(&self, now: Instant) {
        if let Some(entry) = lock(&self.connections.0).by_id.get_mut(&self.id) {
            entry.active = now;
            entry.has_sent = true;
        }
    }

    /// A balancer says for whom it speaks; false if that address has too many connections.
    pub(super) fn speaks_for(&self, address: IpAddr, limits: Limits) -> bool {
        let mut open = lock(&self.connections.0);
        if open.of(address) >= limits.of_one_address {
            return false;
        }
        open.set_address(self.id, Some(address));
        true
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        lock(&self.connections.0).remove(self.id);
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
        assert!(open(1, at(1)).is_none(), "two of one address");
        let third = open(2, at(2)).unwrap();
        // The one that never sent anything goes, though it is younger than the first.
        let fourth = open(3, at(3)).unwrap();
        let evicted = second.evicted.clone();
        let mut gone = std::pin::pin!(evicted.notified());
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(gone.as_mut().poll(&mut context).is_ready());
        assert_eq!(lock(&connections.0).by_id.len(), 3);
        drop(second);
        assert_eq!(lock(&connections.0).by_id.len(), 3);
        third.is_active(at(4));
        fourth.is_active(at(5));
        assert!(
            open(4, at(59)).is_none(),
            "all have sent in the last minute"
        );
        let fifth = open(4, at(60)).unwrap();
        drop((first, third, fourth, fifth));
        assert_eq!(lock(&connections.0).by_id.len(), 0);
        assert!(lock(&connections.0).by_address.is_empty());
    }

    #[test]
    fn a_balancer_speaks_for_several() {
        let limits = Limits {
            all: 9,
            of_one_address: 1,
        };
        let connections = Connections::default();
        let now = Instant::now();
        let open = || connections.open(None, limits, now).unwrap();
        let (one, two, three) = (open(), open(), open());
        assert!(one.speaks_for([192, 0, 2, 1].into(), limits));
        assert!(two.speaks_for([192, 0, 2, 2].into(), limits));
        assert!(!three.speaks_for([192, 0, 2, 2].into(), limits));
        drop(two);
        assert!(three.speaks_for([192, 0, 2, 2].into(), limits));
    }
}
