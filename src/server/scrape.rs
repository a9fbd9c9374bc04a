//! The bodies of scrapes: one is made at a time, all who asked for it before it was begun share it, and beside one
//! large body only small ones are in memory.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::connection::Connections;
use super::{App, Scope};
use crate::exposition::{Body, Coding, Format};

/// No body is begun while those that are still read take more bytes. So the largest body is in memory once, whatever
/// formats clients ask for.
const BYTES_MAX: usize = 32 << 20;
/// How long a scrape waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it looks whether there is memory for a body.
const RETRY: Duration = Duration::from_millis(50);

/// What bodies differ in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) scope: Scope,
    pub(super) format: Format,
    pub(super) coding: Coding,
    /// Counters that were born later are at 0.
    pub(super) shown: u64,
}

/// A body, shared by all answers that consist of it.
pub(super) struct Made {
    bytes: Vec<u8>,
    /// The last birth that it shows.
    pub(super) birth: u64,
}

impl Made {
    pub(super) fn bytes(self: &Arc<Self>) -> Bytes {
        struct Shared(Arc<Made>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                &self.0.bytes
            }
        }
        Bytes::from_owner(Shared(self.clone()))
    }
}

#[derive(Default)]
pub(super) struct Scrapes {
    /// Those that are still read. Locked while a body is made.
    recent: Arc<Mutex<Vec<Recent>>>,
}

struct Recent {
    variant: Variant,
    begun: Instant,
    made: Weak<Made>,
}

/// What bodies take that somebody reads.
fn bytes(recent: &[Recent]) -> usize {
    let read = recent.iter().filter_map(|one| one.made.upgrade());
    read.map(|made| made.bytes.len()).sum()
}

/// Why there is no body.
pub(super) enum Failure {
    /// Others were served first for too long.
    Busy,
    /// The application panicked.
    Panic(tokio::task::JoinError),
}

impl Scrapes {
    /// A body that was begun after this call. Clients that do not read theirs are evicted if there is no memory for it.
    pub(super) async fn body(
        &self,
        app: &Arc<dyn App>,
        variant: Variant,
        connections: &Connections,
    ) -> Result<Arc<Made>, Failure> {
        let asked = Instant::now();
        let turn = async {
            let mut recent = self.recent.clone().lock_owned().await;
            recent.retain(|one| one.made.strong_count() > 0);
            let shared = recent
                .iter()
                .filter(|one| one.variant == variant && one.begun >= asked)
                .find_map(|one| one.made.upgrade());
            while shared.is_none() && bytes(&recent) > BYTES_MAX {
                connections.evict_stalled();
                sleep(RETRY).await;
            }
            (recent, shared)
        };
        let (mut recent, shared) = timeout(WAIT_MAX, turn).await.map_err(|_| Failure::Busy)?;
        if let Some(shared) = shared {
            return Ok(shared);
        }
        let app = app.clone();
        let coding = variant.coding;
        // The lock goes along: should the client go away, the next body waits for this one nevertheless.
        let making = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let mut body = Body::new(coding);
            let birth = app.exposition(&variant.scope, variant.format, variant.shown, &mut body);
            let made = Arc::new(Made {
                bytes: body.finish(),
                birth,
            });
            recent.push(Recent {
                variant,
                begun,
                made: Arc::downgrade(&made),
            });
            made
        });
        making.await.map_err(Failure::Panic)
    }
}
