//! What a checkpoint keeps of the files: how far each was read, and how to recognise it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::identity::{FileKey, ReadPosition};

/// The format that is written. Format 1 knew a file by its first and its last KiB; since 3, positions of other sources than
/// files may stand beside these.
const FORMAT: u32 = 3;

/// How far every file was read, at one instant.
///
/// Taken by [`Tail::positions`](super::Tail::positions), given back to [`Tail::new`](super::Tail::new) by the next
/// process. Plain data; the order of the files of one path is the order of their age, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// The format in which this was stored. Up to 3 is read; 3 is written.
    #[serde(
        default = "format_1",
        serialize_with = "format_written",
        deserialize_with = "format_read"
    )]
    pub format: u32,
    /// The files. More than one may have the same path: its rotated generations.
    pub files: Vec<Position>,
}

impl Default for Positions {
    fn default() -> Self {
        Positions {
            format: FORMAT,
            files: Vec::new(),
        }
    }
}

fn format_1() -> u32 {
    1
}

fn format_written<S: serde::Serializer>(_: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(FORMAT)
}

fn format_read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let format = u32::deserialize(deserializer)?;
    match format <= FORMAT {
        true => Ok(format),
        false => Err(serde::de::Error::custom(format!(
            "positions of format {format}; this version reads up to {FORMAT}"
        ))),
    }
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
    /// Device and inode: where to look first.
    #[serde(flatten)]
    pub key: FileKey,
    /// When that inode was made, in nanoseconds since 1970, where the file system keeps that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born_ns: Option<i64>,
    /// Where the next process has to go on, in bytes: the end of the last whole line that was handed on.
    pub offset: u64,
    /// How far the content is known, and how to recognise it.
    #[serde(flatten)]
    pub read: ReadPosition,
    /// The size that the file was last known to have, in bytes.
    pub size: u64,
    /// When the file was last seen at its path: the time of its last change then, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When its first line was received, in seconds since 1970, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_time: Option<i64>,
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
    /// It is a copy of what was read, or is being read, from another file.
    Copy,
    /// It is not to be read: it was rotated before its path was seen for the first time, or is older than what was read.
    History,
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
