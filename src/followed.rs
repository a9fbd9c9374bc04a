//! Followed files as a source, and what would otherwise be silent: a pattern that matches none.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::record;
use crate::source::{OnDisk, Positions, Sink, Source, StreamStatus};
use crate::tail::{
    self, FileId, FileState, FileStatus, Pattern, Progress, SourceSpec, Tail, Waker,
};

/// The sources that follow files. It waits for all sources: others wake it by its [`Waker`].
pub(crate) struct Files {
    tail: Tail,
    /// The names of the sources, in the order in which the tail knows them.
    sources: Vec<Arc<str>>,
    unmatched: Unmatched,
    is_fallback_reported: bool,
}

impl Files {
    /// Follows files, from these positions on.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub(crate) fn new(
        (specs, options): (Vec<SourceSpec>, tail::Options),
        positions: Option<tail::Positions>,
    ) -> io::Result<Files> {
        let sources = specs.iter().map(|spec| spec.name.as_str().into());
        Ok(Files {
            sources: sources.collect(),
            unmatched: Unmatched::new(&specs, options.rescan),
            is_fallback_reported: false,
            tail: Tail::new(specs, options, positions)?,
        })
    }

    /// Ends a wait from another thread.
    pub(crate) fn waker(&self) -> Waker {
        self.tail.waker()
    }

    /// Waits until there may be something to read, a [`Waker`] is used, or `timeout` is over.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        self.tail.wait(timeout);
    }

    /// A file was found for the first time. It is read once its position is on disk ([`Self::saved`]): if it is rotated
    /// and the process is killed, the next one knows that it is no history.
    pub(crate) fn has_unsaved(&self) -> bool {
        self.tail.has_unsaved()
    }

    /// The present positions are on disk, or cannot be had there.
    pub(crate) fn saved(&mut self) {
        self.tail.saved();
    }

    /// See [`Tail::positions`].
    pub(crate) fn file_positions(&self, held_bytes: impl Fn(FileId) -> u64) -> tail::Positions {
        self.tail.positions(held_bytes)
    }
}

impl Source for Files {
    fn read(&mut self, now: Instant, mut sink: &mut dyn Sink) -> Progress {
        let progress = self.tail.read(now, &mut sink);
        self.unmatched.look(now, self.tail.status());
        if !self.is_fallback_reported
            && let Some(reason) = &self.tail.watching().fallback
        {
            warn!(err = %reason, "files are polled, because the watcher cannot be set up");
            self.is_fallback_reported = true;
        }
        progress
    }

    fn positions(
        &self,
        held_bytes: &dyn Fn(FileId) -> u64,
        positions: &mut Positions,
    ) -> Option<OnDisk> {
        positions.files = self.file_positions(held_bytes);
        None
    }

    fn status(&self, each: &mut dyn FnMut(StreamStatus)) {
        for file in self.tail.status() {
            let Some(source) = self.sources.get(file.info.source) else {
                continue;
            };
            each(StreamStatus {
                source: source.clone(),
                key: file.info.path.clone(),
                name: file.info.path.display().to_string(),
                lag_bytes: file.lag_bytes,
                error: match file.state {
                    FileState::Unreadable(trouble) => Some(trouble.to_string()),
                    FileState::Absent => Some("not there".to_owned()),
                    FileState::SameAsAnother => {
                        Some("another name of a file that is followed".to_owned())
                    }
                    FileState::Following | FileState::Draining => None,
                },
                file: Some(file),
                listener: None,
            });
        }
    }
}

/// The sources as the tail takes them.
///
/// # Errors
/// Every path that is no pattern.
pub(crate) fn settings(
    config: &Config,
) -> Result<(Vec<SourceSpec>, tail::Options), Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let mut specs = Vec::new();
    for (index, source) in config.sources.iter().enumerate() {
        let mut patterns = |key: &str, texts: &[String]| -> Vec<Pattern> {
            let parsed = texts.iter().enumerate().map(|(item, text)| {
                let parsed = Pattern::parse(text);
                parsed.map_err(|error| {
                    config.source_fault(index, key, Some(item), error.to_string(), None)
                })
            });
            let (good, bad): (Vec<_>, Vec<_>) = parsed.partition(Result::is_ok);
            faults.extend(bad.into_iter().filter_map(Result::err));
            good.into_iter().flatten().collect()
        };
        let mut spec = SourceSpec::new(source.name.clone(), patterns("paths", source.paths()));
        spec.exclude = patterns("exclude", source.exclude());
        spec.read_from = source.read_from;
        let zone = source.time_zone.clone();
        spec.line_time = Some(tail::LineTime::new(move |line| {
            let (zone, now) = (zone.clone(), jiff::Timestamp::now());
            record::outer_timestamp(line, &record::Clock { zone, now }).map(|at| at.as_second())
        }));
        specs.push(spec);
    }
    let options = tail::Options {
        watcher: config.tail.watcher,
        poll: config.tail.poll,
        rescan: config.tail.rescan,
        drain_grace: config.tail.drain_grace,
        files_max: config.limits.files,
        durable: config.state.directory.is_some(),
        ..tail::Options::default()
    };
    if faults.is_empty() {
        Ok((specs, options))
    } else {
        Err(faults)
    }
}

/// Patterns without a file. Most often such a pattern is a typing error, and nothing else would show it.
pub(crate) struct Unmatched {
    patterns: Vec<Waiting>,
    every: Duration,
    next: Option<Instant>,
}

struct Waiting {
    source: String,
    pattern: Pattern,
    is_reported: bool,
}

/// A pattern that begins or ends to have a file.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    NoFile(String),
    FirstFile(String),
}

impl Unmatched {
    /// All patterns; they are compared with the files that are followed at most once in `every`.
    pub(crate) fn new(sources: &[SourceSpec], every: Duration) -> Self {
        let patterns = sources.iter().flat_map(|source| {
            source.include.iter().map(|pattern| Waiting {
                source: source.name.clone(),
                pattern: pattern.clone(),
                is_reported: false,
            })
        });
        Self {
            patterns: patterns
                .filter(|waiting| waiting.pattern.as_str() != "-")
                .collect(),
            every,
            next: None,
        }
    }

    /// Reports what has changed since the last time.
    pub(crate) fn look(&mut self, now: Instant, files: impl Iterator<Item = FileStatus>) {
        if self.patterns.is_empty() || self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + self.every);
        let there: Vec<_> = files
            .filter(|file| !matches!(file.state, FileState::Absent))
            .map(|file| file.info.path.clone())
            .collect();
        for (source, change) in self.changes(&there) {
            match change {
                Change::NoFile(pattern) => {
                    warn!(%source, %pattern, "no file matches; files are followed as soon as they appear");
                }
                Change::FirstFile(pattern) => info!(%source, %pattern, "a file matches now"),
            }
        }
    }

    fn changes(&mut self, there: &[std::path::PathBuf]) -> Vec<(String, Change)> {
        let mut changes = Vec::new();
        self.patterns.retain_mut(|waiting| {
            let text = || waiting.pattern.as_str().to_owned();
            let is_matched = there
                .iter()
                .any(|path| waiting.pattern.matches(path).is_some());
            if is_matched && waiting.is_reported {
                changes.push((waiting.source.clone(), Change::FirstFile(text())));
            } else if !is_matched && !waiting.is_reported {
                changes.push((waiting.source.clone(), Change::NoFile(text())));
                waiting.is_reported = true;
            }
            !is_matched
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_pattern_without_a_file_is_reported_once_and_when_it_has_one() {
        let pattern = |text| Pattern::parse(text).expect("a pattern");
        let spec = SourceSpec::new("a", ["/x/*.log", "/y/z", "-"].map(pattern));
        let mut unmatched = Unmatched::new(&[spec], Duration::from_secs(5));
        let no = |text: &str| ("a".to_owned(), Change::NoFile(text.to_owned()));
        assert_eq!(unmatched.changes(&[]), [no("/x/*.log"), no("/y/z")]);
        assert_eq!(unmatched.changes(&[]), []);
        let first = ("a".to_owned(), Change::FirstFile("/x/*.log".to_owned()));
        assert_eq!(unmatched.changes(&[PathBuf::from("/x/1.log")]), [first]);
        assert_eq!(unmatched.changes(&[PathBuf::from("/x/1.log")]), []);
        // Once a file was there, its going is the tail's business.
        assert_eq!(unmatched.changes(&[]), []);
    }
}
