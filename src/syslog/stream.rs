//! Connections over TCP and TLS: a task for each, on one thread.
//!
//! Nothing that a sender writes ends its connection. What the buffer has no space for is not read, so the sender waits.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::certificate::name_of;
use super::connections::{Connection, Limits};
use super::entry::Tag;
use super::framing::{Framer, Framing, Rest};
use super::identity::Peer;
use super::listener::Listener;
use super::proxy;
use crate::config::{ListenAddress, Transport};
use crate::heartbeat::EndOnPanic;

/// When a peer that says nothing is asked whether it is there, how often again, and how many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);
/// How long what we send may stay without an answer.
const USER_TIMEOUT: Duration = Duration::from_secs(90);
/// After an `accept` that failed, for instance for want of file descriptors: the cause will last a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a full buffer is left alone at most.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// Connections are read one after the other, and what is kept of each is in its framer.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What became of a connection, as the label `result`.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Limit,
    TlsFailed,
    Refused,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Limit => "limit",
            Outcome::TlsFailed => "tls_failed",
            Outcome::Refused => "refused",
        }
    }
}

impl Listener {
    fn count_connection(&self, transport: Transport, result: &str) {
        let connections = &self.own.syslog.connections;
        connections
            .get([&self.name, transport.as_str(), result])
            .inc();
    }

    fn limits(&self) -> Limits {
        let rules = self.rules();
        let settings = rules.identity.settings();
        Limits {
            all: settings.max_connections,
            of_one_address: settings.max_connections_per_address,
        }
    }
}

/// Accepts connections until its task is dropped.
pub(super) async fn accept(socket: TcpListener, address: ListenAddress, listener: Arc<Listener>) {
    let _end = EndOnPanic;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(hold(
                    stream,
                    peer.ip().to_canonical(),
                    address.transport,
                    listener.clone(),
                ));
            }
            Err(error) => {
                warn!(%address, err = %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection from its beginning to its end, or until it has to make way for another.
async fn hold(stream: TcpStream, peer: IpAddr, transport: Transport, listener: Arc<Listener>) {
    let _end = EndOnPanic;
    let limits = listener.limits();
    let is_proxy = {
        let rules = listener.rules();
        let mut proxies = rules.identity.settings().proxy_protocol_from.iter();
        proxies.any(|network| network.contains(peer))
    };
    let address = (!is_proxy).then_some(peer);
    let Some(connection) = listener.connections.open(address, limits, Instant::now()) else {
        debug!(%peer, "connection refused: there are too many");
        return listener.count_connection(transport, Outcome::Limit.as_str());
    };
    let metric = &listener.own.syslog.open_connections;
    let open = metric.get([&listener.name, transport.as_str()]);
    open.inc();
    let served = tokio::select! {
        served = serve(stream, peer, is_proxy, transport, &listener, &connection) => served,
        () = connection.evicted.notified() => Err((Outcome::Limit, "evicted for another".to_owned())),
    };
    open.dec();
    if let Err((outcome, why)) = served {
        debug!(%peer, result = outcome.as_str(), err = why, "connection closed");
        listener.count_connection(transport, outcome.as_str());
    }
}

async fn serve(
    mut stream: TcpStream,
    mut address: IpAddr,
    is_proxy: bool,
    transport: Transport,
    listener: &Listener,
    connection: &Connection<'_>,
) -> Result<(), (Outcome, String)> {
    let (time, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new()
        .with_time(time)
        .with_interval(interval)
        .with_retries(retries);
    let socket = SockRef::from(&stream);
    // A connection without them only ends later.
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    if is_proxy {
        let header = timeout(listener.times.handshake, proxy::read(&mut stream)).await;
        let header = header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let source =
            header.map_err(|error| (Outcome::Refused, format!("PROXY header: {error}")))?;
        if let Some(source) = source {
            address = source.to_canonical();
            if !connection.speaks_for(address, listener.limits(), Instant::now()) {
                return Err((Outcome::Limit, "too many of one address".to_owned()));
            }
        }
    }
    let rules = listener.rules();
    if transport == Transport::Tcp {
        let peer = Peer {
            address,
            certificate: None,
        };
        return read_as(stream, &peer, transport, listener, connection).await;
    }
    let failed = |why: String| (Outcome::TlsFailed, why);
    let Some(tls) = rules.tls.clone() else {
        return Err(failed("there is no certificate".to_owned()));
    };
    drop(rules);
    let stream = timeout(
        listener.times.handshake,
        TlsAcceptor::from(tls).accept(stream),
    )
    .await
    .map_err(|_| failed("the handshake took too long".to_owned()))?
    .map_err(|error| failed(error.to_string()))?;
    let (_, session) = stream.get_ref();
    let certificates = session.peer_certificates().unwrap_or_default();
    let peer = Peer {
        address,
        certificate: certificates.first().and_then(|first| name_of(first)),
    };
    read_as(stream, &peer, transport, listener, connection).await
}

async fn read_as<S: AsyncRead + Unpin>(
    stream: S,
    peer: &Peer,
    transport: Transport,
    listener: &Listener,
    connection: &Connection<'_>,
) -> Result<(), (Outcome, String)> {
    let Some(speaker) = listener.rules().identity.speaker(peer) else {
        return Err((Outcome::Refused, "nobody knows who speaks".to_owned()));
    };
    listener.count_connection(transport, "accepted");
    let tag = Tag::from(&speaker);
    read(stream, &tag, listener, connection).await;
    Ok(())
}

/// The frame of a connection that is not finished. It is counted as torn if the connection is closed from here.
struct Unfinished<'l> {
    /// Its number, and when its first byte came.
    frame: Option<(u64, Instant)>,
    torn: &'l Counter,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.frame.is_some() {
            self.torn.inc();
        }
    }
}

/// Reads frames until the stream ends.
async fn read<S: AsyncRead + Unpin>(
    mut stream: S,
    tag: &Tag,
    listener: &Listener,
    connection: &Connection<'_>,
) {
    let mut framer = Framer::new(listener.line_bytes);
    let mut entries = Vec::new();
    let mut unfinished = Unfinished {
        frame: None,
        torn: &listener.dropped.torn,
    };
    let counts = [listener.frames("newline"), listener.frames("octets")];
    let each = |frame: super::framing::Frame<'_>, entries: &mut Vec<u8>| {
        counts[usize::from(frame.framing == Framing::Octets)].inc();
        if frame.cut_bytes > 0 {
            listener.dropped.too_long.inc();
        }
        tag.write(frame.bytes, entries);
    };
    loop {
        let next = std::future::poll_fn(|context| {
            READ.with_borrow_mut(|buffer| {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut stream).poll_read(context, &mut read))?;
                let bytes = read.filled();
                framer.push(bytes, &mut |frame| each(frame, &mut entries));
                Poll::Ready(io::Result::Ok(bytes.len()))
            })
        });
        let read = match unfinished.frame {
            None => next.await,
            Some((_, since)) => match timeout_at((since + listener.times.frame).into(), next).await
            {
                Ok(read) => read,
                Err(_) => {
                    framer.give_up();
                    listener.dropped.slow.inc();
                    unfinished.frame = None;
                    continue;
                }
            },
        };
        let now = Instant::now();
        let in_order = match read {
            Ok(0) => Some(true),
            Ok(_) => None,
            Err(_) => Some(false),
        };
        if let Some(in_order) = in_order {
            unfinished.frame = None;
            let rest = framer.finish(in_order, &mut |frame| each(frame, &mut entries));
            if rest == Rest::Torn {
                listener.dropped.torn.inc();
            }
        }
        pass_on(&mut entries, listener, connection).await;
        if in_order.is_some() {
            return;
        }
        unfinished.frame = framer.unfinished().map(|number| match unfinished.frame {
            Some((known, since)) if known == number => (number, since),
            _ => (number, now),
        });
    }
}

/// Hands entries over, once there is space for them; whoever waits for that is not idle.
async fn pass_on(entries: &mut Vec<u8>, listener: &Listener, connection: &Connection<'_>) {
    if entries.is_empty() {
        return;
    }
    connection.is_active(Instant::now());
    while listener.buffer.append(entries).is_err() {
        // Whoever makes space says so; if that was just before we waited, this is not for long.
        let _ = timeout(FULL_PAUSE, listener.buffer.space.notified()).await;
        connection.is_active(Instant::now());
    }
    match entries.capacity() > READ_BYTES {
        true => *entries = Vec::new(),
        false => entries.clear(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::atomic::AtomicBool;
    use std::time::SystemTime;

    use super::super::buffer::{Buffer, Reader};
    use super::super::identity::Identity;
    use super::super::listener::{Rules, Times};
    use super::super::tls;
    use super::*;
    use crate::config::{Source, Syslog, Tls};
    use crate::own_metrics::OwnMetrics;

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(30);

    /// A receiver on a real port.
    struct Receiver {
        address: SocketAddr,
        listener: Arc<Listener>,
        reader: Reader,
    }

    impl Receiver {
        fn start(transport: Transport, times: Times) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let tls = (transport == Transport::Tls).then(|| make_certificate(directory.path()));
            let address: ListenAddress = format!("{}://127.0.0.1:0", transport.as_str())
                .parse()
                .unwrap();
            let source = Source::of_syslog_flags(Syslog::of_flags(vec![address.clone()], tls));
            let identity = Identity::of(&source).unwrap();
            let tls = identity.settings().tls.as_ref();
            let tls = tls.map(|settings| tls::load(settings).ok().unwrap());
            let (buffer, reader) = Buffer::queue(Arc::default(), Arc::new(|| {}));
            let own = OwnMetrics::new("", "", SystemTime::now());
            let mut listener = Listener::new(
                "wire",
                buffer,
                1_000,
                Rules { identity, tls },
                Arc::new(own),
                Arc::new(AtomicBool::new(false)),
            );
            listener.times = times;
            let listener = Arc::new(listener);
            let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            let receiver = Receiver {
                address: socket.local_addr().unwrap(),
                listener: listener.clone(),
                reader,
            };
            std::thread::spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().unwrap().block_on(async {
                    let socket = TcpListener::from_std(socket).unwrap();
                    accept(socket, address, listener).await;
                });
            });
            receiver
        }

        fn connect(&self) -> std::net::TcpStream {
            let stream = std::net::TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream
        }

        fn connections(&self, transport: Transport, result: &str) -> u64 {
            let metric = &self.listener.own.syslog.connections;
            metric.get(["wire", transport.as_str(), result]).get()
        }
    }

    fn make_certificate(directory: &std::path::Path) -> Tls {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert_file, key_file) = (directory.join("a.pem"), directory.join("a.key"));
        std::fs::write(&cert_file, made.cert.pem()).unwrap();
        std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
        Tls {
            cert_file,
            key_file,
            client_ca_file: None,
            client_crl_file: None,
        }
    }

    fn wait_until(mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + LONG;
        while !condition() {
            assert!(Instant::now() < end, "it took too long");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn whoever_says_nothing_to_tls_is_closed_after_a_while() {
        let handshake = Duration::from_millis(300);
        let times = Times {
            handshake,
            ..Times::default()
        };
        let receiver = Receiver::start(Transport::Tls, times);
        let begun = Instant::now();
        let silent = receiver.connect();
        // The beginning of a client's first record, and no more.
        let mut slow = receiver.connect();
        slow.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        for mut stream in [silent, slow] {
            let mut answer = [0; 1];
            assert_eq!(stream.read(&mut answer).unwrap(), 0);
            assert!(begun.elapsed() >= handshake);
        }
        wait_until(|| receiver.connections(Transport::Tls, "tls_failed") == 2);
    }

    #[test]
    fn a_message_that_takes_too_long_is_dropped_and_its_connection_is_not() {
        let times = Times {
            frame: Duration::from_millis(300),
            ..Times::default()
        };
        let mut receiver = Receiver::start(Transport::Tcp, times);
        let (mut lines, mut octets) = (receiver.connect(), receiver.connect());
        lines.write_all(b"<13>one\n<13>ha").unwrap();
        octets.write_all(b"7 <13>two10 <13>ha").unwrap();
        let slow = receiver.listener.dropped.slow.clone();
        wait_until(|| slow.get() == 2);
        lines.write_all(b"lf\n<13>three\n").unwrap();
        octets.write_all(b"lf  8 <13>four").unwrap();
        let mut messages = Vec::new();
        wait_until(|| {
            while let Some(entries) = receiver.reader.read() {
                let entries = String::from_utf8(entries.to_vec()).unwrap();
                messages.extend(entries.lines().map(str::to_owned));
            }
            messages.len() == 4
        });
        messages.sort();
        let expected = ["four", "one", "three", "two"];
        assert_eq!(
            messages,
            expected.map(|text| format!("=127.0.0.1\t<13>{text}"))
        );
        assert_eq!(receiver.connections(Transport::Tcp, "accepted"), 2);
        assert_eq!(slow.get(), 2);
    }
}
