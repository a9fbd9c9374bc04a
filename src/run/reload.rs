//! New settings and rules while the exporter runs: all of them, or none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use tracing::{error, info};

use super::{Loaded, Next, RELOAD_WAIT, Shared, WAIT_MAX, pipeline_limits, tail_settings, touch};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::engine::Engine;
use crate::metric::lock;
use crate::pipeline::Pipeline;
use crate::syslog;
use crate::tail::{Positions, Tail};

fn describe(faults: Vec<Diagnostic>) -> String {
    let lines: Vec<String> = faults.iter().map(Diagnostic::to_string).collect();
    lines.join("\n")
}

impl Shared {
    pub(super) fn try_reload(&self) -> Result<(), String> {
        let _one = lock(&self.reloading);
        let Loaded {
            config,
            engine,
            syslog,
        } = (self.load)().map_err(describe)?;
        if syslog::fixed(&config.sources) != syslog::fixed(&self.config().sources) {
            return Err("sources with `syslog`, what they listen on and their buffers cannot change while the exporter runs; restart it".into());
        }
        let outcome = self.exchange(config, engine);
        if outcome.is_ok() {
            self.receivers.replace(syslog);
        }
        outcome
    }

    /// Has the reading thread take over settings and rules.
    fn exchange(&self, config: Config, engine: Engine) -> Result<(), String> {
        let (specs, options) = tail_settings(&config).map_err(describe)?;
        if config.state.directory != self.config().state.directory {
            return Err("state.directory cannot change while the exporter runs; restart it".into());
        }
        let (done, finished) = sync_channel(1);
        *lock(&self.next) = Some(Next {
            config,
            specs,
            options,
            engine,
            done,
        });
        self.wake();
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

/// Takes over new settings: values, hits and positions stay. If files cannot be followed by them, the former ones stay.
pub(super) fn apply_reload(
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
        engine,
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
            touch(&shared.own, source);
        }
        match Tail::new(specs, options, Some(positions.clone())) {
            Ok(tail) => tail,
            Err(error) => {
                let _ = done.send(Err(format!("files cannot be followed: {error}")));
                return former_tail(shared, config, &positions);
            }
        }
    };
    *lock(&shared.waker) = tail.waker();
    let dropped = engine.migrate_from(&shared.engine());
    engine.table().finish_backfill();
    let engine = Arc::new(engine);
    *lock(&shared.engine) = engine.clone();
    if goes_on {
        pipeline.replace_engine(engine);
    } else {
        let repeats = pipeline.save_repeats();
        *pipeline = Pipeline::new(
            engine.clone(),
            shared.own.clone(),
            new.sources.clone(),
            pipeline_limits(new.limits),
        );
        pipeline.set_heartbeat(shared.heartbeat.clone());
        pipeline.restore_repeats(&engine, &repeats);
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
            Ok(tail) => {
                *lock(&shared.waker) = tail.waker();
                return Some(tail);
            }
            Err(error) => error!(err = %error, "files cannot be followed; trying again"),
        }
        shared.heartbeat.beat();
        std::thread::sleep(WAIT_MAX);
    }
    None
}
