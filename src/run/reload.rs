//! New settings and rules while the exporter runs: all of them, or none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use tracing::{debug, error, info};

use super::backlog::Backlog;
use super::reader::Reader;
use super::sources::Sources;
use super::{Loaded, Next, RELOAD_WAIT, Shared, WAIT_MAX, pipeline_limits, touch};
use crate::config::{Config, Source};
use crate::diagnostic::Diagnostic;
use crate::engine::Engine;
use crate::followed::{self, Files};
use crate::pipeline::Pipeline;
use crate::syslog;
use crate::tail;

fn describe(faults: Vec<Diagnostic>) -> String {
    let lines: Vec<String> = faults.iter().map(Diagnostic::to_string).collect();
    lines.join("\n")
}

impl Shared {
    pub(super) fn try_reload(&self) -> Result<(), String> {
        let _one = self.reloading.lock();
        let Loaded {
            config,
            engine,
            syslog,
        } = (self.load)().map_err(describe)?;
        if syslog::fixed(&config.sources) != syslog::fixed(&self.config().sources) {
            return Err("sources with `syslog`, what they listen on and their buffers cannot change while the exporter runs; restart it".into());
        }
        if !self.topics.can_go_on_with(&self.config(), &config) {
            return Err("sources with `kafka`, their brokers and their topics cannot change while the exporter runs; restart it".into());
        }
        let outcome = self.exchange(config, engine);
        if outcome.is_ok() {
            self.receivers.replace(syslog);
            self.topics.replace(&self.config(), &self.engine());
        }
        outcome
    }

    /// Has the reading thread take over settings and rules.
    fn exchange(&self, config: Config, engine: Engine) -> Result<(), String> {
        let files = followed::settings(&config).map_err(describe)?;
        if config.state.directory != self.config().state.directory {
            return Err("state.directory cannot change while the exporter runs; restart it".into());
        }
        let (done, finished) = sync_channel(1);
        *self.next.lock() = Some(Next {
            config,
            files,
            engine,
            done,
        });
        self.wake();
        if let Ok(outcome) = finished.recv_timeout(RELOAD_WAIT) {
            return outcome;
        }
        // What was reported as failed must not be applied later.
        if self.next.lock().take().is_some() {
            return Err("the reading thread does not answer; nothing was changed".into());
        }
        // It has begun, so it ends.
        let outcome = finished.recv();
        outcome.unwrap_or_else(|_| Err("the exporter is stopping".into()))
    }
}

impl Reader {
    /// Takes over new settings: values, hits and positions stay. If files cannot be followed by them, the former ones
    /// stay. None if the exporter is to stop meanwhile.
    pub(super) fn reload(mut self, next: Next) -> Option<Self> {
        let Next {
            config: new,
            files,
            engine,
            done,
        } = next;
        self.dirty = true;
        self.backlog = Backlog::default();
        self.pipeline.drain();
        let old = &self.config;
        let goes_on =
            old.sources == new.sources && old.tail == new.tail && old.limits == new.limits;
        if !goes_on {
            // Unfinished lines are read again; what stands in a pipe's is lost, and only there.
            let Sources {
                files: old_files,
                others,
                former,
            } = self.sources;
            let positions = old_files.file_positions(|file| self.pipeline.held_bytes(file));
            // Both at a time would need twice the descriptors and watches.
            drop(old_files);
            for source in &new.sources {
                touch(&self.shared.own, source);
            }
            match Files::new(files, Some(positions.clone())) {
                Ok(files) => self.sources = Sources::new(files, others, former),
                Err(error) => {
                    let _ = done.send(Err(format!("files cannot be followed: {error}")));
                    let files = former_files(&self.shared, &self.config, &positions)?;
                    self.sources = Sources::new(files, others, former);
                    return Some(self);
                }
            }
            *self.shared.waker.lock() = self.sources.files.waker();
        }
        let dropped = engine.migrate_from(&self.shared.engine());
        engine.table().finish_backfill();
        let engine = Arc::new(engine);
        *self.shared.engine.lock() = engine.clone();
        if goes_on {
            self.pipeline.replace_engine(engine);
        } else {
            let repeats = self.pipeline.save_repeats();
            self.pipeline = Pipeline::new(
                engine.clone(),
                self.shared.own.clone(),
                new.sources.clone(),
                pipeline_limits(new.limits),
            );
            self.pipeline.set_heartbeat(self.shared.heartbeat.clone());
            self.pipeline.restore_repeats(&engine, &repeats);
            let old = &self.config.sources;
            let is_new = |source: &Source| !old.iter().any(|old| old.name == source.name);
            self.pipeline.begin_backfill(is_new);
        }
        if dropped > 0 {
            info!(
                dropped,
                "series that the new rules do not know were dropped"
            );
        }
        debug!(
            files_found_anew = !goes_on,
            rules = self.shared.engine().rules().rules.len(),
            sources = new.sources.len(),
            "settings and rules exchanged"
        );
        *self.shared.config.lock() = Arc::new(new.clone());
        self.config = new;
        // Nobody waits any more if the request was given up.
        let _ = done.send(Ok(()));
        Some(self)
    }
}

/// Follows files by the settings in force again, as soon as that can be done. None if the exporter is to stop meanwhile.
fn former_files(shared: &Shared, config: &Config, positions: &tail::Positions) -> Option<Files> {
    while !shared.stop.load(Ordering::SeqCst) {
        let settings = followed::settings(config).map_err(|_| "the settings are wrong".to_owned());
        let files = settings.and_then(|settings| {
            Files::new(settings, Some(positions.clone())).map_err(|error| error.to_string())
        });
        match files {
            Ok(files) => {
                *shared.waker.lock() = files.waker();
                return Some(files);
            }
            Err(error) => error!(err = %error, "files cannot be followed; trying again"),
        }
        shared.heartbeat.beat();
        std::thread::sleep(WAIT_MAX);
    }
    None
}
