//! Builds the modules and runs them: the thread that reads, the thread that writes checkpoints, the server, reload and
//! shutdown.

mod auto_reload;
mod backlog;
mod checkpoint;
mod debug;
mod publish;
mod reader;
mod reload;
mod scrape;
mod sources;
mod topics;
mod totals;
mod watchdog;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{error, info, warn};

use crate::config::{Config, Source};
use crate::diagnostic::Diagnostic;
use crate::engine::Engine;
use crate::followed::{self, Files};
use crate::heartbeat::Heartbeat;
use crate::metric::{Restored, ScrapeView};
use crate::own_metrics::OwnMetrics;
use crate::passed::Passed;
use crate::server::{self, App, Scrapers, WebConfig};
use crate::shard::Shards;
use crate::source::Positions;
use crate::state::{self, State};
use crate::syslog::{self, Receivers};
use crate::tail::{self, SourceSpec, Waker};
pub use auto_reload::AutoReload;
use checkpoint::Writer;
use publish::Figures;
use reader::{FirstRead, Reader, read};
use sources::Sources;
use topics::Topics;
use watchdog::feed_watchdog;

/// How long the reading thread sleeps when there is nothing to do.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a reload waits for the reading thread to begin with it.
const RELOAD_WAIT: Duration = Duration::from_secs(30);

/// Settings and rules, read and checked.
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The rules, ready to run.
    pub engine: Engine,
    /// The certificates and tables of sources that listen.
    pub syslog: syslog::Settings,
}

/// Reads settings and rules anew, as the command line asks for them.
pub type Load = dyn Fn() -> Result<Loaded, Vec<Diagnostic>> + Send + Sync;

/// How to serve.
pub struct Serving {
    /// Sockets that listen.
    pub listeners: Vec<TcpListener>,
    /// Sockets of systemd that are left for the sources.
    pub passed: Passed,
    /// The server's settings.
    pub options: server::Options,
    /// Reload without being asked.
    pub auto_reload: Option<AutoReload>,
}

/// Why a run did not begin, or ended.
#[derive(Debug)]
pub enum Failure {
    /// Settings or rules are wrong.
    Settings(Vec<Diagnostic>),
    /// Anything else: a state directory in use, no descriptors left.
    Other(String),
}

/// Follows files and serves until SIGTERM or SIGINT, or until `stop` is ready.
///
/// # Errors
/// Settings are wrong, or the state directory, a thread or the server cannot be set up.
pub fn run(load: Box<Load>, mut serving: Serving, web: Option<WebConfig>) -> Result<(), Failure> {
    let started = SystemTime::now();
    raise_descriptor_limit();
    // All that takes long goes to threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .thread_name("server")
        .enable_all()
        .build()
        .map_err(other)?;
    survive_file_limit(&runtime).map_err(other)?;
    let Loaded {
        config,
        engine,
        syslog: settings,
    } = load().map_err(Failure::Settings)?;
    let own = Arc::new(OwnMetrics::new(
        env!("CARGO_PKG_VERSION"),
        env!("BUILD_REVISION"),
        started,
    ));
    engine.table().set_now(unix_seconds(started) as u32);
    let bound = syslog::bind(&config.sources, &mut serving.passed).map_err(Failure::Other)?;
    let (state, former) = open_state(&config, &engine)?;
    let (positions, restored) = former.unzip();
    let is_first_start = positions.is_none();
    let Restored { repeats, shown, .. } = restored.unwrap_or_default();
    let scrapers = Arc::new(Scrapers::new(&shown, state.is_some()));
    let web = web.map(Arc::new);
    let settings_of_files = followed::settings(&config).map_err(Failure::Settings)?;
    let files = positions.as_ref().map(|positions| positions.files.clone());
    let files = Files::new(settings_of_files, files).map_err(other)?;
    let positions = positions.unwrap_or_default();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        rules = engine.rules().rules.len(),
        sources = config.sources.len(),
        "starting"
    );
    for source in &config.sources {
        touch(&own, source);
    }
    let waker = Arc::new(Mutex::new(files.waker()));
    let wake = {
        let waker = waker.clone();
        Arc::new(move || waker.lock().wake())
    };
    let directory = config.state.directory.as_ref();
    let options = syslog::Options {
        directory: directory.map(|directory| directory.join("spool")),
        positions: positions.clone(),
        own: own.clone(),
        wake,
    };
    let (receivers, intake) =
        syslog::start(bound, &config.sources, settings, options).map_err(other)?;
    let sources = Sources::new(files, vec![Box::new(intake)], positions.streams);
    let engine = Arc::new(engine);
    let shards = Arc::new(Shards::default());
    let scrapes = (&serving.listeners[..], &scrapers);
    let topics = Topics::start(&config, &engine, &own, &shards, scrapes).map_err(other)?;
    let shared = Arc::new(Shared {
        engine: Mutex::new(engine),
        shards,
        topics,
        own,
        load,
        config: Mutex::new(Arc::new(config.clone())),
        started: Instant::now(),
        ready: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        figures: Mutex::new(Figures::default()),
        fresh: Condvar::new(),
        asked: AtomicBool::new(true),
        view: Mutex::default(),
        scrapers: scrapers.clone(),
        web: web.clone(),
        next: Mutex::new(None),
        forget: Mutex::default(),
        reload: Mutex::new(ReloadState::succeeded()),
        reloading: Mutex::new(()),
        checkpoint: Arc::new(Mutex::new(None)),
        waker,
        receivers,
        heartbeat: Arc::default(),
    });
    shared.own.config_last_reload_successful.set(1);
    shared
        .own
        .config_last_reload_success_timestamp_seconds
        .set(unix_seconds(SystemTime::now()));

    let writer = state
        .map(|state| Writer::start(state, shared.checkpoint.clone(), scrapers))
        .transpose()
        .map_err(other)?;
    let reader = {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("reader".into())
            .spawn(move || {
                shared.heartbeat.beat();
                let first = FirstRead {
                    is_first_start,
                    repeats,
                };
                read(Reader::new(shared, sources, config, first), writer)
            })
            .map_err(other)?
    };
    if let Some(interval) = sd_notify::watchdog_enabled() {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || feed_watchdog(&shared, interval))
            .map_err(other)?;
    }
    let served = serve(runtime, &shared, serving, web);
    stop(&shared, reader);
    served.map_err(other)
}

/// Ends all reading; the last checkpoints are on disk then.
fn stop(shared: &Shared, reader: JoinHandle<()>) {
    shared.stop.store(true, Ordering::SeqCst);
    shared.wake();
    if reader.join().is_err() {
        error!("the reading thread has panicked");
    }
    shared.topics.stop();
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

/// Exposes what is counted of a source that follows files, at 0.
fn touch(own: &OwnMetrics, source: &Source) {
    if source.is_followed() {
        own.touch_source(&source.name);
    }
}

/// What reads lines needs no more threads than there are cores.
fn pipeline_limits(limits: crate::config::Limits) -> crate::pipeline::Limits {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    crate::pipeline::Limits {
        line_bytes: limits.line_bytes,
        threads: limits.threads.min(cores),
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Descriptors up to the hard limit. The soft one is low for the sake of programs that use select(2).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    // Then there are fewer.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
}

/// A file that would grow over RLIMIT_FSIZE is then an error of a write, as on a full disk, and no signal that ends the
/// process.
fn survive_file_limit(runtime: &tokio::runtime::Runtime) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let _inside = runtime.enter();
    // What tokio has once taken over stays so, also when nobody listens to it.
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

fn serve(
    runtime: tokio::runtime::Runtime,
    shared: &Arc<Shared>,
    serving: Serving,
    web: Option<Arc<WebConfig>>,
) -> std::io::Result<()> {
    let tls = web.as_ref().is_some_and(|web| web.has_tls());
    let passwords = web.as_ref().is_some_and(|web| web.has_passwords());
    for listener in &serving.listeners {
        if let Ok(address) = listener.local_addr() {
            info!(%address, tls, passwords, "listening");
        }
    }
    let mut options = serving.options;
    options.web_config = web;
    options.scrapers = shared.scrapers.clone();
    let app: Arc<dyn App> = shared.clone();
    let hangups = shared.clone();
    let done = runtime.block_on(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        if let Some(auto_reload) = serving.auto_reload {
            tokio::spawn(auto_reload.run(hangups.clone()));
        }
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let shared = hangups.clone();
                // What it comes to is in the log and in the metrics.
                let _ = tokio::task::spawn_blocking(move || App::reload(&*shared)).await;
            }
        });
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("stopping");
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        };
        server::serve(serving.listeners, app, options, shutdown).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// What a former process left: how far it had read, and what else than the table has of its values.
type Former = (Positions, Restored);

fn open_state(
    config: &Config,
    engine: &Engine,
) -> Result<(Option<State>, Option<Former>), Failure> {
    let Some(directory) = &config.state.directory else {
        return Ok((None, None));
    };
    let state = State::open(directory).map_err(other)?;
    if let Some(others) = state.others() {
        warn!(path = %directory.display(), "others can remove or replace the state: {others}");
    }
    let loaded = state
        .load()
        .map_err(|error| Failure::Other(format!("{}: {error}", state.path().display())))?;
    let unusable = |why: &dyn std::fmt::Display| {
        warn!(
            err = %why,
            path = %state.path().display(),
            "the snapshot cannot be used and was renamed to snapshot.unusable; counters begin at 0 and files are read again"
        );
    };
    let snapshot = match loaded {
        state::Loaded::Nothing => return Ok((Some(state), None)),
        state::Loaded::Unusable(why) => {
            unusable(&why);
            return Ok((Some(state), None));
        }
        state::Loaded::Snapshot(snapshot) => snapshot,
    };
    let restored = engine.table().restore_from(state::unpack(&snapshot.table));
    match restored {
        Ok(restored) => {
            // What happened meanwhile is news.
            engine.table().finish_backfill();
            engine.restore_attempts(&restored.attempts);
            info!(
                series = restored.series,
                dropped = restored.dropped,
                "values restored"
            );
            Ok((Some(state), Some((snapshot.positions, restored))))
        }
        Err(error) => {
            // Positions without values would lose what the values stood for.
            state.put_aside();
            unusable(&error);
            engine.table().clear();
            Ok((Some(state), None))
        }
    }
}

/// What threads share.
struct Shared {
    /// Rules and numbers; a reload exchanges them.
    engine: Mutex<Arc<Engine>>,
    /// Partitions, with a table each, and the threads that read them.
    shards: Arc<Shards>,
    topics: Topics,
    own: Arc<OwnMetrics>,
    load: Box<Load>,
    /// The settings in force.
    config: Mutex<Arc<Config>>,
    started: Instant,
    ready: AtomicBool,
    stop: AtomicBool,
    /// What the reading thread last said of the streams.
    figures: Mutex<Figures>,
    fresh: Condvar,
    /// Somebody wants figures.
    asked: AtomicBool,
    /// What scrapes see; locked before the table.
    view: Mutex<ScrapeView>,
    scrapers: Arc<Scrapers>,
    web: Option<Arc<WebConfig>>,
    /// Settings that the reading thread is to take over.
    next: Mutex<Option<Next>>,
    /// An appliance that it is to forget, and where it says whether it was known.
    forget: Mutex<Vec<(String, SyncSender<bool>)>>,
    reload: Mutex<ReloadState>,
    /// One reload at a time.
    reloading: Mutex<()>,
    /// When what is on disk was last known to be all there is.
    checkpoint: Arc<Mutex<Option<Instant>>>,
    /// That of the present tail.
    waker: Arc<Mutex<Waker>>,
    receivers: Arc<Receivers>,
    /// That of the reading thread.
    heartbeat: Arc<Heartbeat>,
}

struct ReloadState {
    /// When configuration and rules last took effect.
    at: Instant,
    error: Option<String>,
}

impl ReloadState {
    fn succeeded() -> Self {
        Self {
            at: Instant::now(),
            error: None,
        }
    }
}

/// A reload on its way.
struct Next {
    config: Config,
    files: (Vec<SourceSpec>, tail::Options),
    engine: Engine,
    /// Takes what came of it.
    done: SyncSender<Result<(), String>>,
}

impl Shared {
    /// Wakes the reading thread.
    fn wake(&self) {
        self.waker.lock().wake();
    }

    fn engine(&self) -> Arc<Engine> {
        self.engine.lock().clone()
    }

    fn config(&self) -> Arc<Config> {
        self.config.lock().clone()
    }
}
