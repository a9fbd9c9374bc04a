//! Connections: as many as are allowed, and how long each may keep its place.
//!
//! hyper has no limit for a client that reads its answer slowly, and only one for a request that does not come and for a
//! connection that rests. So deadlines are kept here, in a stream below hyper that looks at what the client does.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep_until};

use super::Options;
use super::scrapers::{Identity, ScraperId, Scrapers};

/// Bytes a second that a client must take. Whoever is slower uses up [`Options::write_timeout`].
const TAKEN_PER_SECOND_MIN: f64 = 65_536.0;
/// A client that has taken nothing for so long loses its place if another wants it.
const STALLED: Duration = Duration::from_secs(1);
/// For the client to close after our last byte: closing first could destroy what it has not read.
const LINGER: Duration = Duration::from_secs(1);

/// The connections that are open.
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    last_id: AtomicU64,
    max: usize,
}

/// An open connection.
pub(super) struct Connection {
    id: u64,
    pub(super) address: IpAddr,
    state: Mutex<State>,
    evicted: Notify,
}

struct State {
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// Since when the client has not taken what is there for it.
    stalled: Option<Instant>,
    scraper: Option<Scraper>,
    /// The body has been passed on as a whole, and has been dropped.
    is_complete: bool,
    is_dropped: bool,
    /// The client has closed in order.
    has_closed: bool,
    /// Reading or writing failed: what was sent last may not have arrived.
    has_failed: bool,
    /// We have closed, whether it has arrived or not.
    is_cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No request has come yet; the TLS handshake belongs to it.
    Opening,
    /// A request has begun.
    Head,
    /// Its password is to be checked, which is slow.
    Unproven,
    /// The answer is made or sent.
    Answering,
    /// Between an answer and the next request.
    Idle,
}

#[derive(Clone, Copy)]
struct Scraper {
    id: ScraperId,
    /// It asks for a part of what there is.
    is_part: bool,
    /// How long it waits for an answer.
    timeout: Duration,
    /// The last birth that the answer on its way shows, if that is a scrape.
    birth: Option<u64>,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self {
            open: Mutex::default(),
            last_id: AtomicU64::new(0),
            max,
        }
    }

    /// Registers a connection, or none if all places are taken by clients that make good use of them. An address has at
    /// most half of the places. Where there is none left, a client that makes no good use of its place is evicted, see
    /// [`Connection::rank`].
    pub(super) fn open(&self, address: IpAddr) -> Option<Arc<Connection>> {
        let mut open = self.open.lock();
        let mut of_origin: HashMap<IpAddr, usize> = HashMap::new();
        for connection in open.values() {
            *of_origin.entry(origin(connection.address)).or_default() += 1;
        }
        let own = origin(address);
        let share_is_used_up = of_origin
            .get(&own)
            .is_some_and(|count| *count >= self.max.div_ceil(2));
        if share_is_used_up || open.len() >= self.max {
            let ranked = open.values().filter_map(|connection| {
                let origin = origin(connection.address);
                let (rank, is_unproven, since) = connection.rank()?;
                let key = (rank, Reverse(of_origin[&origin]), !is_unproven, since);
                (!share_is_used_up || origin == own).then_some((key, connection))
            });
            let (_, victim) = ranked.min_by_key(|(key, _)| *key)?;
            let id = victim.id;
            victim.evict();
            open.remove(&id);
        }
        let connection = Arc::new(Connection {
            id: self.last_id.fetch_add(1, Ordering::Relaxed),
            address,
            state: Mutex::new(State {
                phase: Phase::Opening,
                since: Instant::now(),
                stalled: None,
                scraper: None,
                is_complete: false,
                is_dropped: false,
                has_closed: false,
                has_failed: false,
                is_cut: false,
            }),
            evicted: Notify::new(),
        });
        open.insert(connection.id, connection.clone());
        Some(connection)
    }

    /// Evicts the client that has not read its answer for the longest time, if there is one.
    pub(super) fn evict_stalled(&self) {
        let open = self.open.lock();
        let stalled = open.values().filter_map(|connection| {
            let since = connection.state.lock().stalled?;
            (since.elapsed() >= STALLED).then_some((since, connection))
        });
        if let Some((_, victim)) = stalled.min_by_key(|(since, _)| *since) {
            victim.evict();
        }
    }

    /// Gives a connection's place back, and tells how its last scrape ended.
    pub(super) fn close(&self, connection: &Connection, scrapers: &Scrapers) {
        self.open.lock().remove(&connection.id);
        let state = connection.state.lock();
        if let Some(scraper) = state.scraper {
            let arrived = !state.has_failed && (state.has_closed || !state.is_cut);
            scrapers.disconnect(scraper.id, arrived);
        }
    }
}

/// Whom an address belongs to: a host of IPv6 has a whole /64.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

impl Connection {
    /// Who loses its place first, and since when it makes no good use of it: one that has sent no request, or whose password
    /// is to be checked, one that does not read its answer, one that rests, a scraper that rests. Nothing for a client
    /// that is served. Also whether its password is to be checked: where an address guesses passwords, that goes before the
    /// next request from there, whose password may be known.
    fn rank(&self) -> Option<(u8, bool, Instant)> {
        let state = self.state.lock();
        let (rank, since) = match state.phase {
            Phase::Opening | Phase::Head | Phase::Unproven => (0, state.since),
            Phase::Answering => {
                let since = state.stalled?;
                (since.elapsed() >= STALLED).then_some((1, since))?
            }
            Phase::Idle if state.scraper.is_none() => (2, state.since),
            Phase::Idle => (3, state.since),
        };
        Some((rank, state.phase == Phase::Unproven, since))
    }

    fn evict(&self) {
        self.cut();
        self.evicted.notify_one();
    }

    /// Ready once the connection is to make room for another.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// We close the connection, whether the last answer has arrived or not.
    pub(super) fn cut(&self) {
        self.state.lock().is_cut = true;
    }

    /// A request has arrived.
    pub(super) fn begin_answer(&self) {
        let mut state = self.state.lock();
        state.enter(Phase::Answering);
        (state.is_complete, state.is_dropped) = (false, false);
        if let Some(scraper) = &mut state.scraper {
            scraper.birth = None;
        }
    }

    /// Whether the client may have an answer is not known before its password is checked.
    pub(super) fn begin_check(&self) {
        self.state.lock().enter(Phase::Unproven);
    }

    /// It is known.
    pub(super) fn end_check(&self) {
        self.state.lock().enter(Phase::Answering);
    }

    /// The request is a scraper's. Returns the birth up to which it sees values.
    pub(super) fn begin_scrape(
        &self,
        scrapers: &Scrapers,
        identity: impl FnOnce() -> Identity,
        timeout: Duration,
        is_part: bool,
    ) -> u64 {
        let mut state = self.state.lock();
        // A client that scrapes in parts asks for any of them on any of its connections.
        if let Some(former) = state.scraper
            && (is_part || former.is_part)
        {
            scrapers.disconnect(former.id, true);
            state.scraper = None;
        }
        let scraper = state.scraper.get_or_insert_with(|| Scraper {
            id: scrapers.connect(identity()),
            is_part,
            timeout,
            birth: None,
        });
        scraper.timeout = timeout;
        scrapers.ask(scraper.id)
    }

    /// The answer shows the births up to this one.
    pub(super) fn shows(&self, birth: u64) {
        if let Some(scraper) = &mut self.state.lock().scraper {
            scraper.birth = Some(birth);
        }
    }

    fn has_read(&self, bytes: usize) {
        let mut state = self.state.lock();
        if bytes == 0 {
            state.has_closed = true;
        } else if matches!(state.phase, Phase::Opening | Phase::Idle) {
            state.enter(Phase::Head);
        }
    }

    /// A connection was reset. One that rests has read its answer, unless its scraper would still be waiting.
    fn has_failed(&self) {
        let mut state = self.state.lock();
        let has_arrived = state.phase == Phase::Idle
            && state
                .scraper
                .is_some_and(|scraper| state.since.elapsed() > scraper.timeout);
        state.has_failed |= !has_arrived;
    }

    /// All that was written is out.
    fn is_flushed(&self, scrapers: &Scrapers) {
        let mut state = self.state.lock();
        if state.phase != Phase::Answering || !state.is_dropped {
            return;
        }
        state.enter(Phase::Idle);
        if let Some(Scraper {
            id,
            is_part,
            birth: Some(birth),
            ..
        }) = state.scraper
            && state.is_complete
            && !state.has_closed
        {
            scrapers.answered(id, birth);
            // The next one of this part may come on another connection, before anything comes on this one.
            if is_part {
                scrapers.disconnect(id, true);
                state.scraper = None;
            }
        }
    }

    /// When a client that sends nothing is cut.
    fn read_deadline(&self, options: &Options) -> Option<Instant> {
        let state = self.state.lock();
        let limit = match state.phase {
            Phase::Opening | Phase::Head => options.header_timeout,
            Phase::Idle if state.scraper.is_none() => options.idle_timeout,
            Phase::Idle => options.scraper_idle_timeout,
            Phase::Unproven | Phase::Answering => return None,
        };
        Some(state.since + limit)
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }
}

/// The body of an answer, in one piece that several answers may share.
pub(super) struct Payload {
    bytes: Option<Bytes>,
    connection: Option<Arc<Connection>>,
}

impl Payload {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            bytes: Some(bytes).filter(|bytes| !bytes.is_empty()),
            connection: None,
        }
    }

    /// Reports to the connection that it is sent on.
    pub(super) fn on(mut self, connection: Arc<Connection>) -> Self {
        self.connection = Some(connection);
        self
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let frame = this.bytes.take().map(|bytes| Ok(Frame::data(bytes)));
        if let Some(connection) = &this.connection {
            connection.state.lock().is_complete = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.state.lock().is_dropped = true;
        }
    }
}

/// A stream whose client keeps to the deadlines, or is cut.
pub(super) struct Watched<S> {
    stream: S,
    connection: Arc<Connection>,
    options: Options,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    /// What is left of the time that the client may let us wait for it to read.
    patience: Duration,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>, options: Options) -> Self {
        Self {
            stream,
            connection,
            patience: options.write_timeout,
            options,
            reading: None,
            writing: None,
            lingering: None,
        }
    }

    /// Ready with an error once the deadline for what the client sends is over; a waker is left behind before.
    fn poll_reading(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        match self.connection.read_deadline(&self.options) {
            Some(deadline) => poll_timer(&mut self.reading, deadline, context)
                .map(|()| Error::from(ErrorKind::TimedOut)),
            None => Poll::Pending,
        }
    }

    /// What the stream said of `written` bytes, unless it is not ready and the client's time is up.
    fn within<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<Result<T>>,
        written: impl Fn(&T) -> usize,
    ) -> Poll<Result<T>> {
        let mut state = self.connection.state.lock();
        match polled {
            Poll::Ready(done) => {
                if let Some(since) = state.stalled.take() {
                    self.patience = self.patience.saturating_sub(since.elapsed());
                }
                let taken = done.as_ref().map_or(0, written) as f64 / TAKEN_PER_SECOND_MIN;
                self.patience = self
                    .patience
                    .saturating_add(Duration::from_secs_f64(taken))
                    .min(self.options.write_timeout);
                state.has_failed |= done.is_err();
                Poll::Ready(done)
            }
            Poll::Pending => {
                let since = *state.stalled.get_or_insert_with(Instant::now);
                ready!(poll_timer(
                    &mut self.writing,
                    since + self.patience,
                    context
                ));
                state.has_failed = true;
                Poll::Ready(Err(Error::from(ErrorKind::TimedOut)))
            }
        }
    }
}

fn poll_timer(
    timer: &mut Option<Pin<Box<Sleep>>>,
    deadline: Instant,
    context: &mut Context<'_>,
) -> Poll<()> {
    let deadline = deadline.into();
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    if timer.deadline() != deadline {
        timer.as_mut().reset(deadline);
    }
    timer.as_mut().poll(context)
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                if buffer.capacity() > before {
                    this.connection.has_read(buffer.filled().len() - before);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.connection.has_failed();
                Poll::Ready(Err(error))
            }
            Poll::Pending => this.poll_reading(context).map(Err),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.within(context, polled, |written| *written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.within(context, polled, |written| *written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        let polled = this.within(context, polled, |()| 0);
        if let Poll::Ready(Ok(())) = polled {
            this.connection.is_flushed(&this.options.scrapers);
            // The connection may rest from now on, and nobody else leaves a waker for its deadline.
            let _ = this.poll_reading(context);
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            let polled = Pin::new(&mut this.stream).poll_shutdown(context);
            ready!(this.within(context, polled, |()| 0))?;
        }
        let until = Instant::now() + LINGER;
        let timer = this
            .lingering
            .get_or_insert_with(|| Box::pin(sleep_until(until.into())));
        if timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut scratch = [0; 1024];
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => {
                    this.connection.state.lock().has_closed = true;
                    return Poll::Ready(Ok(()));
                }
                Ok(()) => {}
                Err(_) => {
                    this.connection.has_failed();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(test)
    }

    fn watched<S>(stream: S, write_timeout: Duration) -> Watched<S> {
        let connection = Connections::new(2)
            .open(Ipv4Addr::LOCALHOST.into())
            .unwrap();
        let options = Options {
            write_timeout,
            ..Options::default()
        };
        Watched::new(stream, connection, options)
    }

    #[test]
    fn a_byte_now_and_then_gains_nothing() {
        run(async {
            let (mut client, server) = duplex(8);
            let mut server = watched(server, Duration::from_millis(50));
            let reader = tokio::spawn(async move {
                let mut taken = 0;
                while client.read_u8().await.is_ok() {
                    sleep(Duration::from_millis(5)).await;
                    taken += 1;
                }
                taken
            });
            // At this pace it would take 50 s.
            let error = server.write_all(&[0; 10_000]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            drop(server);
            assert!(reader.await.unwrap() < 10_000);
        });
    }

    #[test]
    fn a_slow_client_that_goes_on_reading_is_served() {
        run(async {
            let (mut client, server) = duplex(64 << 10);
            // It lets us wait for three times as long as it may at a stretch.
            let mut server = watched(server, Duration::from_millis(100));
            let reader = tokio::spawn(async move {
                let mut piece = vec![0; 64 << 10];
                for _ in 0..30 {
                    client.read_exact(&mut piece).await.unwrap();
                    sleep(Duration::from_millis(10)).await;
                }
            });
            server.write_all(&vec![0; 30 * (64 << 10)]).await.unwrap();
            reader.await.unwrap();
        });
    }

    #[test]
    fn places_go_to_those_who_use_them() {
        let connections = Connections::new(4);
        let address = |host| Ipv4Addr::new(192, 0, 2, host).into();
        let serve = |host| {
            let connection = connections.open(address(host)).unwrap();
            connection.begin_answer();
            connection
        };
        let [_a, _b] = [(); 2].map(|()| serve(1));
        assert!(
            connections.open(address(1)).is_none(),
            "more than its share"
        );
        let silent = connections.open(address(2)).unwrap();
        let _c = serve(2);
        let _d = serve(3);
        assert!(silent.state.lock().is_cut, "not evicted");
        assert!(connections.open(address(4)).is_none(), "all are served");
        assert_eq!(connections.open.lock().len(), 4);
        _a.begin_check();
        let _e = serve(4);
        assert!(_a.state.lock().is_cut, "a password that is checked");
        _b.begin_check();
        _b.end_check();
        assert!(connections.open(address(5)).is_none(), "it was right");
        assert_eq!(
            origin("2001:db8:0:1::7".parse().unwrap()),
            origin("2001:db8:0:1:2::8".parse().unwrap())
        );
    }
}
