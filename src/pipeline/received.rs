//! Messages that a source has cut out itself become counts, as lines of files do.

use std::sync::Arc;

use arrayvec::ArrayVec;
use hashbrown::HashMap;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use super::{APPLIANCES_SHOWN_MAX, PathCounts};
use crate::config::Source;
use crate::engine::{Engine, Outcome, Repeats, StreamContext, Worker};
use crate::metric::ApplianceId;
use crate::own_metrics::OwnMetrics;
use crate::record::Clock;
use crate::source;

/// Senders of each kind whose state is kept; beyond that all are looked up anew.
const SENDERS_MAX: usize = 20_000;
/// Senders whose forged lines are counted for each; those of others count under `other`.
const FORGERS_MAX: usize = 1_000;

/// What is kept of a stream of messages.
#[derive(Debug)]
pub(super) struct Received {
    name: String,
    /// Those that are known by something else than a header.
    named: HashMap<String, Sender>,
    /// Those whose headers say who they are, by the name to use without one.
    by_header: HashMap<String, Sender>,
    lines_read: Counter,
    bytes_read: Counter,
    counts: Arc<Mutex<PathCounts>>,
    repeats: Arc<Mutex<Repeats>>,
    own: Arc<OwnMetrics>,
}

#[derive(Debug)]
struct Sender {
    origin: StreamContext,
    /// Who it is, unless the headers say it.
    name: Option<String>,
    /// The host in the header of its last line, if that is another appliance's, and when that was found out.
    header: Option<Header>,
}

#[derive(Debug)]
struct Header {
    host: Vec<u8>,
    at: u32,
    forged: Option<Counter>,
}

impl Received {
    pub(super) fn new(
        source: &Source,
        own: Arc<OwnMetrics>,
        counts: Arc<Mutex<PathCounts>>,
        repeats: Arc<Mutex<Repeats>>,
    ) -> Self {
        let name = source.name.as_str();
        Received {
            named: HashMap::new(),
            by_header: HashMap::new(),
            lines_read: own.lines_read.get([name]),
            bytes_read: own.bytes_read.get([name]),
            name: name.to_owned(),
            counts,
            repeats,
            own,
        }
    }

    /// Other rules, another table.
    pub(super) fn reset(&mut self) {
        self.named.clear();
        self.by_header.clear();
    }

    /// Counts messages.
    pub(super) fn count(
        &mut self,
        worker: &mut Worker,
        source: &Source,
        clock: &Clock,
        messages: &mut dyn Iterator<Item = source::Message<'_>>,
    ) {
        let engine = worker.engine().clone();
        let seconds = u32::try_from(clock.now.as_second()).unwrap_or(0);
        let (mut lines, mut bytes) = (0, 0);
        // Of a batch, the first few are enough to be shown.
        let mut heard = ArrayVec::<ApplianceId, APPLIANCES_SHOWN_MAX>::new();
        let mut repeats = self.repeats.lock();
        let mut batch = worker.batch(seconds, Some(&mut repeats));
        for message in messages {
            let (senders, name) = match message.sender {
                source::Sender::Named(name) => (&mut self.named, name),
                source::Sender::Header(name) => (&mut self.by_header, name),
            };
            if senders.len() >= SENDERS_MAX && !senders.contains_key(name) {
                senders.clear();
            }
            let sender = senders
                .entry_ref(name)
                .or_insert_with(|| Sender::new(message.sender, source, clock));
            sender.origin.clock.now = clock.now;
            let Sender {
                origin,
                name: sender_name,
                header,
            } = sender;
            let check = |outcome: Outcome<'_, '_>| {
                let (Some(name), Some(host)) = (&*sender_name, outcome.record.host) else {
                    return;
                };
                let is_known = |known: &Header| known.at == seconds && known.host == host;
                if !header.as_ref().is_some_and(is_known) {
                    *header = Some(Header {
                        forged: forged(&engine, &self.own, &self.name, name, host),
                        host: host.to_vec(),
                        at: seconds,
                    });
                }
                if let Some(forged) = header.as_ref().and_then(|header| header.forged.as_ref()) {
                    forged.inc();
                }
            };
            batch.line_with(origin, message.bytes, |_, _| {}, check);
            if let Some(appliance) = origin.last_appliance()
                && !heard.is_full()
                && !heard.contains(&appliance)
            {
                heard.push(appliance);
            }
            lines += 1;
            bytes += message.bytes.len() as u64;
        }
        drop(batch);
        self.lines_read.inc_by(lines);
        self.bytes_read.inc_by(bytes);
        let mut counts = self.counts.lock();
        counts.lines += lines;
        counts.senders = self.named.len() + self.by_header.len();
        if counts.appliances.len() < APPLIANCES_SHOWN_MAX {
            let table = engine.table();
            for appliance in heard {
                let name = table.appliance_name(appliance);
                if counts.appliances.len() < APPLIANCES_SHOWN_MAX
                    && !counts.appliances.contains(name)
                {
                    counts.appliances.insert(name.to_owned());
                }
            }
        }
    }
}

impl Sender {
    fn new(sender: source::Sender<'_>, source: &Source, clock: &Clock) -> Self {
        let mut origin = StreamContext::new(clock.clone());
        origin.profile = source.profile.clone();
        origin.relays = source.relays.clone();
        match sender {
            source::Sender::Named(name) => origin.appliance = Some(name.to_owned()),
            source::Sender::Header(name) => origin.fallback = Some(name.to_owned()),
        }
        Sender {
            name: origin.appliance.clone(),
            origin,
            header: None,
        }
    }
}

/// Where the lines of somebody are counted who writes the name of another known appliance into their header.
fn forged(
    engine: &Engine,
    own: &OwnMetrics,
    source: &str,
    sender: &str,
    host: &[u8],
) -> Option<Counter> {
    let host = std::str::from_utf8(host).ok()?;
    if host == sender || !engine.table().knows_appliance(host) {
        return None;
    }
    let forged = &own.syslog.forged_lines;
    let is_counted = forged.len() < FORGERS_MAX;
    Some(forged.get([source, if is_counted { sender } else { "other" }]))
}
