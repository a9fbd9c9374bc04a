//! What all sockets of one source share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio_rustls::rustls::ServerConfig;

use super::buffer::Buffer;
use super::connections::Connections;
use super::identity::Identity;
use crate::metric::lock;
use crate::own_metrics::OwnMetrics;

/// What a reload exchanges. It applies to new connections, and to the next datagram.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) identity: Identity,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// What a connection has time for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For a TLS handshake, and for a PROXY header.
    pub(super) handshake: Duration,
    /// For a frame from its first byte to its last.
    pub(super) frame: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            handshake: Duration::from_secs(10),
            frame: Duration::from_secs(60),
        }
    }
}

/// The receivers of a source.
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) buffer: Buffer,
    /// The longest message, in bytes; what is beyond is cut.
    pub(super) line_bytes: usize,
    pub(super) dropped: Dropped,
    pub(super) connections: Connections,
    pub(super) times: Times,
    pub(super) own: Arc<OwnMetrics>,
    rules: Mutex<Arc<Rules>>,
    stopping: Arc<AtomicBool>,
}

/// Messages that are not counted as a whole, by reason.
pub(super) struct Dropped {
    pub(super) torn: Counter,
    pub(super) slow: Counter,
    pub(super) too_long: Counter,
    pub(super) damaged: Counter,
    pub(super) refused: Counter,
}

impl Listener {
    pub(super) fn new(
        name: &str,
        buffer: Buffer,
        line_bytes: usize,
        rules: Rules,
        own: Arc<OwnMetrics>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let dropped = |reason| own.syslog.lines_dropped.get([name, reason]);
        Listener {
            name: name.to_owned(),
            buffer,
            line_bytes,
            dropped: Dropped {
                torn: dropped("torn"),
                slow: dropped("slow"),
                too_long: dropped("too_long"),
                damaged: dropped("damaged"),
                refused: dropped("refused"),
            },
            connections: Connections::default(),
            times: Times::default(),
            rules: Mutex::new(Arc::new(rules)),
            own,
            stopping,
        }
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        lock(&self.rules).clone()
    }

    pub(super) fn replace_rules(&self, rules: Rules) {
        *lock(&self.rules) = Arc::new(rules);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Counts messages by what marked their end.
    pub(super) fn frames(&self, framing: &str) -> Counter {
        self.own.syslog.frames.get([&self.name, framing])
    }
}
