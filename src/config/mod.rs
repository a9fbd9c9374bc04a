//! The configuration file: settings as typed become settings as meant.
//!
//! Every key has a default, so no file at all is a configuration too. Whatever is wrong is found here, all of it, with
//! file, line and column: unknown keys, values of the wrong kind or out of range, and settings that contradict each
//! other. Flags are merged in by whoever reads them. `docs/configuration.md` shows every key.

mod kafka;
mod parse;
mod replica;
mod source;
mod syslog;
mod value;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::diagnostic::{self, Diagnostic, Document, Path, Problems};
use crate::metric;
pub use crate::tail::{ReadFrom, Watcher};
pub use kafka::{Kafka, KafkaTls, Mechanism, RecordFormat, Sasl, StateTopic};
pub use replica::Replica;
pub(crate) use source::unknown_system_zone;
pub use syslog::{Identify, ListenAddress, ListenSocket, Network, Syslog, Tls, Transport};

/// Settings as meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What is followed, in the order of the file.
    pub sources: Vec<Source>,
    /// Directories whose rule packs go before the built-in ones.
    pub rule_directories: Vec<PathBuf>,
    /// What is held at most.
    pub limits: Limits,
    /// If there are any, only these appliances get series of their own; the others count under `other`.
    pub appliances: Vec<String>,
    /// What survives a restart, and where.
    pub state: State,
    /// Labels that are off by default.
    pub labels: Labels,
    /// How files are followed.
    pub tail: Tail,
    /// Which partitions of topics are read.
    pub replica: Replica,
    /// What it was read from, for faults that show only beside rules or files.
    written: Written,
}

/// The text of a configuration file. Any two are equal: settings are compared by what they mean.
#[derive(Clone, Debug, Default)]
struct Written(Option<(Arc<str>, Arc<Cow<'static, str>>)>);

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Files that are followed, addresses that are listened on, or a topic that is read, under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its name, the label `source` of the exporter's own metrics. No two have the same.
    pub name: String,
    /// What is read.
    pub input: Input,
    /// Where the appliance's name comes from.
    pub appliance: ApplianceFrom,
    /// Hosts that pass on lines of others under their own name; `*` means all.
    pub relays: Vec<String>,
    /// The device profile; found by the programs that are seen if there is none.
    pub profile: Option<String>,
    /// The zone of time stamps that name none.
    pub time_zone: TimeZone,
    /// Where a file that is seen for the first time, or a partition without state, is read from.
    pub read_from: ReadFrom,
}

/// What a source reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Files.
    Files {
        /// Paths and globs; `{appliance}` stands for a part that names the appliance, `-` for standard input.
        paths: Vec<String>,
        /// Paths and globs of files that are left out.
        exclude: Vec<String>,
    },
    /// What senders send.
    Syslog(Syslog),
    /// A topic.
    Kafka(Kafka),
}

/// The name of the source that `--log.file` makes.
pub(crate) const FLAG_SOURCE: &str = "log.file";

/// The name of the source that `--syslog.listen` makes.
pub(crate) const SYSLOG_FLAG_SOURCE: &str = "syslog.listen";

impl Source {
    /// Whether it follows files.
    pub fn is_followed(&self) -> bool {
        matches!(self.input, Input::Files { .. })
    }

    /// The paths and globs that it follows.
    pub fn paths(&self) -> &[String] {
        match &self.input {
            Input::Files { paths, .. } => paths,
            Input::Syslog(_) | Input::Kafka(_) => &[],
        }
    }

    /// The paths and globs that it leaves out.
    pub fn exclude(&self) -> &[String] {
        match &self.input {
            Input::Files { exclude, .. } => exclude,
            Input::Syslog(_) | Input::Kafka(_) => &[],
        }
    }

    /// How it listens, if it does.
    pub fn syslog(&self) -> Option<&Syslog> {
        match &self.input {
            Input::Syslog(syslog) => Some(syslog),
            Input::Files { .. } | Input::Kafka(_) => None,
        }
    }

    /// The topic that it reads, if it reads one.
    pub fn kafka(&self) -> Option<&Kafka> {
        match &self.input {
            Input::Kafka(kafka) => Some(kafka),
            Input::Files { .. } | Input::Syslog(_) => None,
        }
    }

    /// What `--syslog.listen` asks for, with every setting at its default.
    pub fn of_syslog_flags(syslog: Syslog) -> Self {
        Self {
            name: SYSLOG_FLAG_SOURCE.to_owned(),
            appliance: ApplianceFrom::Header,
            input: Input::Syslog(syslog),
            ..Self::of_flag(Vec::new())
        }
    }

    fn flag_fault(&self, item: Option<usize>, message: String, hint: Option<String>) -> Diagnostic {
        let flag = match self.syslog() {
            Some(_) => "--syslog.listen",
            None => "--log.file",
        };
        let mut fault = Diagnostic::of_flag(flag, &message, hint);
        if let Some(path) = item.and_then(|item| self.paths().get(item)) {
            fault.text.clone_from(path);
        }
        fault
    }

    /// What `--log.file` asks for, with every setting at its default.
    ///
    /// Paths that name the appliance decide whom the lines are about, since the header may be anybody's. (A path without
    /// `{appliance}` among them leaves it to the header.)
    pub fn of_flag(paths: Vec<String>) -> Self {
        let named_by_path = paths.iter().all(|path| path.contains(source::APPLIANCE));
        Self {
            name: FLAG_SOURCE.to_owned(),
            appliance: match named_by_path {
                true => ApplianceFrom::Path,
                false => ApplianceFrom::Header,
            },
            input: Input::Files {
                paths,
                exclude: Vec::new(),
            },
            relays: Vec::new(),
            profile: None,
            time_zone: TimeZone::system(),
            read_from: ReadFrom::Beginning,
        }
    }
}

/// Where an appliance's name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplianceFrom {
    /// The host in the line's header, else the path.
    Header,
    /// What stands for `{appliance}` in the path.
    Path,
    /// The key of the record.
    Key,
    /// All lines are about this one.
    Fixed(String),
}

/// What is held at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Those of the series table.
    pub table: metric::Limits,
    /// Bytes of a line; what is beyond is not looked at.
    pub line_bytes: usize,
    /// Files followed at the same time.
    pub files: usize,
    /// Threads that count lines; no more than there are cores.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            table: metric::Limits::default(),
            line_bytes: 65_536,
            files: 10_000,
            threads: 4,
        }
    }
}

/// What survives a restart, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Where positions and values are kept; without one, a restart begins anew.
    pub directory: Option<PathBuf>,
    /// Time between two checkpoints.
    pub interval: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            directory: None,
            interval: Duration::from_secs(5),
        }
    }
}

/// Labels that are off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Addresses of remote parties, where the metrics provide for them.
    pub remote_address: bool,
}

/// How files are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// How changes to files are noticed.
    pub watcher: Watcher,
    /// Time between two looks at every file, where the watcher is not to be relied upon.
    pub poll: Duration,
    /// Time between two searches for files, whatever the watcher says.
    pub rescan: Duration,
    /// How long a rotated file must be quiet until it counts as finished.
    pub drain_grace: Duration,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            watcher: Watcher::Inotify,
            poll: Duration::from_millis(250),
            rescan: Duration::from_secs(5),
            drain_grace: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Reads a file. Relative directories in it are relative to the file. Everything that is wrong with it goes into
    /// `faults`; what is returned then holds the rest, so that more can be checked, and must not be used.
    pub fn load(path: &FilePath, faults: &mut Vec<Diagnostic>) -> Self {
        let name = path.display().to_string();
        let text = fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned()));
        match text {
            Ok(text) => Self::parse(
                &name,
                &text,
                path.parent().unwrap_or(FilePath::new("")),
                faults,
            ),
            Err(error) => {
                faults.push(Diagnostic::unreadable(path, &error));
                Self::default()
            }
        }
    }

    /// The appliances that are named in it, whether they are heard of or not, in order.
    pub fn expected_appliances(&self) -> Vec<Arc<str>> {
        let fixed = self
            .sources
            .iter()
            .filter_map(|source| match &source.appliance {
                ApplianceFrom::Fixed(name) => Some(name),
                ApplianceFrom::Header | ApplianceFrom::Path | ApplianceFrom::Key => None,
            });
        let by_address = self.sources.iter().filter_map(Source::syslog);
        let by_address = by_address.flat_map(Syslog::appliances);
        let names: BTreeSet<&String> = (self.appliances.iter())
            .chain(fixed)
            .chain(by_address)
            .collect();
        names.into_iter().map(|name| name.as_str().into()).collect()
    }

    /// As [`Config::load`], of a text that stands in `file`, with directories relative to `directory`.
    pub fn parse(
        file: &str,
        text: &str,
        directory: &FilePath,
        faults: &mut Vec<Diagnostic>,
    ) -> Self {
        let document = match Document::parse(file, text) {
            Ok(document) => document,
            Err(fault) => {
                faults.push(fault);
                return Self::default();
            }
        };
        let mut problems = Problems::new(&document);
        let mut config = parse::read(&document.value, directory, &mut problems);
        faults.extend(problems.into_diagnostics());
        config.written = Written(Some((document.file, document.text)));
        config
    }

    /// The configuration file as it was read; empty without one.
    pub(crate) fn written(&self) -> &str {
        self.written.0.as_ref().map_or("", |(_, text)| text)
    }

    /// A fault in a key of the source with this index; `item` is the item of the key's list.
    pub(crate) fn source_fault(
        &self,
        index: usize,
        key: &str,
        item: Option<usize>,
        message: String,
        hint: Option<String>,
    ) -> Diagnostic {
        let source = &self.sources[index];
        let Written(Some((file, text))) = &self.written else {
            return source.flag_fault(item, message, hint);
        };
        if source.name == FLAG_SOURCE || source.name == SYSLOG_FLAG_SOURCE {
            return source.flag_fault(item, message, hint);
        }
        let mut path = Path::root().then("sources").then(index).then(key);
        if let Some(item) = item {
            path = path.then(item);
        }
        diagnostic::at(file, text, &path, message, hint)
    }

    /// A fault in a key below the source with this index.
    pub(crate) fn source_fault_at(
        &self,
        index: usize,
        keys: &[&str],
        message: String,
        hint: Option<String>,
    ) -> Diagnostic {
        let source = &self.sources[index];
        match &self.written {
            Written(Some((file, text))) if source.name != SYSLOG_FLAG_SOURCE => {
                let root = Path::root().then("sources").then(index);
                let path = keys.iter().fold(root, |path, key| path.then(*key));
                diagnostic::at(file, text, &path, message, hint)
            }
            _ => source.flag_fault(None, message, hint),
        }
    }

    /// A fault in an item of the list `appliances`.
    pub(crate) fn appliance_fault(
        &self,
        item: usize,
        message: String,
        hint: Option<String>,
    ) -> Option<Diagnostic> {
        let (file, text) = self.written.0.as_ref()?;
        let path = Path::root().then("appliances").then(item);
        Some(diagnostic::at(file, text, &path, message, hint))
    }
}

#[cfg(test)]
mod tests;
