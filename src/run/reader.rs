//! The thread that reads: files, maintenance, checkpoints, and what other threads ask of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use tracing::{info, warn};

use super::checkpoint::Writer;
use super::reload::apply_reload;
use super::watchdog::Clock;
use super::{Shared, WAIT_MAX, pipeline_limits, tail_settings, unix_seconds};
use crate::config::Config;
use crate::followed::{Backlog, Unmatched};
use crate::metric::{SavedRepeat, lock};
use crate::pipeline::{EndOnPanic, Pipeline};
use crate::server;
use crate::syslog::Intake;
use crate::tail::{self, Tail};

/// How often series are evicted at most.
const EVICT_EVERY: Duration = Duration::from_secs(1);
/// How often stale series are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// What the reading thread must know of the process before it.
pub(super) struct FirstRead {
    /// There is none, so that whatever is found is old.
    pub(super) is_first_start: bool,
    /// What its last lines counted.
    pub(super) repeats: Vec<SavedRepeat>,
}

/// The reading thread.
pub(super) fn read(
    shared: &Arc<Shared>,
    mut tail: Tail,
    mut intake: Intake,
    mut config: Config,
    writer: Option<Writer>,
    first: FirstRead,
) {
    let _end = EndOnPanic;
    let mut pipeline = Pipeline::new(
        shared.engine(),
        shared.own.clone(),
        config.sources.clone(),
        pipeline_limits(config.limits),
    );
    pipeline.restore_repeats(&shared.engine(), &first.repeats);
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
    let no_file = |config: &Config| {
        let specs = tail_settings(config)
            .map(|(specs, _)| specs)
            .unwrap_or_default();
        Unmatched::new(&specs, config.tail.rescan)
    };
    let mut unmatched = no_file(&config);
    let mut catching_up = Backlog::default();
    loop {
        let now = Instant::now();
        shared.heartbeat.beat();
        if let Some(seconds) = clock.was_set() {
            warn!(seconds, "the clock was set; ages are counted on");
            pipeline.drain();
            let now = unix_seconds(SystemTime::now()) as u32;
            shared.engine().clock_was_set(now, seconds);
        }
        pipeline.set_now(Timestamp::now());
        let progress = tail.read(now, &mut pipeline);
        let (received, more_received) =
            intake.read(|source, entries| pipeline.received(source, entries));
        read_bytes += progress.bytes + received;
        let more = progress.more || more_received;
        if !more {
            pipeline.drain();
        }
        let backlog_end = *backlog.get_or_insert_with(|| {
            let waiting: u64 = tail.status().map(|file| file.lag_bytes).sum();
            let received: u64 = intake.lag_bytes().map(|(_, bytes)| bytes).sum();
            read_bytes + waiting + received
        });
        // What was found for the first time is on disk before its first line counts: if it is rotated and we are killed, the
        // next process knows that it is no history.
        let found = tail.has_unsaved();
        if !caught_up && !found && (!more || read_bytes > backlog_end) {
            caught_up = true;
            pipeline.finish_backfill();
            if !shared.ready.load(Ordering::Relaxed) {
                shared.engine().table().finish_backfill();
                shared.ready.store(true, Ordering::SeqCst);
                info!(bytes = read_bytes, "caught up; ready");
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
        }
        if !caught_up {
            catching_up.progress(now, read_bytes, backlog_end);
        }
        unmatched.look(now, tail.status());
        if !fallback_told && let Some(reason) = &tail.watching().fallback {
            warn!(err = %reason, "files are polled, because the watcher cannot be set up");
            fallback_told = true;
        }
        if now >= expire_at {
            expire_at = now + EXPIRE_EVERY;
            pipeline.drain();
            maintain(shared);
        } else if now >= evict_at && shared.engine().table().wants_eviction() {
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
            (unmatched, catching_up) = (no_file(&config), Backlog::default());
        }
        let stopping = shared.stop.load(Ordering::SeqCst);
        if stopping {
            shared.receivers.stop();
            // What waits in a spool waits for the next process.
            while writer.is_none()
                && intake
                    .read(|source, entries| pipeline.received(source, entries))
                    .1
            {}
        }
        dirty |= pipeline.take_dirty() | shared.scrapers.take_changed();
        if let Some(writer) = &writer
            && (found || stopping || now >= checkpoint_at)
        {
            checkpoint_at = now + config.state.interval;
            if dirty || found {
                pipeline.drain();
                let positions = tail.positions(|file| pipeline.held_bytes(file));
                let shown = shared.scrapers.save();
                let mut saved = shared.engine().table().save();
                saved.repeats = pipeline.save_repeats();
                saved.shown = shown;
                let spools = intake.positions();
                if found {
                    writer.write_now(positions, spools, saved);
                    dirty = false;
                } else if writer.write(positions, spools, saved, stopping) {
                    dirty = false;
                }
            } else {
                writer.unchanged();
            }
        }
        if found {
            tail.saved();
        }
        if stopping {
            break;
        }
        if shared.asked.swap(false, Ordering::SeqCst) {
            publish(shared, &tail, &intake, &pipeline, &config, &mut rates);
        }
        if !more {
            tail.wait(WAIT_MAX);
        }
    }
    if let Some(writer) = writer {
        writer.finish();
    }
}

/// What is done from time to time; everything that was read must be counted.
fn maintain(shared: &Shared) {
    let now = unix_seconds(SystemTime::now()) as u32;
    shared.engine().maintain(now);
}

/// Forgets the appliances that somebody asks to forget.
fn forget(shared: &Shared, pipeline: &mut Pipeline) {
    let wanted = std::mem::take(&mut *lock(&shared.forget));
    if wanted.is_empty() {
        return;
    }
    pipeline.drain();
    for (name, done) in wanted {
        let known = shared.engine().forget_appliance(&name);
        info!(appliance = name, known, "an appliance was forgotten");
        // Nobody waits any more if the request was given up.
        let _ = done.send(known);
    }
}

/// Lines per second of each path, between two looks.
#[derive(Default)]
struct Rates {
    at: Option<Instant>,
    lines: HashMap<PathBuf, u64>,
}

fn publish(
    shared: &Shared,
    tail: &Tail,
    intake: &Intake,
    pipeline: &Pipeline,
    config: &Config,
    rates: &mut Rates,
) {
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
    let mut followed = lag.clone();
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
        if let tail::FileState::Following = status.state
            && let Some(source) = followed.get_mut(status.info.source)
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
    for (name, lag_bytes) in intake.lag_bytes() {
        let mut sources = config.sources.iter().zip(&mut lag);
        let Some((source, (_, lag))) = sources.find(|(source, _)| source.name == name) else {
            continue;
        };
        *lag = lag_bytes;
        let path = PathBuf::from(format!("syslog:{name}"));
        let counts = pipeline.listening(name);
        let before = rates.lines.get(&path).copied().unwrap_or(0);
        lines.insert(path, counts.lines);
        let listen = source.syslog.iter().flat_map(|syslog| &syslog.listen);
        files.push(server::FileStatus {
            path: listen
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            source: name.to_owned(),
            appliances: counts.appliances.into_iter().collect(),
            lag_bytes,
            lines_per_second: match seconds > 0.0 {
                true => counts.lines.saturating_sub(before) as f64 / seconds,
                false => 0.0,
            },
            lines: counts.lines,
            rotations: 0,
            lost_bytes: counts.lost_bytes,
            error: None,
        });
    }
    // A source that listens has no files.
    let of_files = |all: Vec<(Arc<str>, u64)>| {
        let sources = config.sources.iter().zip(all);
        let of_files = sources.filter(|(source, _)| source.syslog.is_none());
        of_files.map(|(_, of)| of).collect()
    };
    rates.at = Some(now);
    rates.lines = lines;
    let mut figures = lock(&shared.figures);
    figures.number += 1;
    figures.files = files;
    figures.lag = lag;
    figures.unreadable = of_files(unreadable);
    figures.followed = of_files(followed);
    figures.sizes = sizes;
    shared.fresh.notify_all();
}
