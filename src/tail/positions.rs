//! What a checkpoint keeps of the files: how far each was read, and how to recognise it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::identity::{FileKey, Fingerprint, Mark};

/// How far every file was read, at one instant.
///
/// Taken by [`Tail::positions`](super::Tail::positions), given back to [`Tail::new`](super::Tail::new) by the next
/// process. Plain data; the order of the files of one path is the order of their age, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// The files. More than one may have the same path: its rotated generations.
    pub files: Vec<Position>,
}

/// How far one file was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The path that was followed when the file was found; a rotated file keeps the path that it had.
    #[serde(with = "path_bytes")]
    pub path: PathBuf,
    /// Where `path` led if it is a symbolic link, otherwise absent.
    #[serde(
        default,
        with = "optional_path_bytes",
        skip_serializing_if = "Option::is_none"
    )]
    pub target: Option<PathBuf>,
    /// Device and inode.
    #[serde(flatten)]
    pub key: FileKey,
    /// Where the next process has to go on, in bytes: the end of the last whole line that was handed on.
    pub offset: u64,
    /// How far the file was read, in bytes; `seam` ends here.
    pub read: u64,
    /// The first bytes of the file.
    pub head: Fingerprint,
    /// The last bytes before `read`.
    pub seam: Fingerprint,
    /// The size that the file was last known to have, in bytes.
    pub size: u64,
    /// When the file was last seen at its path: the time of its last change then, in nanoseconds since 1970. Files that
    /// follow it were written at that time or later.
    pub modified_ns: i64,
    /// What was going on with the file.
    pub state: PositionState,
}

/// What was going on with a file when its position was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PositionState {
    /// It was the file at its path.
    Current,
    /// It was rotated away and not yet known to be finished.
    Draining,
    /// It was rotated away and finished. Kept so that it is recognised and not read again.
    Done,
    /// It was rotated before it was ever read, when its path was seen for the first time; not to be read. Nothing is
    /// known of its bytes; recognised by key, size and time.
    History,
}

impl Position {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            offset: self.read,
            head: self.head,
            seam: self.seam,
        }
    }
}

/// Paths are bytes; a text if they are UTF-8, which they nearly always are, otherwise a list of numbers.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Text(text) => text.into(),
            Stored::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

mod optional_path_bytes {
    use std::path::PathBuf;

    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => super::path_bytes::serialize(path, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        super::path_bytes::deserialize(deserializer).map(Some)
    }
}
