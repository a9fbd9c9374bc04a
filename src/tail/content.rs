//! Where the bytes of a file come from.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::identity::ReadPosition;

/// `O_NONBLOCK`, which std has no name for.
pub(super) const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// How much of a compressed file is decoded at a time on the way to an offset, in bytes.
const DECODED_BYTES: u64 = 64 * 1024;

/// Where a generation's bytes come from.
#[derive(Debug)]
pub(super) enum Content {
    /// Not open: to be found, or closed to save a descriptor.
    Closed,
    /// A plain file.
    Plain(Arc<File>),
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
    pub decoder: Decoder,
    /// The seam, since a decoder cannot go back.
    pub seam: Vec<u8>,
    /// Reading failed: the decoder may have lost its place, and is made anew before it is used again.
    pub has_failed: bool,
}

pub(super) type Decoder = MultiGzDecoder<BufReader<Positioned>>;

/// Reads a file from any offset on, with a position of its own: several may read one descriptor.
#[derive(Debug)]
pub(super) struct Positioned {
    pub file: Arc<File>,
    pub at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Gzip {
    pub(super) fn file(&self) -> &Arc<File> {
        &self.decoder.get_ref().get_ref().file
    }

    /// Decodes a compressed file up to `offset`, in bytes of its content.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is damaged, or ends before.
    pub(super) fn at(file: &Arc<File>, offset: u64) -> io::Result<(Gzip, ReadPosition)> {
        let mut decoder = decoder(file);
        let mut position = ReadPosition::default();
        let mut run = Vec::new();
        while position.offset() < offset {
            // The seam stays at the front, since a decoder cannot go back.
            let seam = position.seam_bytes();
            run.drain(..run.len().saturating_sub(seam));
            let want = (offset - position.offset()).min(DECODED_BYTES);
            if decoder.by_ref().take(want).read_to_end(&mut run)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            position.advance(&run);
        }
        let gzip = Gzip {
            decoder,
            seam: last_bytes(&run, position.seam_bytes()).to_vec(),
            has_failed: false,
        };
        Ok((gzip, position))
    }
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
pub(super) fn decoder(file: &Arc<File>) -> Decoder {
    let file = file.clone();
    MultiGzDecoder::new(BufReader::new(Positioned { file, at: 0 }))
}

/// What a decoder says of a file that is no whole compressed file.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    )
}
