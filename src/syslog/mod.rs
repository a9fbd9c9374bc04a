//! Messages straight from the wire: UDP (RFC 5426), TCP (RFC 6587) and TLS (RFC 5425).
//!
//! Receivers cut what comes into messages, identify the sender, and put both into a buffer: a spool on disk if there is a
//! state directory, else a queue in memory. The reading thread takes it from there ([`Intake`]), as it takes bytes from
//! the tail. All buffers are bounded; when they are full, senders over TCP wait and datagrams are dropped by the kernel,
//! which counts them. `docs/receiving.md` says what is lost when.

mod buffer;
mod certificate;
mod connections;
mod entry;
pub mod framing;
mod identity;
mod listen;
mod listener;
mod proxy;
mod repeated;
mod spool;
mod stream;
mod tls;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::config::{Config, Source, Syslog};
use crate::diagnostic::Diagnostic;
use crate::own_metrics::{DropReason, OwnMetrics};
use crate::source::{self, OnDisk, Positions, Sink, Stream, StreamStatus};
use crate::tail::{FileId, Progress};
use buffer::{Buffer, Reader, Wake};
use connections::Connections;
use identity::Identity;
use listen::Socket;
pub use listen::{Bound, bind};
use listener::{Dropped, Listener, Rules};
use spool::Spool;

/// Bytes of entries that the reading thread takes at a time.
const READ_AT_ONCE: usize = 1 << 20;

/// Certificates and tables of every source that listens, read and checked.
#[derive(Debug, Default)]
pub struct Settings(Vec<(String, Rules)>);

impl Settings {
    /// Reads the certificates that the sources name.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(config: &Config) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut all = Vec::new();
        for (index, source) in config.sources.iter().enumerate() {
            let Some(identity) = Identity::of(source) else {
                continue;
            };
            let tls = match identity.settings().tls.as_ref().map(tls::load) {
                None => None,
                Some(Ok(tls)) => Some(tls),
                Some(Err(fault)) => {
                    let keys = ["syslog", "tls", fault.key];
                    faults.push(config.source_fault_at(index, &keys, fault.message, None));
                    None
                }
            };
            let line_bytes = config.limits.line_bytes;
            let rules = Rules {
                identity,
                tls,
                line_bytes,
            };
            all.push((source.name.clone(), rules));
        }
        match faults.is_empty() {
            true => Ok(Settings(all)),
            false => Err(faults),
        }
    }
}

/// What receivers need beside sockets and settings.
pub struct Options {
    /// Where spools are, if there is a state directory.
    pub directory: Option<PathBuf>,
    /// How far a former process had read them.
    pub positions: Positions,
    /// Where everything is counted.
    pub own: Arc<OwnMetrics>,
    /// Wakes the reading thread.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// The threads that receive. They stop on request, at the latest when it is dropped.
pub struct Receivers {
    listeners: Vec<Arc<Listener>>,
    datagrams: Vec<Datagrams>,
    stopping: Arc<AtomicBool>,
    stop: Arc<Notify>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A socket for datagrams.
struct Datagrams {
    /// The index of its listener.
    listener: usize,
    socket: Arc<UdpSocket>,
    /// What the kernel has dropped, when it was last asked.
    dropped: AtomicU32,
}

/// What the reading thread takes received messages from.
pub struct Intake {
    receivers: Arc<Receivers>,
    incoming: Vec<Incoming>,
    signalled: Arc<AtomicBool>,
}

/// What one source receives.
struct Incoming {
    stream: Stream,
    /// What it listens on.
    addresses: String,
    listener: Arc<Listener>,
    reader: Reader,
}

/// The name of a source as that of a directory.
pub(crate) fn directory_name(source: &str) -> String {
    let mut name = String::new();
    for byte in source.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

/// Begins to receive.
///
/// # Errors
/// A spool cannot be opened, or a thread cannot be started.
pub fn start(
    bound: Vec<Bound>,
    sources: &[Source],
    settings: Settings,
    options: Options,
) -> io::Result<(Arc<Receivers>, Intake)> {
    let stopping = Arc::new(AtomicBool::new(false));
    let signalled = Arc::new(AtomicBool::new(false));
    let mut incoming = Vec::new();
    let sources_count = settings.0.len();
    let connections_max = descriptors() / sources_count.max(1);
    for (name, rules) in settings.0 {
        let transports = rules.identity.settings().transports();
        let transports: Vec<&str> = transports.iter().map(|one| one.as_str()).collect();
        options.own.touch_received(&name);
        options.own.syslog.touch(&name, &transports);
        let addresses = rules.identity.settings().listen.iter();
        let addresses: Vec<_> = addresses.map(ToString::to_string).collect();
        let stream = Stream {
            source: name.as_str().into(),
            key: format!("syslog:{name}"),
        };
        let dropped = Arc::new(Dropped::new(&name, &options.own));
        let wake = Wake {
            signalled: signalled.clone(),
            wake: options.wake.clone(),
        };
        let (buffer, reader) = options.buffer(&stream, &rules, wake, &dropped)?;
        let wanted = rules.identity.settings().max_connections;
        if wanted > connections_max {
            warn!(
                source = name,
                wanted,
                connections_max,
                "there are not enough descriptors for max_connections; raise the limit of open files (LimitNOFILE of the service)"
            );
        }
        let mut listener = Listener::new(
            &name,
            buffer,
            dropped,
            rules,
            options.own.clone(),
            stopping.clone(),
        );
        listener.connections = Connections::of_one_source(sources_count);
        listener.connections_max = connections_max;
        incoming.push(Incoming {
            stream,
            addresses: addresses.join(", "),
            listener: Arc::new(listener),
            reader,
        });
    }
    let listeners: Vec<_> = (incoming.iter())
        .map(|incoming| incoming.listener.clone())
        .collect();
    if let Some(directory) = &options.directory {
        warn_of_orphans(directory, &listeners);
    }
    let mut receivers = Receivers {
        listeners,
        datagrams: Vec::new(),
        stopping,
        stop: Arc::new(Notify::new()),
        threads: Mutex::default(),
    };
    receivers.listen(bound, sources)?;
    let receivers = Arc::new(receivers);
    let intake = Intake {
        receivers: receivers.clone(),
        incoming,
        signalled,
    };
    Ok((receivers, intake))
}

/// Descriptors that connections may have: those of the process, less what scrapes, files and checkpoints need.
fn descriptors() -> usize {
    const LEFT: u64 = 256;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let connections = limit.map(|limit| limit.saturating_sub(LEFT).max(limit / 4));
    connections.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX))
}

impl Options {
    /// A queue, behind which a spool lies if there is a state directory.
    fn buffer(
        &self,
        stream: &Stream,
        rules: &Rules,
        wake: Wake,
        dropped: &Arc<Dropped>,
    ) -> io::Result<(Buffer, Reader)> {
        let Some(directory) = &self.directory else {
            return Ok(Buffer::queue(wake));
        };
        let position = self.positions.get(&stream.key)?.unwrap_or_default();
        let directory = directory.join(directory_name(&stream.source));
        let bytes_max = rules.identity.settings().spool_bytes;
        let spool = Spool::open(directory.clone(), bytes_max, position).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
        })?;
        let dropped = dropped.clone();
        Buffer::spool(spool, position, wake, move |messages| {
            warn!(directory = %directory.display(), messages, "messages are lost: the spool could not be written before the exporter stopped");
            dropped.count_by(DropReason::Unwritten, messages);
        })
    }
}

/// Spools of sources that are gone from the settings stay, since they may come back.
fn warn_of_orphans(directory: &Path, listeners: &[Arc<Listener>]) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let is_ours = |listener: &Arc<Listener>| name == *directory_name(&listener.name);
        if !listeners.iter().any(is_ours) {
            warn!(path = %entry.path().display(), "the spool of a source that the settings do not have; remove it if it is not needed");
        }
    }
}

impl Receivers {
    fn listen(&mut self, bound: Vec<Bound>, sources: &[Source]) -> io::Result<()> {
        let mut streams = Vec::new();
        for Bound {
            source,
            address,
            socket,
        } in bound
        {
            let name = sources.get(source).map(|source| &source.name);
            let at = self
                .listeners
                .iter()
                .position(|listener| Some(&listener.name) == name);
            let Some((at, listener)) =
                at.and_then(|at| Some((at, self.listeners.get(at)?.clone())))
            else {
                continue;
            };
            let local = match &socket {
                Socket::Streams(socket) => socket.local_addr(),
                Socket::Datagrams(socket) => socket.local_addr(),
            };
            if let Ok(local) = local {
                info!(source = listener.name, %address, port = local.port(), "listening for syslog");
            }
            match socket {
                Socket::Streams(socket) => streams.push((socket, address, listener)),
                Socket::Datagrams(socket) => {
                    if udp::dropped(&socket).is_none() {
                        warn!(source = listener.name, %address, "datagrams that the kernel drops cannot be counted: the socket belongs to another network namespace (PrivateNetwork=no in the service makes them visible)");
                    }
                    let socket = Arc::new(socket);
                    self.datagrams.push(Datagrams {
                        listener: at,
                        socket: socket.clone(),
                        dropped: AtomicU32::new(0),
                    });
                    let thread = std::thread::Builder::new()
                        .name("syslog-udp".into())
                        .spawn(move || udp::receive(&socket, &address, &listener))?;
                    self.threads.lock().push(thread);
                }
            }
        }
        if streams.is_empty() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = self.stop.clone();
        let thread = std::thread::Builder::new()
            .name("syslog-tcp".into())
            .spawn(move || {
                runtime.block_on(async move {
                    for (socket, address, listener) in streams {
                        match tokio::net::TcpListener::from_std(socket) {
                            Ok(socket) => {
                                tokio::spawn(stream::accept(socket, address, listener));
                            }
                            Err(error) => {
                                warn!(%address, err = %error, "connections cannot be accepted");
                            }
                        }
                    }
                    stop.notified().await;
                });
            })?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Takes over other tables and certificates, for new connections and the next datagrams.
    pub fn replace(&self, settings: Settings) {
        for (name, rules) in settings.0 {
            let mut listeners = self.listeners.iter();
            if let Some(listener) = listeners.find(|listener| listener.name == name) {
                listener.replace_rules(rules);
            }
        }
    }

    /// Brings the figures up to date that others count: the kernel's drops, the size of the buffers.
    fn refresh(&self) {
        for Datagrams {
            listener,
            socket,
            dropped,
        } in &self.datagrams
        {
            let Some(listener) = self.listeners.get(*listener) else {
                continue;
            };
            // Nothing where the kernel does not show what it drops of a socket.
            if let Some(now) = udp::dropped(socket) {
                let more = udp::more_dropped(dropped.swap(now, Ordering::SeqCst), now);
                let counter = &listener.own.syslog.datagrams_dropped;
                counter.get([&listener.name]).inc_by(more);
                if more > 0 {
                    listener.dropped.happened("receive buffer full", more);
                }
            }
        }
        for listener in &self.listeners {
            let (own, name) = (&listener.own.syslog, listener.name.as_str());
            let (bytes, full) = listener.buffer.figures();
            own.spool_bytes
                .get([name])
                .set(i64::try_from(bytes).unwrap_or(i64::MAX));
            raise(&own.spool_full_seconds.get([name]), full.as_secs_f64());
        }
    }

    /// Stops to receive: connections are closed, and nothing comes into the buffers any more.
    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.notify_one();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                warn!("a receiver has panicked");
            }
        }
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn raise(
    counter: &prometheus_client::metrics::counter::Counter<f64, std::sync::atomic::AtomicU64>,
    value: f64,
) {
    let more = value - counter.get();
    if more > 0.0 {
        counter.inc_by(more);
    }
}

impl Incoming {
    /// Hands over up to about so many bytes of entries. Returns how many that was.
    fn read(&mut self, bytes_max: usize, sink: &mut dyn Sink) -> usize {
        let Incoming {
            stream,
            listener,
            reader,
            ..
        } = self;
        let mut taken = 0;
        while taken < bytes_max {
            let Some(entries) = reader.read() else { break };
            taken += entries.len();
            let mut messages = entry::messages(entries).filter_map(|message| {
                if message.is_none() {
                    listener.dropped.count(DropReason::Damaged);
                }
                message
            });
            sink.messages(stream, &mut messages);
        }
        let lost = reader.take_lost_bytes();
        if lost > 0 {
            listener.dropped.count(DropReason::Damaged);
            warn!(
                source = listener.name,
                bytes = lost,
                "a part of the spool is no message"
            );
        }
        taken
    }
}

impl source::Source for Intake {
    /// Up to about 1 MiB of each source.
    fn read(&mut self, _: Instant, sink: &mut dyn Sink) -> Progress {
        // What comes from now on is signalled anew.
        self.signalled.store(false, Ordering::SeqCst);
        let (mut bytes, mut more) = (0, false);
        for incoming in &mut self.incoming {
            let taken = incoming.read(READ_AT_ONCE, sink);
            bytes += taken as u64;
            more |= taken >= READ_AT_ONCE;
        }
        Progress { bytes, more }
    }

    fn positions(&self, _: &dyn Fn(FileId) -> u64, positions: &mut Positions) -> Option<OnDisk> {
        let mut spools = Vec::new();
        for incoming in &self.incoming {
            if let Some(position) = incoming.reader.position() {
                positions.insert(&incoming.stream.key, position);
                spools.push((incoming.listener.clone(), position));
            }
        }
        Some(Box::new(move || {
            for (listener, position) in spools {
                listener.buffer.committed(position);
            }
        }))
    }

    fn status(&self, each: &mut dyn FnMut(StreamStatus)) {
        self.receivers.refresh();
        for incoming in &self.incoming {
            each(StreamStatus {
                source: incoming.stream.source.clone(),
                key: incoming.stream.key.clone().into(),
                name: incoming.addresses.clone(),
                lag_bytes: incoming.reader.lag_bytes(),
                error: None,
                file: None,
                listener: Some(incoming.listener.status()),
            });
        }
    }

    fn stop(&mut self, sink: &mut dyn Sink) {
        self.receivers.stop();
        for incoming in &self.incoming {
            incoming.listener.buffer.close();
        }
        // What is in a spool waits there for the next process.
        let queues = (self.incoming.iter_mut()).filter(|one| one.reader.position().is_none());
        for incoming in queues {
            incoming.read(usize::MAX, sink);
        }
    }
}

/// What cannot change while receivers run, by source.
pub fn fixed(sources: &[Source]) -> BTreeMap<&str, Syslog> {
    let listening = |source: &'_ Source| {
        let syslog = source.syslog()?;
        Some(Syslog {
            listen: syslog.listen.clone(),
            receive_buffer: syslog.receive_buffer,
            spool_bytes: syslog.spool_bytes,
            ..Syslog::default()
        })
    };
    sources
        .iter()
        .filter_map(|source| Some((source.name.as_str(), listening(source)?)))
        .collect()
}
