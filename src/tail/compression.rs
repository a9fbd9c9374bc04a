//! How a file is compressed, by its name and its first bytes. Only gzip is read; nothing that is compressed is ever taken for
//! text.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The ending of files that are read through a decompressor.
pub(super) const COMPRESSED: &[u8] = b".gz";

/// How many bytes from the beginning of a file tell its compression.
pub(crate) const MAGIC_BYTES: usize = 10;

/// What a gzip file begins with.
const GZIP: &[u8] = b"\x1f\x8b\x08";

/// A form of compression that is not read.
struct Form {
    name: &'static str,
    /// How its files are called. None for `.zip`, since a host, and so its log, may be called `hsm1.example.zip`.
    ending: Option<&'static [u8]>,
    /// What its files begin with, of which `?` is any byte.
    magic: &'static [&'static [u8]],
}

const fn form(
    name: &'static str,
    ending: Option<&'static [u8]>,
    magic: &'static [&'static [u8]],
) -> Form {
    Form {
        name,
        ending,
        magic,
    }
}

const UNREADABLE: &[Form] = &[
    form("xz", Some(b".xz"), &[b"\xfd7zXZ\0"]),
    // The second is the skippable frame that pzstd begins with.
    form(
        "zstd",
        Some(b".zst"),
        &[b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"],
    ),
    // With a block, or empty.
    form(
        "bzip2",
        Some(b".bz2"),
        &[
            b"BZh?\x31\x41\x59\x26\x53\x59",
            b"BZh?\x17\x72\x45\x38\x50\x90",
        ],
    ),
    // The second is the format of the kernel's images.
    form(
        "lz4",
        Some(b".lz4"),
        &[b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"],
    ),
    form("lzma", Some(b".lzma"), &[]),
    form("lzip", Some(b".lz"), &[b"LZIP\x01"]),
    form("lzop", Some(b".lzo"), &[b"\x89LZO\0\r\n\x1a\n"]),
    form("compress", Some(b".Z"), &[b"\x1f\x9d"]),
    form("7-Zip", Some(b".7z"), &[b"7z\xbc\xaf\x27\x1c"]),
    form("zip", None, &[b"PK\x03\x04"]),
];

/// The form in which a file is compressed that is not read, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompressedAs(&'static str);

impl CompressedAs {
    /// By the ending of its name.
    pub(crate) fn of_name(path: &Path) -> Option<CompressedAs> {
        let name = path.file_name()?.as_bytes();
        let has = |ending: &[u8]| name.len() > ending.len() && name.ends_with(ending);
        let form = UNREADABLE
            .iter()
            .find(|form| form.ending.is_some_and(has))?;
        Some(CompressedAs(form.name))
    }

    /// By the first [`MAGIC_BYTES`] of a file.
    pub(crate) fn of_content(first: &[u8]) -> Option<CompressedAs> {
        let begins = |magic: &&[u8]| {
            let mut bytes = magic.iter().zip(first);
            magic.len() <= first.len() && bytes.all(|(magic, byte)| magic == byte || *magic == b'?')
        };
        let form = UNREADABLE
            .iter()
            .find(|form| form.magic.iter().any(begins))?;
        Some(CompressedAs(form.name))
    }

    /// By the name of a file and what it begins with, if that can be read: gzip is none of these, whatever its name is.
    pub(crate) fn of_file(path: &Path) -> Option<CompressedAs> {
        // A FIFO would wait for a writer.
        match path.is_file().then(|| File::open(path).ok()).flatten() {
            Some(file) => CompressedAs::of_opened(path, first_bytes(&file, &mut [0; MAGIC_BYTES])),
            None => CompressedAs::of_name(path),
        }
    }

    /// By the name and the first [`MAGIC_BYTES`] of a file.
    pub(super) fn of_opened(path: &Path, first: &[u8]) -> Option<CompressedAs> {
        match is_gzip(first) {
            true => None,
            false => CompressedAs::of_name(path).or_else(|| CompressedAs::of_content(first)),
        }
    }

    /// If this is why a file was not opened.
    pub(super) fn of_error(error: &io::Error) -> Option<CompressedAs> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// What a file begins with, as far as that can be read and is needed to tell how it is compressed.
pub(crate) fn first_bytes<'a>(file: &File, first: &'a mut [u8; MAGIC_BYTES]) -> &'a [u8] {
    let len = file.read_at(first, 0).unwrap_or_default();
    first.get(..len).unwrap_or_default()
}

/// A file that begins so is no text.
pub(super) fn is_compressed(first: Option<&[u8]>) -> bool {
    first.is_some_and(|first| is_gzip(first) || CompressedAs::of_content(first).is_some())
}

/// The file is compressed in the form that is read.
pub(crate) fn is_gzip(first: &[u8]) -> bool {
    first.starts_with(GZIP)
}

/// The name that a compressed file had before, whether it can be read or not.
pub(super) fn plain_name(name: &OsStr) -> Option<&[u8]> {
    let unreadable = UNREADABLE.iter().filter_map(|form| form.ending);
    let mut endings = unreadable.chain([COMPRESSED]);
    endings
        .find_map(|ending| name.as_bytes().strip_suffix(ending))
        .filter(|plain| !plain.is_empty())
}

impl fmt::Display for CompressedAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compressed ({}), which is not read: use gzip", self.0)
    }
}

impl std::error::Error for CompressedAs {}

impl From<CompressedAs> for io::Error {
    fn from(form: CompressedAs) -> Self {
        io::Error::new(io::ErrorKind::Unsupported, form)
    }
}
