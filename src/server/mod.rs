//! HTTP: `/metrics`, the status page and the endpoints for operators.
//!
//! Promises: a client that is silent, slow to send or slow to read is cut after a time that the options name; never
//! more connections than allowed are served, and who comes on top is told so; on shutdown, answers that have begun are
//! finished, within a deadline. What the answers say is left to the application, behind [`App`]; its methods may take
//! their time, they run on threads made for that.

mod auth;
mod listen;
mod page;
mod tls;
mod web_config;
mod write_deadline;

use std::convert::Infallible;
use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::exposition::{self, Body, Format};

use auth::Passwords;
pub use listen::{BindError, bind, systemd_listeners};
pub use page::{Checkpoint, FileStatus, Reload, RuleStatus, SeriesStatus, Status, page};
use web_config::Loaded;
pub use web_config::WebConfig;
use write_deadline::WriteDeadline;

/// What the server asks of the application. All of it may block for a while.
pub trait App: Send + Sync + 'static {
    /// Appends the text of a scrape.
    fn exposition(&self, format: Format, body: &mut Body);
    /// What the page at `/` shows.
    fn status(&self) -> Status;
    /// Whether the backlog found at start has been applied. Until then scrapes are refused.
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
    /// The appliances known by now, for service discovery, in a stable order; `other` and `unknown` are none.
    fn appliances(&self) -> Vec<String>;
    /// A scrape was answered with this HTTP status.
    fn scraped(&self, code: u16);
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the metrics are, beginning with a slash.
    pub telemetry_path: String,
    /// Connections served at the same time.
    pub connections_max: usize,
    /// For a request's head to arrive, for a TLS handshake, and for a kept connection to be used again.
    pub header_timeout: Duration,
    /// For a client to take an answer.
    pub write_timeout: Duration,
    /// For answers that have begun, once the shutdown has.
    pub shutdown_timeout: Duration,
    /// TLS, passwords, headers and rate limit, where they are wanted.
    pub web_config: Option<Arc<WebConfig>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            telemetry_path: "/metrics".into(),
            connections_max: 64,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
            web_config: None,
        }
    }
}

/// A request's head; browsers and scrapers send less than a tenth of it. What hyper allows by itself is 400 KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Connections that are told that there are too many, at the same time; further ones are just closed.
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
        places: Arc::new(Semaphore::new(options.connections_max)),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        passwords: Passwords::new(),
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
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
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
                Ok((stream, _)) => {
                    if let Ok(place) = shared.places.clone().try_acquire_owned() {
                        let (shared, stopped) = (shared.clone(), stopped.clone());
                        connections.spawn(async move {
                            connection(stream, shared, stopped).await;
                            drop(place);
                        });
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
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
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

async fn connection(stream: TcpStream, shared: Arc<Shared>, stopped: watch::Receiver<()>) {
    // A scrape is one small request and one answer: waiting to fill packets helps nobody.
    let _ = stream.set_nodelay(true);
    if !shared.has_tls() {
        return speak(stream, shared, stopped).await;
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
            Ok(Ok(stream)) => speak(stream, shared, stopped).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
        () = gone(stopped.clone()) => {}
    }
}

async fn speak<S>(stream: S, shared: Arc<Shared>, stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = WriteDeadline::new(stream, shared.options.write_timeout);
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(guarded(shared, request).await) }
    });
    let connection = http1::Builder::new()
        // Without a timer the header timeout does nothing.
        .timer(TokioTimer::new())
        .header_read_timeout(shared.options.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = gone(stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients that go away or are cut are everyday matters.
        tracing::debug!(%error, "connection ended");
    }
}

type Answer = Response<Full<Bytes>>;

/// The answer, if the web configuration lets the client have it.
async fn guarded(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let web = shared.web().await;
    if shared.options.web_config.is_some() && web.is_none() {
        // Nothing is served unguarded for want of knowing the guard.
        return text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n");
    }
    let Some(web) = web else {
        return answer(shared, request).await;
    };
    let mut answer = if !web.admits(Instant::now()) {
        text(StatusCode::TOO_MANY_REQUESTS, "too many requests\n")
    } else if !web.users.is_empty() && !admitted(&shared, &web, request.headers()).await {
        let mut refused = text(StatusCode::UNAUTHORIZED, "unauthorized\n");
        refused
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        refused
    } else {
        answer(shared, request).await
    };
    for (name, value) in &web.headers {
        answer.headers_mut().insert(name, value.clone());
    }
    answer
}

async fn admitted(shared: &Shared, web: &Loaded, headers: &HeaderMap) -> bool {
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    shared.passwords.admit(&web.users, authorization).await
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let method = request.method();
    let reload = path == "/-/reload";
    let known = path == shared.options.telemetry_path
        || matches!(path, "/" | "/-/healthy" | "/-/ready" | "/-/reload" | "/sd");
    if !known {
        return html(StatusCode::NOT_FOUND, page::not_found());
    }
    let allowed = match *method {
        Method::GET | Method::HEAD => !reload,
        Method::POST => reload,
        _ => false,
    };
    if !allowed {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        let allow = if reload { "POST" } else { "GET, HEAD" };
        refused
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allow));
        return refused;
    }
    if path == shared.options.telemetry_path {
        return scrape(shared, request.headers()).await;
    }
    let app = shared.app.clone();
    match path {
        "/-/healthy" => match app.healthy() {
            true => text(StatusCode::OK, "healthy\n"),
            false => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the reading thread makes no progress\n",
            ),
        },
        "/-/ready" => {
            blocking(move || {
                if app.ready() {
                    text(StatusCode::OK, "ready\n")
                } else {
                    not_ready()
                }
            })
            .await
        }
        "/-/reload" => {
            blocking(move || match app.reload() {
                Ok(()) => text(StatusCode::OK, "reloaded\n"),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            })
            .await
        }
        "/sd" => blocking(move || service_discovery(app.appliances())).await,
        _ => {
            let telemetry_path = shared.options.telemetry_path.clone();
            blocking(move || html(StatusCode::OK, page(&app.status(), &telemetry_path))).await
        }
    }
}

async fn scrape(shared: Arc<Shared>, headers: &HeaderMap) -> Answer {
    let format = Format::negotiate(&joined(headers, header::ACCEPT));
    let gzip = exposition::gzip_accepted(&joined(headers, header::ACCEPT_ENCODING));
    let app = shared.app.clone();
    let answer = blocking(move || {
        if !app.ready() {
            return not_ready();
        }
        let mut body = Body::new(gzip);
        app.exposition(format, &mut body);
        let mut answer = respond(StatusCode::OK, format.content_type(), body.finish());
        let headers = answer.headers_mut();
        if gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(
            header::VARY,
            HeaderValue::from_static("Accept, Accept-Encoding"),
        );
        answer
    })
    .await;
    shared.app.scraped(answer.status().as_u16());
    answer
}

/// All lines of a header as one, as HTTP allows.
fn joined(headers: &HeaderMap, name: header::HeaderName) -> String {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    lines.join(",")
}

/// Runs `work` off the threads that serve connections. If it panics, that is one answer, not the end.
async fn blocking(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, "an answer could not be made");
            text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
        }
    }
}

/// Prometheus' HTTP service discovery: a list of groups of targets.
fn service_discovery(appliances: Vec<String>) -> Answer {
    let groups = if appliances.is_empty() {
        serde_json::json!([])
    } else {
        serde_json::json!([{ "targets": appliances }])
    };
    respond(StatusCode::OK, "application/json", groups.to_string())
}

fn not_ready() -> Answer {
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        "not ready: the backlog is being read\n",
    )
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    respond(status, "text/plain; charset=utf-8", body)
}

fn html(status: StatusCode, body: String) -> Answer {
    let mut answer = respond(status, "text/html; charset=utf-8", body);
    // The page quotes logs. Should it ever fail to escape, nothing in it runs.
    answer.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"),
    );
    answer
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}
