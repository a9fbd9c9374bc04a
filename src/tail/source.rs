//! What to follow.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pattern::{Captures, Found, Pattern};

/// What to follow, under one name.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// The source's name, as the settings give it.
    pub name: String,
    /// Patterns of the files that are followed.
    pub include: Vec<Pattern>,
    /// Of those, files that are not.
    pub exclude: Vec<Pattern>,
    /// Where to begin with a file that was never seen.
    pub read_from: ReadFrom,
    /// Says when a line was received. Without it, an archive that is put beside a log is news however old it is.
    pub line_time: Option<LineTime>,
}

/// Says when a line was received, in seconds since 1970, if whoever collected it wrote that down. Given one line without
/// its line feed; called from within [`Tail::read`](super::Tail::read).
#[derive(Clone)]
pub struct LineTime(pub(super) Arc<AskTime>);

type AskTime = dyn Fn(&[u8]) -> Option<i64> + Send + Sync;

impl LineTime {
    /// Asks this function.
    pub fn new(ask: impl Fn(&[u8]) -> Option<i64> + Send + Sync + 'static) -> Self {
        LineTime(Arc::new(ask))
    }
}

impl fmt::Debug for LineTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineTime")
    }
}

impl SourceSpec {
    /// A source that reads these files from their beginning.
    pub fn new(name: impl Into<String>, include: impl IntoIterator<Item = Pattern>) -> SourceSpec {
        let include = include.into_iter().collect();
        SourceSpec {
            name: name.into(),
            include,
            exclude: Vec::new(),
            read_from: ReadFrom::Beginning,
            line_time: None,
        }
    }

    /// The files that one of its patterns matches now, and the appliance that each path names. Files that are not there
    /// yet and what is excluded are left out; standard input is no file.
    pub(crate) fn files_now(&self, include: usize) -> Vec<(PathBuf, Option<String>)> {
        let mut files = Vec::new();
        let Some(pattern) = self.include.get(include) else {
            return files;
        };
        let mut take = |path: &Path| {
            if let Some(captures) = pattern.matches(path)
                && self.matches(path).is_some()
            {
                let appliance = captures
                    .into_iter()
                    .find(|(name, _)| **name == *"appliance");
                files.push((path.to_owned(), appliance.map(|(_, name)| name)));
            }
        };
        match pattern.literal() {
            Some(path) if path.is_file() => take(path),
            Some(_) => {}
            None => pattern.walk(|found| {
                if let Found::File(path) = found {
                    take(path);
                }
            }),
        }
        files.sort();
        files
    }

    /// What the wildcards stand for if `path` matches one.
    pub(super) fn matches(&self, path: &Path) -> Option<Captures> {
        let captures = self
            .include
            .iter()
            .find_map(|pattern| pattern.matches(path))?;
        let excluded = self
            .exclude
            .iter()
            .any(|pattern| pattern.matches(path).is_some());
        (!excluded).then_some(captures)
    }

    /// Whether nobody misses a path that cannot be seen: it, or everything in it, is excluded, or it is what every ext4
    /// file system keeps for root.
    pub(super) fn is_not_missed(&self, path: &Path) -> bool {
        let inside = path.join("*");
        let excluded = |path| {
            let mut exclude = self.exclude.iter();
            exclude.any(|pattern| pattern.matches(path).is_some())
        };
        excluded(path) || excluded(&inside) || path.ends_with("lost+found")
    }
}

/// Where to begin with a file that was never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// At its first byte.
    #[default]
    Beginning,
    /// Behind the last whole line, if the file is there when the tail starts; files that appear later are read from
    /// their first byte.
    End,
}
