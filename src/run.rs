//! Builds the rooms and runs them: the thread that reads, the thread that writes checkpoints, the server, reload and
//! shutdown.

use std::collections::HashMap;
use std::io::{BufReader, BufWriter, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tracing::{error, info, warn};

use crate::config::{self, Config};
use crate::diagnostic::Diagnostic;
use crate::engine::Core;
use crate::exposition::{self, Body, Format};
use crate::heartbeat::Heartbeat;
use crate::logfmt;
use crate::metric::{Restored, Saved, SavedRepeat, ScrapeView, Snapshot, lock};
use crate::own_metrics::{OwnMetrics, Process, ScrapeGauges};
use crate::pipeline::{EndOnPanic, Pipeline};
use crate::server::{self, App, Scrapers, WebConfig};
use crate::state::{self, Loaded, State};
use crate::tail::{self, Pattern, Positions, SourceSpec, Tail, Waker};

/// How long the reading thread sleeps when there is nothing to do.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How often series are evicted at most.
const EVICT_EVERY: Duration = Duration::from_secs(1);
/// A clock that differs by more from what has passed was set.
const CLOCK_SET: Duration = Duration::from_secs(60);
/// How often stale series are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How long a scrape waits for fresh figures of the reading thread.
const FIGURES_WAIT: Duration = Duration::from_millis(50);
/// Labels that a scrape copies while the reading thread waits: less than a millisecond's work.
const LABELS_AT_ONCE: usize = 10_000;
/// How long a reload waits for the reading thread to begin with it.
const RELOAD_WAIT: Duration = Duration::from_secs(30);
/// A reading thread that makes no progress for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30);
/// Appliances that may wait to be forgotten.
const FORGET_MAX: usize = 100;
/// Kinds of unrecognised messages that are shown on the status page.
const UNRECOGNISED_SHOWN: usize = 50;

/// Reads settings and rules anew, as the command line asks for them.
pub type Load = dyn Fn() -> Result<(Config, Core), Vec<Diagnostic>> + Send + Sync;

/// How to serve.
pub struct Serving {
    /// Sockets that listen.
    pub listeners: Vec<TcpListener>,
    /// The server's settings.
    pub options: server::Options,
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
/// Settings are wrong, or the state directory, a thread or the server cannot be had.
pub fn run(load: Box<Load>, serving: Serving, web: Option<WebConfig>) -> Result<(), Failure> {
    let started = SystemTime::now();
    let (config, core) = load().map_err(Failure::Settings)?;
    let own = Arc::new(OwnMetrics::new(
        env!("CARGO_PKG_VERSION"),
        option_env!("GIT_REVISION").unwrap_or("unknown"),
        started,
    ));
    core.table().set_now(unix_seconds(started) as u32);
    let (state, former) = open_state(&config, &core)?;
    let (positions, restored) = former.unzip();
    let Restored { repeats, shown, .. } = restored.unwrap_or_default();
    let is_first_start = positions.is_none();
    let scrapers = Arc::new(Scrapers::new(&shown, state.is_some()));
    let web = web.map(Arc::new);
    let (specs, options) = tail_settings(&config).map_err(Failure::Settings)?;
    let tail =
        Tail::new(specs, options, positions).map_err(|error| Failure::Other(error.to_string()))?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        rules = core.rules().rules.len(),
        sources = config.sources.len(),
        "starting"
    );
    for source in &config.sources {
        own.touch_source(&source.name);
    }
    let shared = Arc::new(Shared {
        core: Mutex::new(Arc::new(core)),
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
        reload: Mutex::new(ReloadState {
            at: Instant::now(),
            error: None,
        }),
        reloading: Mutex::new(()),
        checkpoint: Arc::new(Mutex::new(None)),
        waker: tail.waker(),
        heartbeat: Arc::default(),
    });
    shared.own.config_last_reload_successful.set(1);
    shared
        .own
        .config_last_reload_success_timestamp_seconds
        .set(unix_seconds(SystemTime::now()));

    let writer = state.map(|state| Writer::start(state, shared.checkpoint.clone(), scrapers));
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
                read(&shared, tail, config, writer, first)
            })
            .map_err(|error| Failure::Other(error.to_string()))?
    };
    if let Some(interval) = sd_notify::watchdog_enabled() {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || feed_watchdog(&shared, interval))
            .map_err(|error| Failure::Other(error.to_string()))?;
    }
    let served = serve(&shared, serving, web);
    shared.stop.store(true, Ordering::SeqCst);
    shared.waker.wake();
    if reader.join().is_err() {
        error!("the reading thread has panicked");
    }
    served.map_err(|error| Failure::Other(error.to_string()))
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

fn serve(
    shared: &Arc<Shared>,
    serving: Serving,
    web: Option<Arc<WebConfig>>,
) -> std::io::Result<()> {
    // All that takes long goes to threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .thread_name("server")
        .enable_all()
        .build()?;
    let mut options = serving.options;
    options.web_config = web;
    options.scrapers = shared.scrapers.clone();
    for listener in &serving.listeners {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
    }
    let app: Arc<dyn App> = shared.clone();
    let hangups = shared.clone();
    let done = runtime.block_on(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
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

fn open_state(config: &Config, core: &Core) -> Result<(Option<State>, Option<Former>), Failure> {
    let Some(directory) = &config.state.directory else {
        return Ok((None, None));
    };
    let state = State::open(directory).map_err(|error| Failure::Other(error.to_string()))?;
    let loaded = state
        .load()
        .map_err(|error| Failure::Other(format!("{}: {error}", state.path().display())))?;
    let snapshot = match loaded {
        Loaded::Nothing => return Ok((Some(state), None)),
        Loaded::Unusable(why) => {
            warn!(%why, "the snapshot cannot be used; beginning anew");
            return Ok((Some(state), None));
        }
        Loaded::Snapshot(snapshot) => snapshot,
    };
    let restored = core.table().restore_from(unpack(&snapshot.table));
    match restored {
        Ok(restored) => {
            // What happened meanwhile is news.
            core.table().finish_backfill();
            info!(
                series = restored.series,
                dropped = restored.dropped,
                "values restored"
            );
            Ok((Some(state), Some((snapshot.positions, restored))))
        }
        Err(error) => {
            // Positions without values would lose what the values stood for.
            warn!(%error, "the snapshot's values cannot be used; beginning anew");
            core.table().clear();
            Ok((Some(state), None))
        }
    }
}

fn tail_settings(config: &Config) -> Result<(Vec<SourceSpec>, tail::Options), Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let mut specs = Vec::new();
    for source in &config.sources {
        let mut patterns = |texts: &[String]| -> Vec<Pattern> {
            texts
                .iter()
                .filter_map(|text| match Pattern::parse(text) {
                    Ok(pattern) => Some(pattern),
                    Err(error) => {
                        faults.push(Diagnostic {
                            file: source.name.as_str().into(),
                            line: 1,
                            column: 1,
                            text: text.clone(),
                            message: error.to_string(),
                            hint: None,
                        });
                        None
                    }
                })
                .collect()
        };
        let mut spec = SourceSpec::new(source.name.clone(), patterns(&source.paths));
        spec.exclude = patterns(&source.exclude);
        spec.read_from = match source.read_from {
            config::ReadFrom::Beginning => tail::ReadFrom::Beginning,
            config::ReadFrom::End => tail::ReadFrom::End,
        };
        specs.push(spec);
    }
    let options = tail::Options {
        watcher: match config.tail.watcher {
            config::Watcher::Inotify => tail::Watcher::Inotify,
            config::Watcher::Linemux => tail::Watcher::Linemux,
            config::Watcher::Poll => tail::Watcher::Poll,
        },
        poll: config.tail.poll,
        rescan: config.tail.rescan,
        drain_grace: config.tail.drain_grace,
        files_max: config.limits.files,
        ..tail::Options::default()
    };
    if faults.is_empty() {
        Ok((specs, options))
    } else {
        Err(faults)
    }
}

/// What threads share.
struct Shared {
    /// Rules and numbers; a reload exchanges them.
    core: Mutex<Arc<Core>>,
    own: Arc<OwnMetrics>,
    load: Box<Load>,
    /// The settings in force.
    config: Mutex<Arc<Config>>,
    started: Instant,
    ready: AtomicBool,
    stop: AtomicBool,
    /// What the reading thread last said of its files.
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
    waker: Waker,
    /// That of the reading thread.
    heartbeat: Arc<Heartbeat>,
}

/// Files as the reading thread sees them.
#[derive(Clone, Default)]
struct Figures {
    number: u64,
    files: Vec<server::FileStatus>,
    lag: Vec<(Arc<str>, u64)>,
    unreadable: Vec<(Arc<str>, u64)>,
    /// For each file its path, its source, and its size as far as the reading thread knows.
    sizes: Vec<(PathBuf, usize, u64)>,
}

struct ReloadState {
    at: Instant,
    error: Option<String>,
}

/// A reload on its way.
struct Next {
    config: Config,
    specs: Vec<SourceSpec>,
    options: tail::Options,
    core: Core,
    /// Takes what came of it.
    done: SyncSender<Result<(), String>>,
}

/// What the reading thread must know of the process before it.
struct FirstRead {
    /// There is none, so that whatever is found is old.
    is_first_start: bool,
    /// What its last lines counted.
    repeats: Vec<SavedRepeat>,
}

/// The reading thread.
fn read(
    shared: &Arc<Shared>,
    mut tail: Tail,
    mut config: Config,
    writer: Option<Writer>,
    first: FirstRead,
) {
    let _end = EndOnPanic;
    let mut pipeline = Pipeline::new(
        shared.core(),
        shared.own.clone(),
        config.sources.clone(),
        config.limits.pipeline(),
    );
    pipeline.restore_repeats(&shared.core(), &first.repeats);
    if first.is_first_start {
        pipeline.begin_backfill(|_| true);
    }
    // What was there when we started, or when a reload added sources; more may be written all the time, so the end alone
    // is no sign.
    let mut backlog = None;
    let mut caught_up = false;
    let mut read_bytes = 0;
    let mut expire_at = Instant::now() + EXPIRE_EVERY;
    // The first one is taken at once: from then on a rotation while we are stopped is noticed.
    let mut checkpoint_at = Instant::now();
    let mut dirty = false;
    let mut rates = Rates::default();
    pipeline.set_heartbeat(shared.heartbeat.clone());
    let mut evict_at = Instant::now();
    let mut clock = Clock::default();
    let mut fallback_told = false;
    loop {
        let now = Instant::now();
        shared.heartbeat.beat();
        if let Some(seconds) = clock.was_set() {
            warn!(seconds, "the clock was set; ages are counted on");
            pipeline.drain();
            let now = unix_seconds(SystemTime::now()) as u32;
            shared.core().clock_was_set(now, seconds);
        }
        pipeline.set_now(Timestamp::now());
        let progress = tail.read(now, &mut pipeline);
        read_bytes += progress.bytes;
        if !progress.more {
            pipeline.drain();
        }
        let backlog_end = *backlog.get_or_insert_with(|| {
            let waiting: u64 = tail.status().map(|file| file.lag_bytes).sum();
            read_bytes + waiting
        });
        if !caught_up && (!progress.more || read_bytes > backlog_end) {
            caught_up = true;
            pipeline.finish_backfill();
            if !shared.ready.load(Ordering::Relaxed) {
                shared.core().table().finish_backfill();
                shared.ready.store(true, Ordering::SeqCst);
                info!(bytes = read_bytes, "caught up; ready");
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
        }
        if !fallback_told && let Some(reason) = &tail.watching().fallback {
            warn!(%reason, "files are polled, because the watcher cannot be had");
            fallback_told = true;
        }
        if now >= expire_at {
            expire_at = now + EXPIRE_EVERY;
            pipeline.drain();
            maintain(shared);
        } else if now >= evict_at && shared.core().table().wants_eviction() {
            evict_at = now + EVICT_EVERY;
            pipeline.drain();
            maintain(shared);
        }
        forget(shared, &mut pipeline);
        if let Some(next) = lock(&shared.next).take() {
            match apply_reload(shared, next, tail, &mut pipeline, &mut config) {
                Some(new) => tail = new,
                // There is nothing to read from, and the positions of the last checkpoint stand.
                None => break,
            }
            dirty = true;
            (backlog, caught_up) = (None, false);
        }
        let stopping = shared.stop.load(Ordering::SeqCst);
        dirty |= pipeline.take_dirty() | shared.scrapers.take_changed();
        if let Some(writer) = &writer
            && (stopping || now >= checkpoint_at)
        {
            checkpoint_at = now + config.state.interval;
            if dirty {
                pipeline.drain();
                let positions = tail.positions(|file| pipeline.held_bytes(file));
                let shown = shared.scrapers.save();
                let mut saved = shared.core().table().save();
                saved.repeats = pipeline.save_repeats();
                saved.shown = shown;
                if writer.write(positions, saved, stopping) {
                    dirty = false;
                }
            } else {
                writer.unchanged();
            }
        }
        if stopping {
            break;
        }
        if shared.asked.swap(false, Ordering::SeqCst) {
            publish(shared, &tail, &pipeline, &config, &mut rates);
        }
        if !progress.more {
            tail.wait(WAIT_MAX);
        }
    }
    if let Some(writer) = writer {
        writer.finish();
    }
}

/// Tells systemd that the reading thread makes progress, as long as it does.
fn feed_watchdog(shared: &Shared, interval: Duration) {
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.heartbeat.age() < interval / 2 {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
        std::thread::sleep(interval / 4);
    }
}

/// Finds out whether the clock was set.
struct Clock {
    at: Instant,
    said: SystemTime,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            at: Instant::now(),
            said: SystemTime::now(),
        }
    }
}

impl Clock {
    /// By how many seconds it was, since this was last asked.
    fn was_set(&mut self) -> Option<i64> {
        let now = Self::default();
        let expected = self.said + now.at.duration_since(self.at);
        *self = now;
        let (by, sign) = match self.said.duration_since(expected) {
            Ok(ahead) => (ahead, 1),
            Err(behind) => (behind.duration(), -1),
        };
        (by >= CLOCK_SET).then(|| i64::try_from(by.as_secs()).unwrap_or(i64::MAX) * sign)
    }
}

/// What is done from time to time; everything that was read must be counted.
fn maintain(shared: &Shared) {
    let now = unix_seconds(SystemTime::now()) as u32;
    shared.core().maintain(now);
}

/// Forgets the appliances that somebody asks to forget.
fn forget(shared: &Shared, pipeline: &mut Pipeline) {
    let wanted = std::mem::take(&mut *lock(&shared.forget));
    if wanted.is_empty() {
        return;
    }
    pipeline.drain();
    for (name, done) in wanted {
        let known = shared.core().forget_appliance(&name);
        info!(appliance = name, known, "an appliance was forgotten");
        // Nobody waits any more if the request was given up.
        let _ = done.send(known);
    }
}

/// Takes over new settings: values, hits and positions stay. If files cannot be followed by them, the former ones stay.
fn apply_reload(
    shared: &Arc<Shared>,
    next: Next,
    tail: Tail,
    pipeline: &mut Pipeline,
    config: &mut Config,
) -> Option<Tail> {
    let Next {
        config: new,
        specs,
        options,
        core,
        done,
    } = next;
    pipeline.drain();
    let goes_on =
        config.sources == new.sources && config.tail == new.tail && config.limits == new.limits;
    let tail = if goes_on {
        tail
    } else {
        // Unfinished lines are read again; what stands in a pipe's is lost, and only there.
        let positions = tail.positions(|file| pipeline.held_bytes(file));
        drop(tail);
        for source in &new.sources {
            shared.own.touch_source(&source.name);
        }
        match Tail::new(specs, options, Some(positions.clone())) {
            Ok(tail) => tail,
            Err(error) => {
                let _ = done.send(Err(format!("files cannot be followed: {error}")));
                return former_tail(shared, config, &positions);
            }
        }
    };
    let dropped = core.migrate_from(&shared.core());
    core.table().finish_backfill();
    let core = Arc::new(core);
    *lock(&shared.core) = core.clone();
    if goes_on {
        pipeline.replace_core(core);
    } else {
        let repeats = pipeline.save_repeats();
        *pipeline = Pipeline::new(
            core.clone(),
            shared.own.clone(),
            new.sources.clone(),
            new.limits.pipeline(),
        );
        pipeline.set_heartbeat(shared.heartbeat.clone());
        pipeline.restore_repeats(&core, &repeats);
        pipeline.begin_backfill(|source| !config.sources.iter().any(|old| old.name == source.name));
    }
    if dropped > 0 {
        info!(
            dropped,
            "series that the new rules do not know were dropped"
        );
    }
    *lock(&shared.config) = Arc::new(new.clone());
    *config = new;
    // Nobody waits any more if the request was given up.
    let _ = done.send(Ok(()));
    Some(tail)
}

/// Follows files by the settings in force again, as soon as that can be done. None if the exporter is to stop meanwhile.
fn former_tail(shared: &Shared, config: &Config, positions: &Positions) -> Option<Tail> {
    while !shared.stop.load(Ordering::SeqCst) {
        let settings = tail_settings(config).map_err(|_| "the settings are wrong".to_owned());
        let tail = settings.and_then(|(specs, options)| {
            Tail::new(specs, options, Some(positions.clone())).map_err(|error| error.to_string())
        });
        match tail {
            Ok(tail) => return Some(tail),
            Err(error) => error!(%error, "files cannot be followed; trying again"),
        }
        shared.heartbeat.beat();
        std::thread::sleep(WAIT_MAX);
    }
    None
}

/// Lines per second of each path, between two looks.
#[derive(Default)]
struct Rates {
    at: Option<Instant>,
    lines: HashMap<PathBuf, u64>,
}

fn publish(shared: &Shared, tail: &Tail, pipeline: &Pipeline, config: &Config, rates: &mut Rates) {
    let now = Instant::now();
    let seconds = rates
        .at
        .map_or(0.0, |at| now.duration_since(at).as_secs_f64());
    let mut lag: Vec<(Arc<str>, u64)> = config
        .sources
        .iter()
        .map(|source| (source.name.as_str().into(), 0))
        .collect();
    let mut unreadable = lag.clone();
    let mut files = Vec::new();
    let mut sizes = Vec::new();
    let mut lines = HashMap::new();
    for status in tail.status() {
        let path = &status.info.path;
        if let Some(source) = lag.get_mut(status.info.source) {
            source.1 += status.lag_bytes;
        }
        if let tail::FileState::Following = status.state {
            let size = status.offset + status.lag_bytes;
            sizes.push((path.clone(), status.info.source, size));
        }
        if let tail::FileState::Unreadable(_) = status.state
            && let Some(source) = unreadable.get_mut(status.info.source)
        {
            source.1 += 1;
        }
        let counts = pipeline.path(path);
        let before = rates.lines.get(path).copied().unwrap_or(0);
        lines.insert(path.clone(), counts.lines);
        let lines_per_second = if seconds > 0.0 {
            counts.lines.saturating_sub(before) as f64 / seconds
        } else {
            0.0
        };
        files.push(server::FileStatus {
            path: path.display().to_string(),
            source: config
                .sources
                .get(status.info.source)
                .map_or_else(String::new, |source| source.name.clone()),
            appliances: counts.appliances.into_iter().collect(),
            lag_bytes: status.lag_bytes,
            lines_per_second,
            lines: counts.lines,
            rotations: counts.rotations,
            lost_bytes: counts.lost_bytes,
            error: match status.state {
                tail::FileState::Unreadable(trouble) => Some(trouble.to_string()),
                tail::FileState::Absent => Some("not there".to_owned()),
                tail::FileState::SameAsAnother => {
                    Some("another name of a file that is followed".to_owned())
                }
                tail::FileState::Following | tail::FileState::Draining => None,
            },
        });
    }
    rates.at = Some(now);
    rates.lines = lines;
    let mut figures = lock(&shared.figures);
    figures.number += 1;
    figures.files = files;
    figures.lag = lag;
    figures.unreadable = unreadable;
    figures.sizes = sizes;
    shared.fresh.notify_all();
}

impl Shared {
    fn core(&self) -> Arc<Core> {
        lock(&self.core).clone()
    }

    fn config(&self) -> Arc<Config> {
        lock(&self.config).clone()
    }

    /// What the reading thread says of its files, fresh if it answers in time; if not, what was appended since is added
    /// to its lag.
    fn figures(&self) -> Figures {
        let figures = lock(&self.figures);
        let number = figures.number;
        self.asked.store(true, Ordering::SeqCst);
        self.waker.wake();
        let waited = self
            .fresh
            .wait_timeout_while(figures, FIGURES_WAIT, |figures| figures.number == number);
        let (figures, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut figures = figures.clone();
        if waited.timed_out() {
            for (path, source, size) in &figures.sizes {
                let now = std::fs::metadata(path).map_or(*size, |metadata| metadata.len());
                if let Some((_, lag)) = figures.lag.get_mut(*source) {
                    *lag += now.saturating_sub(*size);
                }
            }
        }
        figures
    }

    /// What appliances logged, for somebody who has been shown the births up to `shown`, and the last birth in it.
    fn sync_view(&self, core: &Core, shown: u64) -> (Snapshot, u64) {
        let mut view = lock(&self.view);
        // Those who read may go on between two steps.
        while !core.table().sync_view(&mut view, LABELS_AT_ONCE) {}
        (view.snapshot(shown), view.last_birth())
    }

    fn checkpoint_age(&self) -> Option<Duration> {
        lock(&self.checkpoint).map(|at| at.elapsed())
    }

    fn try_reload(&self) -> Result<(), String> {
        let _one = lock(&self.reloading);
        let describe = |faults: Vec<Diagnostic>| {
            let lines: Vec<String> = faults.iter().map(Diagnostic::to_string).collect();
            lines.join("\n")
        };
        let (config, core) = (self.load)().map_err(describe)?;
        let (specs, options) = tail_settings(&config).map_err(describe)?;
        if config.state.directory != self.config().state.directory {
            return Err("state.directory cannot change while the exporter runs; restart it".into());
        }
        let (done, finished) = sync_channel(1);
        *lock(&self.next) = Some(Next {
            config,
            specs,
            options,
            core,
            done,
        });
        self.waker.wake();
        if let Ok(outcome) = finished.recv_timeout(RELOAD_WAIT) {
            return outcome;
        }
        // What was reported as failed must not be applied later.
        if lock(&self.next).take().is_some() {
            return Err("the reading thread does not answer; nothing was changed".into());
        }
        // It has begun, so it ends.
        let outcome = finished.recv();
        outcome.unwrap_or_else(|_| Err("the exporter is stopping".into()))
    }
}

impl App for Shared {
    fn exposition(&self, format: Format, shown: u64, body: &mut Body) -> u64 {
        let ready = self.ready.load(Ordering::SeqCst);
        let (source_lag_bytes, unreadable_files) = {
            let figures = self.figures();
            (figures.lag.clone(), figures.unreadable.clone())
        };
        let core = self.core();
        let (mut snapshot, birth) = match ready {
            true => self.sync_view(&core, shown),
            // Half a backlog is no figure, and who is shown none of it sees each birth later.
            false => (Snapshot::default(), 0),
        };
        let table = core.table();
        let counts = |count: fn(usize, u64) -> u64| {
            let of = |(metric, series, refused): (&Arc<str>, _, _)| {
                (metric.clone(), count(series, refused))
            };
            table.counts().map(of).collect()
        };
        let (series, series_dropped) = (
            counts(|series, _| series as u64),
            counts(|_, refused| refused),
        );
        let of = |(metric, count): (&Arc<str>, u64)| (metric.clone(), count);
        let series_evicted = table.evictions().map(of).collect();
        let implausible_values = table.implausible().map(of).collect();
        drop(table);
        let rule_counts = core.rule_counts();
        let gauges = ScrapeGauges {
            ready,
            source_lag_bytes,
            unreadable_files,
            series,
            series_dropped,
            rule_hits: core
                .rules()
                .rules
                .iter()
                .zip(&rule_counts.hits)
                .map(|(rule, hits)| (rule.id.clone(), *hits))
                .collect(),
            negative_amounts: rule_counts
                .negative_amounts
                .iter()
                .map(|(rule, count)| (rule.clone(), *count))
                .collect(),
            rules_loaded: core.rules().rules.len() as u64,
            series_budget: self.config().limits.table.series as u64,
            series_evicted,
            implausible_values,
            repeats_dropped: [
                ("implausible".into(), rule_counts.repeats_implausible),
                ("unattributed".into(), rule_counts.repeats_unattributed),
            ]
            .into(),
            expected_appliances: self.config().expected_appliances(),
            checkpoint_age_seconds: self.checkpoint_age().map(|age| age.as_secs_f64()),
            stderr_lines_dropped: logfmt::lost_lines(),
            certificate_expiry: self.web.as_ref().and_then(|web| web.certificate_expiry()),
        };
        drop(rule_counts);
        let families = &mut snapshot.families;
        families.splice(0..0, self.own.families());
        families.extend(gauges.families());
        families.extend(Process::read().families());
        body.reserve(&snapshot);
        exposition::write(snapshot, format, |bytes| body.push(bytes));
        birth
    }

    fn status(&self) -> server::Status {
        let files = self.figures().files.clone();
        let core = self.core();
        let config = self.config();
        let (table, rule_counts) = (core.table(), core.rule_counts());
        let status = server::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed(),
            ready: self.ready.load(Ordering::SeqCst),
            files,
            rules: core
                .rules()
                .rules
                .iter()
                .zip(&rule_counts.hits)
                .map(|(rule, hits)| server::RuleStatus {
                    name: rule.id.to_string(),
                    hits: *hits,
                })
                .collect(),
            unrecognised: rule_counts.unrecognised.most_frequent(UNRECOGNISED_SHOWN),
            series: table
                .counts()
                .filter(|(_, series, refused)| *series > 0 || *refused > 0)
                .map(|(metric, series, dropped)| server::SeriesStatus {
                    metric: metric.to_string(),
                    series,
                    series_max: config.limits.table.series_per_metric,
                    dropped,
                })
                .collect(),
            appliances: table.appliances().len(),
            appliances_max: config.limits.table.appliances,
            reload: {
                let reload = lock(&self.reload);
                server::Reload {
                    age: reload.at.elapsed(),
                    error: reload.error.clone(),
                }
            },
            checkpoint: config
                .state
                .directory
                .as_ref()
                .map(|directory| server::Checkpoint {
                    directory: directory.display().to_string(),
                    age: self.checkpoint_age(),
                }),
        };
        drop((table, rule_counts));
        status
    }

    fn healthy(&self) -> bool {
        self.heartbeat.age() < HANGS_AFTER
    }

    fn forget(&self, appliance: &str) -> Result<bool, String> {
        let (done, finished) = sync_channel(1);
        let mut wanted = lock(&self.forget);
        if wanted.len() >= FORGET_MAX {
            return Err("too many appliances are to be forgotten at once".into());
        }
        wanted.push((appliance.to_owned(), done));
        drop(wanted);
        self.waker.wake();
        finished
            .recv_timeout(RELOAD_WAIT)
            .map_err(|_| "the reading thread does not answer".to_owned())
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    fn reload(&self) -> Result<(), String> {
        let outcome = self.try_reload();
        let own = &self.own;
        own.config_last_reload_successful
            .set(i64::from(outcome.is_ok()));
        match &outcome {
            Ok(()) => {
                own.config_last_reload_success_timestamp_seconds
                    .set(unix_seconds(SystemTime::now()));
                info!("settings and rules reloaded");
            }
            Err(fault) => error!(%fault, "the reload failed; the former settings and rules stay"),
        }
        let mut reload = lock(&self.reload);
        reload.at = Instant::now();
        reload.error = outcome.clone().err();
        outcome
    }

    fn appliances(&self) -> Vec<String> {
        let core = self.core();
        let named = core.table().named_appliances();
        let mut names: Vec<String> = named.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    fn scraped(&self, code: u16) {
        self.own.scrapes.get([&code.to_string()]).inc();
    }
}

/// The thread that writes checkpoints, so that a slow disk does not hold up reading.
struct Writer {
    jobs: SyncSender<(Positions, Saved)>,
    thread: std::thread::JoinHandle<()>,
    checkpoint: Arc<Mutex<Option<Instant>>>,
    failing: Arc<AtomicBool>,
}

impl Writer {
    fn start(
        state: State,
        checkpoint: Arc<Mutex<Option<Instant>>>,
        scrapers: Arc<Scrapers>,
    ) -> Self {
        let (jobs, queue) = sync_channel(1);
        let failing = Arc::new(AtomicBool::new(false));
        let thread = {
            let (checkpoint, failing) = (checkpoint.clone(), failing.clone());
            std::thread::spawn(move || write(state, &queue, &checkpoint, &failing, &scrapers))
        };
        Self {
            jobs,
            thread,
            checkpoint,
            failing,
        }
    }

    /// Has a checkpoint written. Returns false if the last one is not on disk yet; `wait` waits for it.
    fn write(&self, positions: Positions, saved: Saved, wait: bool) -> bool {
        if wait {
            return self.jobs.send((positions, saved)).is_ok();
        }
        match self.jobs.try_send((positions, saved)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Nothing has changed: what is on disk is as good as new.
    fn unchanged(&self) {
        if !self.failing.load(Ordering::SeqCst) {
            let mut checkpoint = lock(&self.checkpoint);
            if checkpoint.is_some() {
                *checkpoint = Some(Instant::now());
            }
        }
    }

    fn finish(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            error!("the checkpoint thread has panicked");
        }
    }
}

/// The table as it is stored: JSON, so that it can be read by other versions and by an operator, and compressed on the
/// way, since names repeat in every series and the whole would be larger than the table itself.
fn pack(saved: &Saved) -> std::io::Result<Vec<u8>> {
    let compressed = GzEncoder::new(Vec::new(), Compression::fast());
    let mut buffered = BufWriter::with_capacity(64 << 10, compressed);
    serde_json::to_writer(&mut buffered, saved)?;
    buffered
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .finish()
}

fn unpack(table: &[u8]) -> impl Read {
    // It is read series by series: the whole would take more memory than the table that it becomes.
    BufReader::with_capacity(64 << 10, GzDecoder::new(table))
}

fn write(
    mut state: State,
    queue: &Receiver<(Positions, Saved)>,
    checkpoint: &Mutex<Option<Instant>>,
    failing: &AtomicBool,
    scrapers: &Scrapers,
) {
    let _end = EndOnPanic;
    while let Ok((positions, saved)) = queue.recv() {
        let taken = Instant::now();
        let table = match pack(&saved) {
            Ok(table) => table,
            Err(error) => {
                error!(%error, "values cannot be written");
                continue;
            }
        };
        match state.save(&state::Snapshot { positions, table }.encode()) {
            Ok(()) => {
                if failing.swap(false, Ordering::SeqCst) {
                    info!("checkpoints are written again");
                }
                scrapers.saved(&saved.shown);
                *lock(checkpoint) = Some(taken);
            }
            Err(error) => {
                scrapers.save_failed();
                // Said once; the age of the last checkpoint shows in the metrics.
                if !failing.swap(true, Ordering::SeqCst) {
                    warn!(%error, path = %state.path().display(), "a checkpoint could not be written; going on");
                }
            }
        }
    }
}
