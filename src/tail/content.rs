//! Where the bytes of a file come from.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// `O_NONBLOCK`, which std has no name for.
pub(super) const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// Where a generation's bytes come from.
#[derive(Debug)]
pub(super) enum Content {
    /// Not open: to be found, or closed to save a descriptor.
    Closed,
    /// A plain file.
    Plain(File),
    /// A compressed file; it is finished when its end is reached.
    Gzip(Box<Gzip>),
    /// A FIFO, and where permitted a writer of our own, so that it never comes to an end.
    Fifo { reader: File, _writer: Option<File> },
    /// Standard input.
    StandardInput,
}

/// A compressed file on its way.
#[derive(Debug)]
pub(super) struct Gzip {
    pub decoder: MultiGzDecoder<BufReader<File>>,
    /// The seam, since a decoder cannot go back.
    pub seam: Vec<u8>,
}

/// The last `len` of some bytes.
pub(super) fn last_bytes(bytes: &[u8], len: usize) -> &[u8] {
    bytes
        .get(bytes.len().saturating_sub(len)..)
        .unwrap_or_default()
}

/// Opens a FIFO for reading without waiting for a writer.
pub(super) fn open_fifo(path: &Path) -> io::Result<Content> {
    let reader = File::options()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path)?;
    if !reader.metadata()?.file_type().is_fifo() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // While we hold a writer ourselves, the last other writer's going is not an end to be told from.
    let writer = File::options()
        .write(true)
        .custom_flags(NONBLOCK)
        .open(path)
        .ok();
    Ok(Content::Fifo {
        reader,
        _writer: writer,
    })
}

/// A decoder at the beginning of a compressed file.
pub(super) fn decoder(file: &File) -> io::Result<MultiGzDecoder<BufReader<File>>> {
    // The position is shared with every other clone of the descriptor, so it is set each time.
    let mut file = file.try_clone()?;
    io::Seek::rewind(&mut file)?;
    Ok(MultiGzDecoder::new(BufReader::new(file)))
}
