//! Between receivers and the reading thread: a spool if there is a state directory, else a queue in memory. Both are
//! bounded in bytes and take whole entries.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::full::FullTime;
use super::spool::{Full, Position, Spool, SpoolReader};
use crate::metric::lock;

/// Bytes that wait in memory for the reading thread, for each source.
pub(super) const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Entries that come one by one are put together up to so many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// The receivers' end.
pub(super) struct Buffer {
    kind: Kind,
    /// Ready when there may be space again.
    pub(super) space: Notify,
    /// The reading thread knows that there is something.
    signalled: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

enum Kind {
    Queue(Arc<Mutex<Queue>>),
    Spool(Arc<Spool>),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    full: FullTime,
}

/// The reading thread's end.
#[derive(Debug)]
pub(super) enum Reader {
    Queue(Arc<Mutex<Queue>>, Vec<u8>),
    Spool(SpoolReader),
}

impl Buffer {
    pub(super) fn queue(
        signalled: Arc<AtomicBool>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> (Self, Reader) {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let buffer = Buffer {
            kind: Kind::Queue(queue.clone()),
            space: Notify::new(),
            signalled,
            wake,
        };
        (buffer, Reader::Queue(queue, Vec::new()))
    }

    pub(super) fn spool(
        spool: Spool,
        position: Position,
        entry_bytes_max: usize,
        signalled: Arc<AtomicBool>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> (Self, Reader) {
        let spool = Arc::new(spool);
        let reader = SpoolReader::new(spool.clone(), position, entry_bytes_max);
        let buffer = Buffer {
            kind: Kind::Spool(spool),
            space: Notify::new(),
            signalled,
            wake,
        };
        (buffer, Reader::Spool(reader))
    }

    /// Takes whole entries, all or none.
    pub(super) fn append(&self, entries: &[u8]) -> Result<(), Full> {
        match &self.kind {
            Kind::Queue(queue) => lock(queue).append(entries)?,
            Kind::Spool(spool) => spool.append(entries)?,
        }
        // One signal is enough until it is answered; each costs a system call.
        if !self.signalled.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
        Ok(())
    }

    /// A checkpoint with this position is on disk.
    pub(super) fn committed(&self, position: Position) {
        if let Kind::Spool(spool) = &self.kind {
            spool.committed(position);
            self.space.notify_waiters();
        }
    }

    /// Bytes that are kept, and for how long there was no space for more.
    pub(super) fn figures(&self) -> (u64, Duration) {
        match &self.kind {
            Kind::Queue(queue) => {
                let queue = lock(queue);
                (queue.bytes as u64, queue.full.total())
            }
            Kind::Spool(spool) => spool.figures(),
        }
    }
}

impl Queue {
    fn append(&mut self, entries: &[u8]) -> Result<(), Full> {
        // What is larger than the whole queue has to get through some day.
        if self.bytes + entries.len() > QUEUE_BYTES_MAX && self.bytes > 0 {
            self.full.begin();
            return Err(Full);
        }
        self.full.end();
        self.bytes += entries.len();
        match self.pieces.back_mut() {
            Some(piece) if piece.len() + entries.len() <= PIECE_BYTES => {
                piece.extend_from_slice(entries);
            }
            _ => self.pieces.push_back(entries.to_vec()),
        }
        Ok(())
    }
}

impl Reader {
    /// The next entries, whole lines; nothing if none wait.
    pub(super) fn read(&mut self) -> Option<&[u8]> {
        match self {
            Reader::Queue(queue, piece) => {
                let mut queue = lock(queue);
                *piece = queue.pieces.pop_front()?;
                queue.bytes -= piece.len();
                Some(piece)
            }
            Reader::Spool(reader) => reader.read(),
        }
    }

    /// Bytes that wait.
    pub(super) fn lag_bytes(&self) -> u64 {
        match self {
            Reader::Queue(queue, _) => lock(queue).bytes as u64,
            Reader::Spool(reader) => reader.lag_bytes(),
        }
    }

    /// How far the spool was read.
    pub(super) fn position(&self) -> Option<Position> {
        match self {
            Reader::Queue(..) => None,
            Reader::Spool(reader) => Some(reader.position()),
        }
    }

    /// Bytes that cannot be read any more, since this was last asked.
    pub(super) fn take_lost_bytes(&mut self) -> u64 {
        match self {
            Reader::Queue(..) => 0,
            Reader::Spool(reader) => std::mem::take(&mut reader.lost_bytes),
        }
    }
}
