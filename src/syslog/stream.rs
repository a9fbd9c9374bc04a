//! Connections over TCP and TLS: a task for each, on one thread.
//!
//! Nothing that a sender writes ends its connection. While the buffer is full nothing is read, so the sender waits.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::certificate::name_of;
use super::connections::Connection;
use super::entry::Tag;
use super::framing::{Framer, Framing, Rest};
use super::identity::Credentials;
use super::listener::Listener;
use super::proxy;
use super::repeated::Repeated;
use crate::config::{ListenAddress, Transport};
use crate::heartbeat::EndOnPanic;
use crate::own_metrics::DropReason;

/// When a peer that says nothing is asked whether it is there, how often again, and how many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);
/// How long what we send may stay without an answer.
const USER_TIMEOUT: Duration = Duration::from_secs(90);
/// After an `accept` that failed, for instance for want of file descriptors: the cause will last a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a connection that waits for space says that it is not idle.
const WAITING_EVERY: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// Connections are read one after the other, and what is kept of each is in its framer.
    static READ: RefCell<Read> = RefCell::new(Read {
        bytes: vec![0; READ_BYTES].into(),
        entries: Vec::new(),
    });
}

/// What was read of a connection just now, and the entries that this completes.
struct Read {
    bytes: Box<[u8]>,
    entries: Vec<u8>,
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
}

/// Accepts connections until its task is dropped.
pub(super) async fn accept(socket: TcpListener, address: ListenAddress, listener: Arc<Listener>) {
    let _end = EndOnPanic;
    let mut failing = Repeated::default();
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(hold(
                    stream,
                    peer.ip().to_canonical(),
                    address.transport,
                    listener.clone(),
                ));
                // One that is too many goes before the next one has a descriptor.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if failing.is_due() {
                    warn!(%address, err = %error, "cannot accept a connection");
                }
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
    let connections = &listener.connections;
    let moment = listener.times.moment;
    let open = || connections.open(address, limits, Instant::now());
    let Some(connection) = connections.wait(moment, open).await else {
        debug!(%peer, "connection refused: there are too many");
        return listener.count_connection(transport, Outcome::Limit.as_str());
    };
    let metric = &listener.own.syslog.open_connections;
    let open = metric.get([&listener.name, transport.as_str()]);
    open.inc();
    let mut serving = pin!(serve(
        stream,
        peer,
        is_proxy,
        transport,
        &listener,
        &connection
    ));
    let served = tokio::select! {
        served = &mut serving => served,
        () = connection.evicted.notified() => {
            // What it has sent already is read. Often it is over, and that was not known yet.
            let served = connections.within(moment, serving).await;
            served.unwrap_or_else(|| Err((Outcome::Limit, "evicted for another".to_owned())))
        }
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
        }
        let limits = listener.limits();
        let is_of = || {
            connection
                .is_of(address, limits, Instant::now())
                .then_some(())
        };
        let found = listener.connections.wait(listener.times.moment, is_of);
        if found.await.is_none() {
            return Err((Outcome::Limit, "too many of one address".to_owned()));
        }
    }
    let rules = listener.rules();
    if transport == Transport::Tcp {
        let credentials = Credentials {
            address,
            certificate: None,
        };
        return read_as(stream, &credentials, transport, listener, connection).await;
    }
    let failed = |why: String| (Outcome::TlsFailed, why);
    let Some(tls) = rules.tls.clone() else {
        return Err(failed("there is no certificate".to_owned()));
    };
    drop(rules);
    let stream = timeout(
        listener.times.handshake,
        TlsAcceptor::from(tls.config).accept(stream),
    )
    .await
    .map_err(|_| failed("the handshake took too long".to_owned()))?
    .map_err(|error| failed(error.to_string()))?;
    let (_, session) = stream.get_ref();
    let certificates = session.peer_certificates().unwrap_or_default();
    let credentials = Credentials {
        address,
        certificate: certificates.first().and_then(|first| name_of(first)),
    };
    read_as(stream, &credentials, transport, listener, connection).await
}

async fn read_as<S: AsyncRead + Unpin>(
    stream: S,
    credentials: &Credentials,
    transport: Transport,
    listener: &Listener,
    connection: &Connection<'_>,
) -> Result<(), (Outcome, String)> {
    let Some(tag) = listener.rules().identity.sender(credentials) else {
        return Err((Outcome::Refused, "nothing identifies the sender".to_owned()));
    };
    listener.count_connection(transport, "accepted");
    read(stream, &tag, listener, connection).await;
    Ok(())
}

/// The frame of a connection that is not finished. It is counted as torn if the connection is closed from here.
struct Unfinished<'l> {
    /// Its number, and when its first byte came.
    frame: Option<(u64, Instant)>,
    listener: &'l Listener,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.frame.is_some() {
            self.listener.dropped.count(DropReason::Torn);
        }
    }
}

/// What a look at a connection finds.
enum Found {
    /// Bytes, which were taken.
    Bytes,
    /// Its end.
    End(Rest),
    /// Nothing was read, since there is no space for it.
    NoSpace,
}

/// Reads frames until the stream ends.
async fn read<S: AsyncRead + Unpin>(
    mut stream: S,
    tag: &Tag,
    listener: &Listener,
    connection: &Connection<'_>,
) {
    let mut framer = Framer::new(listener.rules().line_bytes);
    let mut unfinished = Unfinished {
        frame: None,
        listener,
    };
    let counts = [listener.frames("newline"), listener.frames("octets")];
    let each = |frame: super::framing::Frame<'_>, entries: &mut Vec<u8>| {
        counts[usize::from(frame.framing == Framing::Octets)].inc();
        if frame.cut_bytes > 0 {
            listener.dropped.count(DropReason::TooLong);
        }
        tag.write(frame.bytes, entries);
    };
    loop {
        // What is read goes to the buffer within one poll: a connection that is dropped loses nothing in between.
        let next = std::future::poll_fn(|context| {
            READ.with_borrow_mut(|Read { bytes, entries }| {
                if listener.buffer.is_full() {
                    return Poll::Ready(Found::NoSpace);
                }
                let mut read = ReadBuf::new(bytes);
                let result = ready!(Pin::new(&mut stream).poll_read(context, &mut read));
                let mut each = |frame: super::framing::Frame<'_>| each(frame, entries);
                let found = match result {
                    Ok(()) if !read.filled().is_empty() => {
                        framer.push(read.filled(), &mut each);
                        Found::Bytes
                    }
                    _ => Found::End(framer.finish(result.is_ok(), &mut each)),
                };
                pass_on(entries, listener, connection);
                Poll::Ready(found)
            })
        });
        let found = match unfinished.frame {
            None => next.await,
            Some((_, since)) => {
                let end = since + listener.times.frame;
                let Ok(found) = timeout_at(end.into(), next).await else {
                    framer.give_up();
                    listener.dropped.count(DropReason::Slow);
                    unfinished.frame = None;
                    continue;
                };
                found
            }
        };
        match found {
            Found::Bytes => {}
            Found::End(rest) => {
                unfinished.frame = None;
                if rest == Rest::Torn {
                    listener.dropped.count(DropReason::Torn);
                }
                return;
            }
            Found::NoSpace => {
                let waited = wait_for_space(listener, connection).await;
                if let Some((_, since)) = &mut unfinished.frame {
                    *since += waited;
                }
                continue;
            }
        }
        unfinished.frame = framer.unfinished().map(|number| match unfinished.frame {
            Some((known, since)) if known == number => (number, since),
            _ => (number, Instant::now()),
        });
    }
}

/// Hands entries over.
fn pass_on(entries: &mut Vec<u8>, listener: &Listener, connection: &Connection<'_>) {
    if entries.is_empty() {
        return;
    }
    connection.is_active(Instant::now());
    listener.buffer.append(entries);
    match entries.capacity() > 4 * READ_BYTES {
        true => *entries = Vec::new(),
        false => entries.clear(),
    }
}

/// Returns how long that took.
async fn wait_for_space(listener: &Listener, connection: &Connection<'_>) -> Duration {
    let begun = Instant::now();
    while timeout(WAITING_EVERY, listener.buffer.space())
        .await
        .is_err()
    {
        connection.is_waiting(Instant::now());
    }
    connection.is_waiting(Instant::now());
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::thread::JoinHandle;

    use tokio::sync::Notify;

    use super::super::buffer::Reader;
    use super::super::listener::Times;
    use super::*;
    use crate::config::{Syslog, Tls};

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(30);

    /// A receiver on a real port.
    struct Receiver {
        address: SocketAddr,
        listener: Arc<Listener>,
        reader: Reader,
        stop: Arc<Notify>,
        thread: JoinHandle<()>,
    }

    impl Receiver {
        fn start(transport: Transport, times: Times) -> Self {
            Receiver::start_with(transport, times, Syslog::default())
        }

        fn start_with(transport: Transport, times: Times, settings: Syslog) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let tls = (transport == Transport::Tls).then(|| make_certificate(directory.path()));
            let address: ListenAddress = format!("{}://127.0.0.1:0", transport.as_str())
                .parse()
                .unwrap();
            let settings = Syslog {
                listen: vec![address.clone()],
                tls,
                ..settings
            };
            let (mut listener, reader) = Listener::of_test(settings);
            listener.times = times;
            let listener = Arc::new(listener);
            let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            let local = socket.local_addr().unwrap();
            let stop = Arc::new(Notify::new());
            let thread = std::thread::spawn({
                let (listener, stop) = (listener.clone(), stop.clone());
                move || {
                    let mut runtime = tokio::runtime::Builder::new_current_thread();
                    runtime.enable_all().build().unwrap().block_on(async {
                        let socket = TcpListener::from_std(socket).unwrap();
                        tokio::spawn(accept(socket, address, listener));
                        stop.notified().await;
                    });
                }
            });
            Receiver {
                address: local,
                listener,
                reader,
                stop,
                thread,
            }
        }

        /// The messages that came, as they are kept, until there are so many.
        fn messages(&mut self, count: usize) -> Vec<String> {
            let mut messages = Vec::new();
            wait_until(|| {
                while let Some(entries) = self.reader.read() {
                    let entries = String::from_utf8(entries.to_vec()).unwrap();
                    messages.extend(entries.lines().map(str::to_owned));
                }
                messages.len() >= count
            });
            messages.sort();
            messages
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
        let slow = receiver.listener.own.syslog.lines_dropped.clone();
        let slow = slow.get(["wire", "slow"]);
        wait_until(|| slow.get() == 2);
        lines.write_all(b"lf\n<13>three\n").unwrap();
        octets.write_all(b"lf  8 <13>four").unwrap();
        let messages = receiver.messages(4);
        let expected = ["four", "one", "three", "two"];
        assert_eq!(
            messages,
            expected.map(|text| format!("=127.0.0.1\t<13>{text}"))
        );
        assert_eq!(receiver.connections(Transport::Tcp, "accepted"), 2);
        assert_eq!(slow.get(), 2);
    }

    /// Whatever the state in which a stop finds its connections.
    #[test]
    fn what_was_read_before_a_stop_is_kept() {
        let mut receiver = Receiver::start(Transport::Tcp, Times::default());
        let senders: Vec<_> = (0..8)
            .map(|_| {
                let mut sender = receiver.connect();
                std::thread::spawn(move || {
                    let lines = b"<13>Feb 29 12:05:01 h sited: door a\n".repeat(1_000);
                    // Until the connection is closed: nobody reads the buffer, so it is full some day.
                    while sender.write_all(&lines).is_ok() {}
                })
            })
            .collect();
        wait_until(|| receiver.listener.buffer.is_full());
        receiver.stop.notify_one();
        receiver.thread.join().unwrap();
        for sender in senders {
            sender.join().unwrap();
        }
        let mut kept = 0;
        while let Some(entries) = receiver.reader.read() {
            kept += entries.split(|byte| *byte == b'\n').count() - 1;
        }
        let frames = receiver.listener.frames("newline").get();
        assert!(kept > 1_000);
        assert_eq!(kept as u64, frames);
    }

    /// Whatever order its connections, their ends and new ones are looked at in.
    #[test]
    fn who_connects_anew_for_each_message_loses_none() {
        let times = Times {
            moment: LONG,
            ..Times::default()
        };
        let settings = Syslog {
            max_connections_per_address: 2,
            ..Syslog::default()
        };
        let mut receiver = Receiver::start_with(Transport::Tcp, times, settings);
        for _ in 0..100 {
            let mut sender = receiver.connect();
            sender.write_all(b"<13>a\n").unwrap();
        }
        assert_eq!(receiver.messages(100).len(), 100);
        assert_eq!(receiver.connections(Transport::Tcp, "limit"), 0);
    }

    #[test]
    fn headers_of_balancers_have_limits() {
        let handshake = Duration::from_millis(300);
        let times = Times {
            handshake,
            ..Times::default()
        };
        let settings = Syslog {
            proxy_protocol_from: vec![Ipv4Addr::LOCALHOST.into()],
            ..Syslog::default()
        };
        let mut receiver = Receiver::start_with(Transport::Tcp, times, settings);
        let long_line = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        let version_2 = |length: u16, body: &[u8]| {
            let length = length.to_be_bytes();
            [&signature[..], &[0x21, 0x11], &length, body].concat()
        };
        let body = [192, 0, 2, 7, 192, 0, 2, 1, 1, 2, 3, 4];
        let line = b"<13>a\n";
        // Closed at once, however much follows.
        let wrong = [
            long_line,
            b"<13>Feb 29 12:05:01 h sited: no header\n".to_vec(),
            b"PROXY TCP4 not.an.address 192.0.2.1 1 2\r\n".to_vec(),
            version_2(2_049, &[0; 2_049]),
            version_2(4, &[192, 0, 2, 7]).split_at(14).0.repeat(2),
        ];
        let mut refused = 0;
        for header in &wrong {
            let mut stream = receiver.connect();
            stream.write_all(&[header, &line[..]].concat()).unwrap();
            // A reset, or an end.
            assert!(!matches!(stream.read(&mut [0; 1]), Ok(1..)));
            refused += 1;
            wait_until(|| receiver.connections(Transport::Tcp, "refused") == refused);
        }
        // Torn, and too slow: neither keeps its connection for longer than a handshake may take.
        let mut torn = receiver.connect();
        torn.write_all(b"PROXY TCP4 192.0").unwrap();
        drop(torn);
        let begun = Instant::now();
        let mut slow = receiver.connect();
        slow.write_all(&version_2(12, &body[..5])).unwrap();
        assert!(!matches!(slow.read(&mut [0; 1]), Ok(1..)));
        assert!(begun.elapsed() >= handshake);
        wait_until(|| receiver.connections(Transport::Tcp, "refused") == refused + 2);
        // The longest that is allowed, in pieces; and a check by the balancer itself.
        let whole = [&version_2(2_048, &body)[..], &[0; 2_036], line].concat();
        let mut good = receiver.connect();
        for piece in whole.chunks(7) {
            good.write_all(piece).unwrap();
        }
        let mut own = receiver.connect();
        let local = [&signature[..], &[0x20, 0, 0, 0], line].concat();
        own.write_all(&local).unwrap();
        let messages = receiver.messages(2);
        assert_eq!(messages, ["=127.0.0.1\t<13>a", "=192.0.2.7\t<13>a"]);
    }

    #[test]
    fn a_header_of_somebody_else_is_a_message() {
        let settings = Syslog {
            proxy_protocol_from: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
            ..Syslog::default()
        };
        let mut receiver = Receiver::start_with(Transport::Tcp, Times::default(), settings);
        let mut stranger = receiver.connect();
        stranger
            .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n<13>a\n")
            .unwrap();
        let expected = [
            "=127.0.0.1\t<13>a",
            "=127.0.0.1\tPROXY TCP4 192.0.2.7 192.0.2.1 1 2",
        ];
        assert_eq!(receiver.messages(2), expected);
    }
}
