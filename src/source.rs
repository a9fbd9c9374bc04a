//! What brings log messages. The reading thread polls all sources in turn and treats them alike.
//!
//! A source has *streams*: a followed path, what one `syslog` source receives, a partition of a topic. A stream has a key,
//! which no other has and which stays the same from one process to the next: its counts, its position and what its last
//! lines counted are kept under it. Followed files hand over bytes ([`tail::Sink`]); all others cut messages themselves
//! and say who sent each ([`Sink::messages`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tail::{self, Chunk, End, Event, FileId, FileInfo, FileStatus, Progress};

/// Brings log messages. The reading thread owns it; what comes while that is busy waits in a bounded buffer.
pub trait Source: Send {
    /// Hands over what is there, up to about 1 MiB. Never blocks longer than a file system does. `now` never goes back.
    fn read(&mut self, now: Instant, sink: &mut dyn Sink) -> Progress;

    /// Adds how far its streams were read; this belongs to what was handed over up to now. `held_bytes` says how many
    /// bytes of a file belong to a line that is not finished.
    fn positions(
        &self,
        held_bytes: &dyn Fn(FileId) -> u64,
        positions: &mut Positions,
    ) -> Option<OnDisk>;

    /// Describes every stream, for the status page and the lag, and brings its own metrics up to date.
    fn status(&self, each: &mut dyn FnMut(StreamStatus));

    /// Takes in nothing more, and hands over what would be lost with the process.
    fn stop(&mut self, _sink: &mut dyn Sink) {}
}

/// Takes what sources bring.
pub trait Sink: tail::Sink {
    /// Messages of one stream, in the order in which they came.
    fn messages(&mut self, stream: &Stream, messages: &mut dyn Iterator<Item = Message<'_>>);
}

/// Called once a checkpoint with the positions that it came with is on disk; by the thread that writes checkpoints.
pub type OnDisk = Box<dyn FnOnce() + Send>;

/// A stream of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The name of its source in the settings.
    pub source: Arc<str>,
    /// Its key: what kind of source it is, a colon, and its name among all streams of that kind.
    pub key: String,
}

/// A message without what marks its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'m> {
    /// Who sent it.
    pub sender: Sender<'m>,
    /// What was sent, header and all.
    pub bytes: &'m [u8],
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender<'m> {
    /// This appliance, whatever the header says.
    Named(&'m str),
    /// The host in the header; this one if there is none.
    Header(&'m str),
}

/// A stream as the status page and the metrics show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// The name of its source in the settings.
    pub source: Arc<str>,
    /// Its key. That of a followed file is its path.
    pub key: PathBuf,
    /// What an operator knows it by.
    pub name: String,
    /// Bytes that wait to be read.
    pub lag_bytes: u64,
    /// Why it cannot be read at the moment.
    pub error: Option<String>,
    /// The file, if it is one.
    pub file: Option<FileStatus>,
    /// What is received, if it comes over the network.
    pub listener: Option<ListenerStatus>,
}

/// What a source that listens says of its senders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Connections that are open, by transport.
    pub connections: Vec<(&'static str, u64)>,
    /// Bytes that were received and are kept.
    pub kept_bytes: u64,
    /// Messages that were dropped or cut, and datagrams that the kernel dropped.
    pub dropped: u64,
    /// When that happened last, and why.
    pub last_drop: Option<(Instant, &'static str)>,
}

/// How far every source was read, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Positions {
    /// The followed files.
    #[serde(flatten)]
    pub files: tail::Positions,
    /// All other streams, by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, Value>,
}

/// [`Positions`] in all formats that are read.
#[derive(Deserialize)]
struct Stored {
    #[serde(flatten)]
    files: tail::Positions,
    #[serde(default)]
    streams: BTreeMap<String, Value>,
    /// Before format 3, there were only spools, by the name of their source.
    #[serde(default)]
    spools: BTreeMap<String, Value>,
}

impl From<Stored> for Positions {
    fn from(stored: Stored) -> Self {
        let mut streams = stored.streams;
        let spools = stored.spools.into_iter();
        streams.extend(spools.map(|(name, position)| (format!("syslog:{name}"), position)));
        Positions {
            files: stored.files,
            streams,
        }
    }
}

impl Positions {
    /// Keeps the position of a stream.
    pub fn insert(&mut self, key: &str, position: impl Into<Value>) {
        self.streams.insert(key.to_owned(), position.into());
    }

    /// The position of a stream; `None` if it was never read.
    ///
    /// # Errors
    /// The position is not of this type.
    pub fn get<P: DeserializeOwned>(&self, key: &str) -> Result<Option<P>, serde_json::Error> {
        self.streams.get(key).map(P::deserialize).transpose()
    }
}

impl<S: tail::Sink + ?Sized> tail::Sink for &mut S {
    fn opened(&mut self, file: FileId, info: &Arc<FileInfo>) {
        (**self).opened(file, info);
    }

    fn bytes(&mut self, file: FileId, chunk: &mut Chunk) {
        (**self).bytes(file, chunk);
    }

    fn ended(&mut self, file: FileId, end: End) {
        (**self).ended(file, end);
    }

    fn event(&mut self, info: &FileInfo, event: Event) {
        (**self).event(info, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_former_formats_are_read() {
        let spool = serde_json::json!({"segment": 3, "offset": 5});
        for (stored, format) in [
            (r#"{"files":[]}"#, 1),
            (r#"{"format":2,"files":[]}"#, 2),
            (
                r#"{"format":2,"files":[],"spools":{"wire":{"segment":3,"offset":5}}}"#,
                2,
            ),
            (
                r#"{"format":3,"files":[],"streams":{"syslog:wire":{"segment":3,"offset":5}}}"#,
                3,
            ),
        ] {
            let read: Positions = serde_json::from_str(stored).unwrap();
            assert_eq!(read.files.format, format);
            let expected = stored.contains("wire").then(|| spool.clone());
            assert_eq!(read.get::<Value>("syslog:wire").unwrap(), expected);
            let written = serde_json::to_string(&read).unwrap();
            assert!(written.starts_with(r#"{"format":3,"#), "{written}");
            let again: Positions = serde_json::from_str(&written).unwrap();
            assert_eq!(again.streams, read.streams);
        }
        assert!(serde_json::from_str::<Positions>(r#"{"format":4,"files":[]}"#).is_err());
    }

    #[test]
    fn a_position_of_another_type_is_an_error() {
        let mut positions = Positions::default();
        positions.insert("kafka:logs/3", 7);
        assert_eq!(positions.get::<u64>("kafka:logs/3").unwrap(), Some(7));
        assert_eq!(positions.get::<u64>("kafka:logs/4").unwrap(), None);
        assert!(positions.get::<String>("kafka:logs/3").is_err());
    }
}
