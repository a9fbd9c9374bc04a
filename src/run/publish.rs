//! What the reading thread says of the streams, for scrapes and the status page.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::sources::Sources;
use crate::config::Config;
use crate::pipeline::Pipeline;
use crate::server;
use crate::source::StreamStatus;
use crate::tail::FileState;

/// Lines per second of each stream, between two looks.
#[derive(Default)]
pub(super) struct Rates {
    at: Option<Instant>,
    lines: HashMap<PathBuf, u64>,
}

/// Streams as the reading thread sees them.
#[derive(Clone, Default)]
pub(super) struct Figures {
    pub(super) number: u64,
    pub(super) files: Vec<server::FileStatus>,
    pub(super) listeners: Vec<server::ListenerStatus>,
    /// Of every source but topics, in the order of the settings.
    pub(super) lag: Vec<(Arc<str>, u64)>,
    /// Of those that follow files.
    pub(super) unreadable: Vec<(Arc<str>, u64)>,
    pub(super) followed: Vec<(Arc<str>, u64)>,
    /// For each file its path, its source, and its size as far as the reading thread knows.
    pub(super) sizes: Vec<(PathBuf, Arc<str>, u64)>,
}

/// Adds to the figure of a source.
pub(super) fn add(figures: &mut [(Arc<str>, u64)], source: &Arc<str>, more: u64) {
    let mut figures = figures.iter_mut();
    if let Some((_, figure)) = figures.find(|(name, _)| name == source) {
        *figure += more;
    }
}

impl Figures {
    /// Adds what a source says of a file.
    fn add_file(&mut self, stream: &StreamStatus) {
        let Some(file) = &stream.file else { return };
        match file.state {
            FileState::Following => {
                let (path, size) = (file.info.path.clone(), file.offset + file.lag_bytes);
                self.sizes.push((path, stream.source.clone(), size));
                add(&mut self.followed, &stream.source, 1);
            }
            FileState::Unreadable(_) => add(&mut self.unreadable, &stream.source, 1),
            _ => {}
        }
    }
}

impl Rates {
    /// What the sources say now.
    pub(super) fn figures(
        &mut self,
        sources: &Sources,
        pipeline: &Pipeline,
        config: &Config,
    ) -> Figures {
        let now = Instant::now();
        let seconds = self
            .at
            .map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        let sources_at_0 = |follows_files: bool| {
            // What waits of a topic is counted in records, by shard.
            let sources = config
                .sources
                .iter()
                .filter(|source| source.kafka().is_none());
            let sources = sources.filter(|source| !follows_files || source.is_followed());
            let at_0 = sources.map(|source| (source.name.as_str().into(), 0));
            at_0.collect::<Vec<(Arc<str>, u64)>>()
        };
        let mut figures = Figures {
            lag: sources_at_0(false),
            unreadable: sources_at_0(true),
            followed: sources_at_0(true),
            ..Figures::default()
        };
        let mut lines = HashMap::new();
        sources.status(|stream| {
            add(&mut figures.lag, &stream.source, stream.lag_bytes);
            figures.add_file(&stream);
            let counts = pipeline.path(&stream.key);
            let before = self.lines.get(&stream.key).copied().unwrap_or(0);
            let more = counts.lines.saturating_sub(before);
            lines.insert(stream.key, counts.lines);
            let lines_per_second = match seconds > 0.0 {
                true => more as f64 / seconds,
                false => 0.0,
            };
            let appliances = counts.appliances.into_iter().collect();
            match stream.listener {
                Some(listener) => figures.listeners.push(server::ListenerStatus {
                    source: stream.source.to_string(),
                    addresses: stream.name,
                    connections: listener.connections,
                    senders: counts.senders,
                    appliances,
                    lines: counts.lines,
                    lines_per_second,
                    lag_bytes: stream.lag_bytes,
                    kept_bytes: listener.kept_bytes,
                    dropped: listener.dropped,
                    last_drop: listener.last_drop.map(|(at, reason)| {
                        let age = now.saturating_duration_since(at);
                        (age, reason)
                    }),
                }),
                None => figures.files.push(server::FileStatus {
                    path: stream.name,
                    source: stream.source.to_string(),
                    appliances,
                    lag_bytes: stream.lag_bytes,
                    lines_per_second,
                    lines: counts.lines,
                    rotations: counts.rotations,
                    lost_bytes: counts.lost_bytes,
                    error: stream.error,
                }),
            }
        });
        *self = Rates {
            at: Some(now),
            lines,
        };
        figures
    }
}
