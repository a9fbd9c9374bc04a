//! What all sockets of one source share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use super::buffer::Buffer;
use super::connections::{Connections, Limits};
use super::identity::Identity;
use super::tls;
use crate::config::Transport;
use crate::own_metrics::{DropReason, OwnMetrics};
use crate::source::ListenerStatus;

/// What a reload exchanges. It applies to new connections, and to the next datagram.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) identity: Identity,
    pub(super) tls: Option<tls::Loaded>,
    /// The longest message, in bytes; what is beyond is cut.
    pub(super) line_bytes: usize,
}

impl Rules {
    fn show_expiry(&self, source: &str, own: &OwnMetrics) {
        if let Some(expiry) = self.tls.as_ref().and_then(|tls| tls.expiry) {
            own.syslog.certificate_expiry.get([source]).set(expiry);
        }
    }
}

/// What a connection has time for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For a TLS handshake, and for a PROXY header.
    pub(super) handshake: Duration,
    /// For a frame from its first byte to its last.
    pub(super) frame: Duration,
    /// For a new one, to find a place; for one that must make way, to be read as far as it has come.
    pub(super) moment: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            handshake: Duration::from_secs(10),
            frame: Duration::from_secs(60),
            moment: Duration::from_secs(1),
        }
    }
}

/// The receivers of a source.
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) buffer: Buffer,
    pub(super) dropped: Arc<Dropped>,
    pub(super) connections: Connections,
    /// Connections for which there are descriptors.
    pub(super) connections_max: usize,
    pub(super) times: Times,
    pub(super) own: Arc<OwnMetrics>,
    rules: Mutex<Arc<Rules>>,
    stopping: Arc<AtomicBool>,
}

/// Messages that are not counted as a whole, and datagrams that never came.
#[derive(Debug)]
pub(super) struct Dropped {
    by_reason: [(DropReason, Counter); DropReason::ALL.len()],
    /// How many there were, and when and why the last one.
    all: Mutex<(u64, Option<(Instant, &'static str)>)>,
}

impl Dropped {
    pub(super) fn new(source: &str, own: &OwnMetrics) -> Self {
        let counter = |reason: DropReason| own.syslog.lines_dropped.get([source, reason.as_str()]);
        Dropped {
            by_reason: DropReason::ALL.map(|reason| (reason, counter(reason))),
            all: Mutex::default(),
        }
    }

    pub(super) fn count(&self, reason: DropReason) {
        self.count_by(reason, 1);
    }

    pub(super) fn count_by(&self, reason: DropReason, messages: u64) {
        let mut counters = self.by_reason.iter();
        if let Some((_, counter)) = counters.find(|(known, _)| *known == reason) {
            counter.inc_by(messages);
        }
        self.happened(reason.as_str(), messages);
    }

    /// Something was dropped just now, and is counted elsewhere.
    pub(super) fn happened(&self, reason: &'static str, messages: u64) {
        let mut all = self.all.lock();
        *all = (all.0 + messages, Some((Instant::now(), reason)));
    }
}

impl Listener {
    pub(super) fn new(
        name: &str,
        buffer: Buffer,
        dropped: Arc<Dropped>,
        rules: Rules,
        own: Arc<OwnMetrics>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        rules.show_expiry(name, &own);
        Listener {
            name: name.to_owned(),
            buffer,
            dropped,
            connections: Connections::default(),
            connections_max: usize::MAX,
            times: Times::default(),
            rules: Mutex::new(Arc::new(rules)),
            own,
            stopping,
        }
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.lock().clone()
    }

    pub(super) fn limits(&self) -> Limits {
        let rules = self.rules();
        let settings = rules.identity.settings();
        Limits {
            all: settings.max_connections.min(self.connections_max),
            of_one_address: settings.max_connections_per_address,
        }
    }

    pub(super) fn replace_rules(&self, rules: Rules) {
        rules.show_expiry(&self.name, &self.own);
        *self.rules.lock() = Arc::new(rules);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn status(&self) -> ListenerStatus {
        let own = &self.own.syslog;
        let transports = self.rules().identity.settings().transports();
        let streams = transports.iter().filter(|one| **one != Transport::Udp);
        let connections = streams.map(|transport| {
            let name = transport.as_str();
            let open = own.open_connections.get([&self.name, name]).get();
            (name, u64::try_from(open).unwrap_or(0))
        });
        let (dropped, last_drop) = *self.dropped.all.lock();
        ListenerStatus {
            connections: connections.collect(),
            kept_bytes: self.buffer.figures().0,
            dropped,
            last_drop,
        }
    }

    /// Counts messages by what marked their end.
    pub(super) fn frames(&self, framing: &str) -> Counter {
        self.own.syslog.frames.get([&self.name, framing])
    }
}

#[cfg(test)]
impl Listener {
    /// The source `wire` with these settings, without a state directory; messages of up to 1000 bytes.
    pub(super) fn of_test(settings: crate::config::Syslog) -> (Self, super::buffer::Reader) {
        let source = crate::config::Source::of_syslog_flags(settings);
        let identity = Identity::of(&source).unwrap();
        let tls = identity.settings().tls.as_ref();
        let tls = tls.map(|settings| tls::load(settings).ok().unwrap());
        let wake = super::buffer::Wake {
            signalled: Arc::default(),
            wake: Arc::new(|| {}),
        };
        let (buffer, reader) = Buffer::queue(wake);
        let own = OwnMetrics::new("", "", std::time::SystemTime::now());
        let dropped = Arc::new(Dropped::new("wire", &own));
        let rules = Rules {
            identity,
            tls,
            line_bytes: 1_000,
        };
        let listener = Listener::new(
            "wire",
            buffer,
            dropped,
            rules,
            Arc::new(own),
            Arc::default(),
        );
        (listener, reader)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}
