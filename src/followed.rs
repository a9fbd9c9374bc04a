//! What would otherwise be silent while files are followed: a pattern that matches none, and how far the backlog is.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::tail::{FileState, FileStatus, Pattern, SourceSpec};

/// Time between two log messages about the backlog.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

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

/// Reports how much of the backlog is left, now and then.
#[derive(Default)]
pub(crate) struct Backlog {
    next: Option<Instant>,
}

impl Backlog {
    /// Called while the backlog is read; a short one is not worth a message.
    pub(crate) fn progress(&mut self, now: Instant, read_bytes: u64, all_bytes: u64) {
        let next = *self.next.get_or_insert(now + PROGRESS_EVERY);
        if now < next {
            return;
        }
        self.next = Some(now + PROGRESS_EVERY);
        let left_bytes = all_bytes.saturating_sub(read_bytes);
        let percent = read_bytes.saturating_mul(100) / all_bytes.max(1);
        info!(
            read_bytes,
            left_bytes,
            percent = percent.min(100),
            "reading the backlog"
        );
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
