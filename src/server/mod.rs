//! HTTP: `/metrics`, the status page and the endpoints for operators.
//!
//! At most [`Options::connections_max`] connections are served; further clients get 503, unless the place of one that
//! makes no good use of it can be given to them. A client that is silent, slow to send or slow to read is cut. Answers
//! that have begun at shutdown are finished, within a deadline. What they say is left to the application, behind [`App`];
//! its methods may take their time, they run on threads made for that.

mod answer;
mod auth;
mod connection;
mod listen;
mod page;
mod runbooks;
mod scrape;
mod scrapers;
mod tls;
mod web_config;

use std::convert::Infallible;
use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::exposition::{Body, Format};

pub(crate) use answer::is_reserved;
use auth::Passwords;
use connection::{Connection, Connections, Watched};
pub(crate) use listen::check_address;
pub use listen::{BindError, bind, systemd_listeners};
pub use page::{
    ApplianceStatus, Checkpoint, FileStatus, ListenerStatus, Reload, RuleStatus, SeriesStatus,
    ShardStatus, Status, page,
};
use scrape::Scrapes;
pub use scrapers::{Identity, ScraperId, Scrapers};
use web_config::Loaded;
pub use web_config::WebConfig;

/// An appliance, for service discovery.
#[derive(Clone, Debug, Default)]
pub struct Appliance {
    /// Its name.
    pub name: String,
    /// What kind of appliance it is, if what it has logged says so.
    pub profile: Option<String>,
    /// When it last logged, in seconds since 1970.
    pub last_message: Option<f64>,
}

/// What a scrape asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All there is.
    #[default]
    All,
    /// All but the series of shards.
    Rest,
    /// The series of one shard, by its name.
    Shard(Arc<str>),
}

/// What the server asks of the application. All of it may block for a while.
pub trait App: Send + Sync + 'static {
    /// Appends a scrape to `body`, for somebody who has been shown the births up to `shown`: counters that were born later
    /// are at 0. Returns the last birth that the scrape shows.
    fn exposition(&self, scope: &Scope, format: Format, shown: u64, body: &mut Body) -> u64;
    /// The names of the shards that can be scraped alone, in a stable order.
    fn shards(&self) -> Vec<String>;
    /// What the page at `/` shows.
    fn status(&self) -> Status;
    /// Whether the backlog found at start has been applied.
    fn ready(&self) -> bool;
    /// Whether whoever reads makes progress.
    fn healthy(&self) -> bool;
    /// Reads settings and rules anew.
    ///
    /// # Errors
    /// What is wrong with them, for the operator to read; the former ones stay in force.
    fn reload(&self) -> Result<(), String>;
    /// Forgets an appliance and all its series; false if it is not known.
    ///
    /// # Errors
    /// It cannot be done now.
    fn forget(&self, appliance: &str) -> Result<bool, String>;
    /// The appliances for service discovery, in a stable order: those that the settings or a path name. A name that only a
    /// header has may be anybody's, and whoever discovers it would send it credentials.
    fn appliances(&self) -> Vec<Appliance>;
    /// The configuration file as it was last loaded; empty without one.
    fn configuration(&self) -> String;
    /// What the page at `/debug` shows: memory, threads, what waits.
    fn debug(&self) -> String;
    /// As many scrapes more are being answered; fewer, if negative.
    fn scrapes_in_flight(&self, change: i64);
    /// A scrape was answered with this HTTP status, after so long.
    fn scraped(&self, code: u16, took: Duration);
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the metrics are, beginning with a slash.
    pub telemetry_path: String,
    /// What all paths begin with, without a slash at its end; empty for none.
    pub route_prefix: String,
    /// The same as clients see it, who may talk to a reverse proxy.
    pub external_path: String,
    /// Connections served at the same time.
    pub connections_max: usize,
    /// For the first request to begin, for a request's head to arrive, and for a TLS handshake.
    pub header_timeout: Duration,
    /// For a kept connection to be used again.
    pub idle_timeout: Duration,
    /// The same for that of a scraper, which is longer than the longest interval between two scrapes: a scraper is known
    /// by its connection.
    pub scraper_idle_timeout: Duration,
    /// How long a client may let us wait for it to read. It gets time back as it takes bytes, a second for 64 KiB.
    pub write_timeout: Duration,
    /// For answers that have begun, once the shutdown has.
    pub shutdown_timeout: Duration,
    /// TLS, passwords, headers and rate limit, where they are wanted.
    pub web_config: Option<Arc<WebConfig>>,
    /// `POST /-/reload` and `POST /-/forget` are answered though no password guards it.
    pub enable_lifecycle: bool,
    /// Which births each scraper has been shown.
    pub scrapers: Arc<Scrapers>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            telemetry_path: "/metrics".into(),
            route_prefix: String::new(),
            external_path: String::new(),
            connections_max: 64,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            scraper_idle_timeout: Duration::from_secs(330),
            write_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(5),
            web_config: None,
            enable_lifecycle: false,
            scrapers: Arc::new(Scrapers::new(&[], false)),
        }
    }
}

/// A request's head; browsers and scrapers send less than a tenth of it. What hyper allows by itself is 400 KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Connections that get an answer saying that there are too many, at the same time; further ones are just closed.
const REFUSALS_MAX: usize = 16;
/// For a client to hear that there are too many.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// After an `accept` that failed, for instance for want of file descriptors: the cause will last a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is ready, then until the last answer is out or the deadline has passed.
///
/// A call of the application that outlasts the deadline is left behind on its thread; end the runtime with
/// `shutdown_background` or `shutdown_timeout`.
///
/// # Errors
/// A listener cannot be watched.
pub async fn serve(
    listeners: Vec<TcpListener>,
    app: Arc<dyn App>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let shared = Arc::new(Shared {
        connections: Arc::new(Connections::new(options.connections_max)),
        scrapes: Scrapes::default(),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        passwords: Passwords::new(),
        last_order: Mutex::new(None),
        app,
        options,
    });
    let (stop, stopped) = watch::channel(());
    let mut loops = JoinSet::new();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loops.spawn(accept(listener, shared.clone(), stopped.clone()));
    }
    shutdown.await;
    drop(stop);
    while loops.join_next().await.is_some() {}
    Ok(())
}

struct Shared {
    connections: Arc<Connections>,
    scrapes: Scrapes,
    refusals: Arc<Semaphore>,
    last_order: Mutex<Option<Instant>>,
    passwords: Passwords,
    app: Arc<dyn App>,
    options: Options,
}

impl Shared {
    /// What the web configuration says now; nothing if there is none.
    async fn web(&self) -> Option<Arc<Loaded>> {
        let web = self.options.web_config.clone()?;
        tokio::task::spawn_blocking(move || web.current())
            .await
            .ok()
    }

    /// Connections speak TLS.
    fn has_tls(&self) -> bool {
        self.options
            .web_config
            .as_ref()
            .is_some_and(|web| web.has_tls())
    }
}

/// Ready once the sender is gone.
async fn gone(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

async fn accept(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    stopped: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    let stop = gone(stopped.clone());
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            // Those that have ended are let go.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(connection) = shared.connections.open(peer.ip()) {
                        let (shared, stopped) = (shared.clone(), stopped.clone());
                        connections.spawn(hold(stream, connection, shared, stopped));
                    } else if shared.has_tls() {
                        // It would take a handshake to say so.
                        drop(stream);
                    } else if let Ok(place) = shared.refusals.clone().try_acquire_owned() {
                        connections.spawn(async move {
                            // Whether the client listens is its own affair.
                            let _ = timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
                            drop(place);
                        });
                    }
                    // Many who come at once do not evict each other before their requests are read.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    tracing::warn!(err = %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(shared.options.shutdown_timeout, rest)
        .await
        .is_err()
    {
        tracing::warn!(connections = connections.len(), "cut at shutdown");
    }
}

/// Says that there are too many, and waits for the client to close: closing first could destroy what it has not read.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 503 Service Unavailable\r\n\
              Content-Type: text/plain; charset=utf-8\r\n\
              Content-Length: 21\r\n\
              Retry-After: 1\r\n\
              Connection: close\r\n\r\n\
              too many connections\n",
        )
        .await?;
    stream.shutdown().await?;
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

/// Serves a connection until it ends, or has to make room for another.
async fn hold(
    stream: TcpStream,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<()>,
) {
    tokio::select! {
        () = serve_connection(stream, &connection, &shared, stopped) => {}
        () = connection.evicted() => tracing::debug!(address = %connection.address, "connection evicted"),
    }
    shared
        .connections
        .close(&connection, &shared.options.scrapers);
}

async fn serve_connection(
    stream: TcpStream,
    connection: &Arc<Connection>,
    shared: &Arc<Shared>,
    stopped: watch::Receiver<()>,
) {
    // A scrape is one small request and one answer: waiting to fill packets helps nobody.
    let _ = stream.set_nodelay(true);
    if !shared.has_tls() {
        return serve_http(stream, connection, shared, stopped).await;
    }
    let Some(tls) = shared.web().await.and_then(|web| web.tls.clone()) else {
        return;
    };
    let handshake = timeout(
        shared.options.header_timeout,
        TlsAcceptor::from(tls).accept(stream),
    );
    tokio::select! {
        accepted = handshake => match accepted {
            Ok(Ok(stream)) => serve_http(stream, connection, shared, stopped).await,
            Ok(Err(error)) => tracing::debug!(err = %error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
        () = gone(stopped.clone()) => {}
    }
}

async fn serve_http<S>(
    stream: S,
    connection: &Arc<Connection>,
    shared: &Arc<Shared>,
    stopped: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = Watched::new(stream, connection.clone(), shared.options.clone());
    let service = service_fn(|request| {
        let (connection, shared) = (connection.clone(), shared.clone());
        async move { Ok::<_, Infallible>(answer::answer(connection, shared, request).await) }
    });
    let serving = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = gone(stopped) => {
            connection.cut();
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // Clients that go away or are cut are everyday matters.
        tracing::debug!(err = %error, "connection ended");
    }
}
