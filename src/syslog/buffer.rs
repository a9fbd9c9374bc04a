//! Between receivers and the reading thread: a queue in memory, behind which a spool lies if there is a state directory.
//!
//! Receivers append to the queue, so that none of them ever waits for a disk; a thread of its own moves what is queued to
//! the spool. The queue takes whatever is appended: a receiver reads from its socket only while the queue is not full, so
//! that nothing that was read is without a place, and the queue exceeds its limit by no more than one read of each.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memchr::memchr_iter;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tracing::warn;

use super::spool::{Position, Spool, SpoolReader};
use crate::heartbeat::EndOnPanic;

/// Bytes that wait in memory for the reading thread, for each source.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Bytes that wait in memory for the spool, which a kill takes.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// Entries that come one by one are put together up to so many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How long a spool that is full, or cannot be written, is left alone.
const SPOOL_PAUSE: Duration = Duration::from_millis(100);

/// The receivers' end.
pub(super) struct Buffer {
    queue: Arc<Queue>,
    spool: Option<Stored>,
    wake: Wake,
}

/// A spool and the thread that writes to it.
struct Stored {
    spool: Arc<Spool>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Wakes the reading thread.
#[derive(Clone)]
pub(super) struct Wake {
    /// It knows already that there is something.
    pub(super) signalled: Arc<AtomicBool>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

impl Wake {
    /// One signal is enough until it is answered; each costs a system call.
    fn signal(&self) {
        if !self.signalled.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

/// Whole entries in memory.
#[derive(Debug)]
pub(super) struct Queue {
    bytes_max: usize,
    state: Mutex<State>,
    /// Notified when something was appended, when the spool may have space, and at the end.
    changed: Condvar,
    /// Notified when a full queue has space again.
    space: Notify,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Since when receivers find it full.
    full_since: Option<Instant>,
    /// For how long they did before.
    full_before: Duration,
    /// Nothing is appended any more.
    is_closed: bool,
}

/// The reading thread's end.
#[derive(Debug)]
pub(super) enum Reader {
    /// With the piece that was taken last.
    Queue(Arc<Queue>, Vec<u8>),
    /// With what has not come to the spool yet.
    Spool(Arc<Queue>, SpoolReader),
}

impl Buffer {
    pub(super) fn queue(wake: Wake) -> (Self, Reader) {
        let queue = Arc::new(Queue::new(QUEUE_BYTES_MAX));
        let reader = Reader::Queue(queue.clone(), Vec::new());
        let spool = None;
        (Buffer { queue, spool, wake }, reader)
    }

    /// `unwritten` takes the number of messages that are lost, since the spool could not be written before the end.
    ///
    /// # Errors
    /// The thread that writes cannot be started.
    pub(super) fn spool(
        spool: Spool,
        position: Position,
        wake: Wake,
        unwritten: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, Reader)> {
        let queue = Arc::new(Queue::new(UNWRITTEN_BYTES_MAX));
        let spool = Arc::new(spool);
        let reader = Reader::Spool(queue.clone(), SpoolReader::new(spool.clone(), position));
        let thread = std::thread::Builder::new().name("syslog-spool".into());
        let writer = thread.spawn({
            let (queue, spool, wake) = (queue.clone(), spool.clone(), wake.clone());
            move || write(&queue, &spool, &wake, unwritten)
        })?;
        let writer = Mutex::new(Some(writer));
        let spool = Some(Stored { spool, writer });
        Ok((Buffer { queue, spool, wake }, reader))
    }

    /// Takes whole entries.
    pub(super) fn append(&self, entries: &[u8]) {
        self.queue.append(entries);
        if self.spool.is_none() {
            self.wake.signal();
        }
    }

    /// Whether receivers must not read any more for now.
    pub(super) fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Returns when there may be space again.
    pub(super) async fn space(&self) {
        let mut space = pin!(self.queue.space.notified());
        // Whoever makes space from now on is not missed.
        space.as_mut().enable();
        if self.queue.is_full() {
            space.await;
        }
    }

    /// A checkpoint with this position is on disk.
    pub(super) fn committed(&self, position: Position) {
        if let Some(Stored { spool, .. }) = &self.spool {
            spool.committed(position);
            self.queue.changed.notify_all();
        }
    }

    /// Bytes that are kept, and for how long receivers found no space for more.
    pub(super) fn figures(&self) -> (u64, Duration) {
        let (queued, full) = self.queue.figures();
        let spool = self.spool.as_ref().map(|stored| stored.spool.bytes());
        (queued + spool.unwrap_or(0), full)
    }

    /// Receivers have stopped: what is queued goes to the spool.
    pub(super) fn close(&self) {
        self.queue.state.lock().is_closed = true;
        self.queue.changed.notify_all();
        let writer = (self.spool.as_ref()).and_then(|stored| stored.writer.lock().take());
        if writer.is_some_and(|writer| writer.join().is_err()) {
            warn!("the thread that writes a spool has panicked");
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Moves entries from the queue to the spool until the queue is closed and empty.
fn write(queue: &Queue, spool: &Spool, wake: &Wake, unwritten: impl Fn(u64)) {
    let _end = EndOnPanic;
    while let Some(piece) = queue.wait() {
        while spool.append(&piece).is_err() {
            if !queue.wait_for_change() {
                continue;
            }
            // There will be no other time to write it.
            if spool.append_beyond_limit(&piece).is_err() {
                let messages = memchr_iter(b'\n', &piece).count();
                unwritten(messages as u64);
            }
            break;
        }
        wake.signal();
    }
}

impl Queue {
    fn new(bytes_max: usize) -> Self {
        Queue {
            bytes_max,
            state: Mutex::default(),
            changed: Condvar::new(),
            space: Notify::new(),
        }
    }

    fn append(&self, entries: &[u8]) {
        let mut state = self.state.lock();
        state.bytes += entries.len();
        match state.pieces.back_mut() {
            Some(piece) if piece.len() + entries.len() <= PIECE_BYTES => {
                piece.extend_from_slice(entries);
            }
            _ => state.pieces.push_back(entries.to_vec()),
        }
        drop(state);
        self.changed.notify_all();
    }

    fn is_full(&self) -> bool {
        let mut state = self.state.lock();
        let is_full = state.bytes >= self.bytes_max;
        if is_full {
            state.full_since.get_or_insert_with(Instant::now);
        }
        is_full
    }

    /// The entries that came first, if there are any.
    fn take(&self) -> Option<Vec<u8>> {
        self.take_of(&mut self.state.lock())
    }

    fn take_of(&self, state: &mut State) -> Option<Vec<u8>> {
        let piece = state.pieces.pop_front()?;
        state.bytes -= piece.len();
        // Not for each piece: all who wait are woken.
        if state.bytes <= self.bytes_max / 2
            && let Some(since) = state.full_since.take()
        {
            state.full_before += since.elapsed();
            self.space.notify_waiters();
        }
        Some(piece)
    }

    /// As [`Queue::take`]; waits for entries. `None` if there are none and none will come.
    fn wait(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| {
            state.pieces.is_empty() && !state.is_closed
        });
        self.take_of(&mut state)
    }

    /// Waits for a moment, or until something changes. Returns whether it is closed.
    fn wait_for_change(&self) -> bool {
        let mut state = self.state.lock();
        if !state.is_closed {
            self.changed.wait_for(&mut state, SPOOL_PAUSE);
        }
        state.is_closed
    }

    fn figures(&self) -> (u64, Duration) {
        let state = self.state.lock();
        let now = (state.full_since).map_or(Duration::ZERO, |since| since.elapsed());
        (state.bytes as u64, state.full_before + now)
    }
}

impl Reader {
    /// The next entries, whole lines; nothing if none wait.
    pub(super) fn read(&mut self) -> Option<&[u8]> {
        match self {
            Reader::Queue(queue, piece) => {
                *piece = queue.take()?;
                Some(piece)
            }
            Reader::Spool(_, reader) => reader.read(),
        }
    }

    /// Bytes that wait.
    pub(super) fn lag_bytes(&self) -> u64 {
        match self {
            Reader::Queue(queue, _) => queue.figures().0,
            Reader::Spool(queue, reader) => queue.figures().0 + reader.lag_bytes(),
        }
    }

    /// How far the spool was read.
    pub(super) fn position(&self) -> Option<Position> {
        match self {
            Reader::Queue(..) => None,
            Reader::Spool(_, reader) => Some(reader.position()),
        }
    }

    /// Bytes that cannot be read any more, since this was last asked.
    pub(super) fn take_lost_bytes(&mut self) -> u64 {
        match self {
            Reader::Queue(..) => 0,
            Reader::Spool(_, reader) => std::mem::take(&mut reader.lost_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake() -> Wake {
        Wake {
            signalled: Arc::default(),
            wake: Arc::new(|| {}),
        }
    }

    #[test]
    fn what_is_queued_at_a_stop_goes_to_the_spool_though_that_is_full() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path().to_owned(), 800, Position::default()).unwrap();
        let lost = |_| panic!("nothing is lost");
        let (buffer, mut reader) = Buffer::spool(spool, Position::default(), wake(), lost).unwrap();
        let entry = [&[b'x'; 49][..], b"\n"].concat();
        for _ in 0..100 {
            buffer.append(&entry);
        }
        buffer.close();
        let mut read = 0;
        while let Some(entries) = reader.read() {
            read += entries.len();
        }
        assert_eq!((read, reader.lag_bytes()), (5_000, 0));
    }

    #[test]
    fn what_cannot_be_written_at_a_stop_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let spool = Spool::open(path.clone(), 1 << 20, Position::default()).unwrap();
        let lost = Arc::new(Mutex::new(0));
        let counted = lost.clone();
        let (buffer, _reader) = Buffer::spool(spool, Position::default(), wake(), move |more| {
            *counted.lock() += more;
        })
        .unwrap();
        // Nothing can be created in a file.
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        buffer.append(b"a\nb\n");
        buffer.append(b"c\n");
        buffer.close();
        assert_eq!(*lost.lock(), 3);
    }

    #[test]
    fn a_full_queue_says_so_until_half_of_it_is_taken() {
        let queue = Queue::new(100);
        for _ in 0..3 {
            // Longer than what is put together.
            queue.append(&[b'x'; PIECE_BYTES]);
        }
        assert!(queue.is_full());
        queue.take();
        assert!(queue.is_full());
        let full = |queue: &Queue| queue.figures().1;
        let before = full(&queue);
        queue.take();
        queue.take();
        assert!(!queue.is_full());
        let after = full(&queue);
        assert!(after >= before && after > Duration::ZERO);
        assert_eq!(full(&queue), after);
    }
}
