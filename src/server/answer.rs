//! Requests and what they are answered with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::connection::{Connection, Payload};
use super::page::{self, page};
use super::runbooks::runbook;
use super::scrape::{Failure, Variant};
use super::scrapers::Identity;
use super::web_config::Loaded;
use super::{App, Appliance, Scope, Shared};
use crate::exposition::{Coding, Format};

/// What is left of a scrape in parts, as if it were a shard. Those have a slash in their names.
const REST: &str = "rest";

/// Between two requests that change something.
const ORDER_PAUSE: Duration = Duration::from_secs(1);

type Answer = Response<Payload>;

/// What the client gets, reported to its connection as it is sent.
pub(super) async fn answer(
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Answer {
    connection.begin_answer();
    let answer = authorize(&connection, shared, request).await;
    answer.map(|payload| payload.on(connection))
}

/// The answer, if the web configuration lets the client have it.
async fn authorize(
    connection: &Arc<Connection>,
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Answer {
    if request.version() == Version::HTTP_11
        && request.headers().get_all(header::HOST).iter().count() != 1
    {
        return text(StatusCode::BAD_REQUEST, "exactly one Host is needed\n");
    }
    let web = shared.web().await;
    if shared.options.web_config.is_some() && web.is_none() {
        // Nothing is served unguarded for want of knowing the guard.
        return text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n");
    }
    let Some(web) = web else {
        return route(connection, shared, request, false).await;
    };
    let has_password = !web.users.is_empty();
    let mut answer = if !web.admits(Instant::now()) {
        text(StatusCode::TOO_MANY_REQUESTS, "too many requests\n")
    } else if has_password && !admitted(connection, &shared, &web, request.headers()).await {
        let mut refused = text(StatusCode::UNAUTHORIZED, "unauthorized\n");
        refused
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        refused
    } else {
        route(connection, shared, request, has_password).await
    };
    for (name, value) in &web.headers {
        answer.headers_mut().insert(name, value.clone());
    }
    answer
}

async fn admitted(
    connection: &Connection,
    shared: &Shared,
    web: &Loaded,
    headers: &HeaderMap,
) -> bool {
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let check = || connection.begin_check();
    let admitted = (shared.passwords).admit(&web.users, authorization, connection.address, check);
    let admitted = admitted.await;
    connection.end_check();
    admitted
}

/// What is served besides the metrics and the runbooks.
const ENDPOINTS: [&str; 9] = [
    "/",
    "/-/config",
    "/-/forget",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/debug",
    "/sd",
    "/sd/shards",
];

/// Whether a path has a meaning of its own, now or in a later version, so that the metrics cannot be there.
pub(crate) fn is_reserved(path: &str) -> bool {
    ENDPOINTS.contains(&path) || path.starts_with("/-/") || path.starts_with("/runbooks")
}

async fn route(
    connection: &Connection,
    shared: Arc<Shared>,
    request: Request<Incoming>,
    has_password: bool,
) -> Answer {
    let Some(path) = below_prefix(request.uri().path(), &shared.options.route_prefix) else {
        return match request.uri().path() {
            path if path == "/" || path == shared.options.route_prefix => {
                redirect(format!("{}/", shared.options.external_path))
            }
            _ => html(
                StatusCode::NOT_FOUND,
                page::not_found(&shared.options.external_path),
            ),
        };
    };
    let method = request.method();
    let is_order = matches!(path, "/-/reload" | "/-/forget");
    let runbook = runbook(path);
    let known =
        runbook.is_some() || path == shared.options.telemetry_path || ENDPOINTS.contains(&path);
    if !known {
        return html(
            StatusCode::NOT_FOUND,
            page::not_found(&shared.options.external_path),
        );
    }
    let allowed = match *method {
        Method::GET | Method::HEAD => !is_order,
        Method::POST => is_order,
        _ => false,
    };
    if !allowed {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        let allow = if is_order { "POST" } else { "GET, HEAD" };
        refused
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allow));
        return refused;
    }
    if path == shared.options.telemetry_path {
        return scrape(connection, shared, &request).await;
    }
    if let Some(page) = runbook {
        return html(StatusCode::OK, page);
    }
    if is_order && let Some(refused) = refuse_order(&shared, request.headers(), has_password) {
        return refused;
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
        "/-/forget" => match value_of("appliance", request.uri().query()) {
            Some(appliance) if !appliance.is_empty() => {
                blocking(move || match app.forget(&appliance) {
                    Ok(true) => text(StatusCode::OK, "forgotten\n"),
                    Ok(false) => text(StatusCode::NOT_FOUND, "no such appliance\n"),
                    Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
                })
                .await
            }
            _ => text(StatusCode::BAD_REQUEST, "which? /-/forget?appliance=NAME\n"),
        },
        "/-/config" => text(StatusCode::OK, app.configuration()),
        "/debug" => blocking(move || text(StatusCode::OK, app.debug())).await,
        "/sd" => blocking(move || service_discovery(app.appliances())).await,
        "/sd/shards" => {
            let host = request.headers().get(header::HOST);
            let host = host.and_then(|host| host.to_str().ok());
            shard_discovery(host.unwrap_or_default(), app.shards())
        }
        _ => {
            let telemetry_path = shared.options.telemetry_path.clone();
            blocking(move || html(StatusCode::OK, page(&app.status(), &telemetry_path))).await
        }
    }
}

/// The path behind the prefix that all paths have.
fn below_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (prefix.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The value of a key in a query, percent-decoded.
fn value_of(key: &str, query: Option<&str>) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(found, _)| *found == key);
    let value = named.next_back()?.1;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, decoded) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Why this request must not change anything. A web page of elsewhere can make a browser send it, which says so.
fn refuse_order(shared: &Shared, headers: &HeaderMap, has_password: bool) -> Option<Answer> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if !has_password && !shared.options.enable_lifecycle {
        return Some(text(
            StatusCode::FORBIDDEN,
            "this is off: start with --web.enable-lifecycle; SIGHUP reloads without\n",
        ));
    }
    let is_foreign = |origin: &str| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_none() || host != header("host")
    };
    if header("origin").is_some_and(is_foreign)
        || header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"))
    {
        return Some(text(StatusCode::FORBIDDEN, "not from another site\n"));
    }
    let mut last = shared.last_order.lock();
    if last.is_some_and(|last| last.elapsed() < ORDER_PAUSE) {
        return Some(text(
            StatusCode::TOO_MANY_REQUESTS,
            "at most one a second\n",
        ));
    }
    *last = Some(Instant::now());
    None
}

async fn scrape(
    connection: &Connection,
    shared: Arc<Shared>,
    request: &Request<Incoming>,
) -> Answer {
    let begun = Instant::now();
    let scope = match value_of("shard", request.uri().query()) {
        None => Scope::All,
        Some(name) if name == REST => Scope::Rest,
        Some(name) if shared.app.shards().contains(&name) => Scope::Shard(name.into()),
        Some(_) => return text(StatusCode::NOT_FOUND, "no such shard is read here\n"),
    };
    let _in_flight = InFlight::new(shared.app.clone());
    let headers = request.headers();
    // A HEAD shows nothing.
    let timeout = scrape_timeout(headers).filter(|_| request.method() == Method::GET);
    let variant = Variant {
        format: Format::negotiate(&joined(headers, header::ACCEPT)),
        coding: Coding::negotiate(&joined(headers, header::ACCEPT_ENCODING)),
        shown: timeout.map_or(u64::MAX, |timeout| {
            let identity = || identity(connection, headers, &scope);
            let is_part = scope != Scope::All;
            connection.begin_scrape(&shared.options.scrapers, identity, timeout, is_part)
        }),
        scope,
    };
    let (format, coding) = (variant.format, variant.coding);
    let body = shared
        .scrapes
        .body(&shared.app, variant, &shared.connections);
    let answer = match body.await {
        Ok(made) => {
            if timeout.is_some() {
                connection.shows(made.birth);
            }
            let mut answer = respond(StatusCode::OK, format.content_type(), made.bytes());
            let headers = answer.headers_mut();
            if coding != Coding::Identity {
                let name = HeaderValue::from_static(coding.name());
                headers.insert(header::CONTENT_ENCODING, name);
            }
            headers.insert(
                header::VARY,
                HeaderValue::from_static("Accept, Accept-Encoding"),
            );
            answer
        }
        Err(Failure::Busy) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many scrapes at the same time\n",
        ),
        Err(Failure::Panic(error)) => failed(&error),
    };
    let code = answer.status().as_u16();
    shared.app.scraped(code, begun.elapsed());
    answer
}

/// A scrape that is being answered, also if its client goes away.
struct InFlight(Arc<dyn App>);

impl InFlight {
    fn new(app: Arc<dyn App>) -> Self {
        app.scrapes_in_flight(1);
        Self(app)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.scrapes_in_flight(-1);
    }
}

/// How long a scraper waits for its answer; nothing if the client is none.
fn scrape_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("x-prometheus-scrape-timeout-seconds")?;
    let seconds: f64 = seconds.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn identity(connection: &Connection, headers: &HeaderMap, scope: &Scope) -> Identity {
    let user_agent = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let is_proxied = [header::VIA, header::FORWARDED]
        .iter()
        .any(|name| headers.contains_key(name))
        || headers.contains_key("x-forwarded-for");
    let user_agent = user_agent.unwrap_or("");
    // Whoever scrapes in parts is a scraper of each.
    let user_agent = match scope {
        Scope::All => user_agent.to_owned(),
        Scope::Rest => format!("shard={REST} {user_agent}"),
        Scope::Shard(name) => format!("shard={name} {user_agent}"),
    };
    Identity::new(connection.address, &user_agent, is_proxied)
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
        Err(error) => failed(&error),
    }
}

fn failed(error: &tokio::task::JoinError) -> Answer {
    tracing::error!(err = %error, "an answer could not be made");
    text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
}

/// Prometheus' HTTP service discovery: a list of groups of targets. What is known of a target is in labels that relabelling
/// sees and that no series gets.
fn service_discovery(appliances: Vec<Appliance>) -> Answer {
    let group = |appliance: Appliance| {
        let mut labels = serde_json::Map::new();
        if let Some(profile) = appliance.profile {
            labels.insert("__meta_appliance_profile".into(), profile.into());
        }
        if let Some(last) = appliance.last_message {
            let name = "__meta_appliance_last_message_timestamp_seconds";
            labels.insert(name.into(), format!("{last:.0}").into());
        }
        serde_json::json!({ "targets": [appliance.name], "labels": labels })
    };
    let groups: Vec<_> = appliances.into_iter().map(group).collect();
    let groups = serde_json::Value::from(groups);
    respond(StatusCode::OK, "application/json", groups.to_string())
}

/// The same for an exporter that is scraped in parts: a target for each shard, and one for the rest. The label `shard` tells
/// apart what several have, `up` and the series of `other`.
fn shard_discovery(host: &str, shards: Vec<String>) -> Answer {
    let group =
        |labels: serde_json::Value| serde_json::json!({ "targets": [host], "labels": labels });
    let rest = std::iter::once(serde_json::json!({ "__param_shard": REST }));
    let each = |shard: String| serde_json::json!({ "__param_shard": shard, "shard": shard });
    let groups: Vec<_> = rest
        .chain(shards.into_iter().map(each))
        .map(group)
        .collect();
    let groups = serde_json::Value::from(groups);
    respond(StatusCode::OK, "application/json", groups.to_string())
}

fn not_ready() -> Answer {
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        "not ready: the backlog is being read\n",
    )
}

fn redirect(location: String) -> Answer {
    let mut answer = text(StatusCode::FOUND, "");
    // A prefix is checked when it is set.
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    respond(status, "text/plain; charset=utf-8", body)
}

fn html(status: StatusCode, body: String) -> Answer {
    let mut answer = respond(status, "text/html; charset=utf-8", body);
    // The page quotes logs. Should it ever fail to escape, nothing in it runs.
    answer.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"),
    );
    answer
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Payload::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}
