//! Threads that count pieces of files, beside the one that reads them.
//!
//! Pieces of one file are counted in order and one at a time; those of several files, at the same time. Threads begin
//! when there is something for them to do. What waits is bounded: the reading thread lends a hand when there is too much.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::warn;

use super::Open;
use crate::engine::{Engine, Worker};
use crate::heartbeat::EndOnPanic;
use crate::tail::Chunk;

/// Pieces that wait for each thread, each of at most 256 KiB.
const WAITING_MAX: usize = 2;

/// A piece of a file, to be counted.
#[derive(Debug)]
struct Piece {
    file: Arc<Open>,
    now: Timestamp,
    chunk: Chunk,
}

/// The threads, and what they have to do.
#[derive(Debug)]
pub(super) struct Workers {
    engine: Arc<Engine>,
    /// How many threads may count, the reading one among them.
    threads_max: usize,
    threads: Vec<JoinHandle<()>>,
    queue: Arc<Queue>,
    /// Something was put into the queue since all was done.
    is_active: bool,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// Something can be taken, or the end has come.
    more: Condvar,
    /// Something was done.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Files of which a piece is being counted; as many as threads at most.
    busy: Vec<Arc<Open>>,
    /// Room for pieces, used again.
    spare: Vec<Chunk>,
    is_closed: bool,
}

impl State {
    /// The first piece of a file of which none is being counted.
    fn take(&mut self) -> Option<Piece> {
        let is_free = |piece: &Piece| !self.busy.iter().any(|file| Arc::ptr_eq(file, &piece.file));
        let at = self.pieces.iter().position(is_free)?;
        let piece = self.pieces.remove(at)?;
        self.busy.push(piece.file.clone());
        Some(piece)
    }

    fn is_done(&self) -> bool {
        self.pieces.is_empty() && self.busy.is_empty()
    }
}

impl Queue {
    fn count(&self, piece: Piece, worker: &mut Worker) {
        let Piece { file, now, chunk } = piece;
        file.count(worker, now, chunk.is_late(), Some(&chunk));
        let mut state = self.state.lock();
        state.busy.retain(|busy| !Arc::ptr_eq(busy, &file));
        state.spare.push(chunk);
        drop(state);
        // Another piece of this file may wait for that.
        self.more.notify_one();
        self.done.notify_one();
    }

    /// What a thread does from its beginning to its end.
    fn serve(&self, engine: Arc<Engine>) {
        let _end = EndOnPanic;
        let mut worker = Worker::new(engine);
        let mut state = self.state.lock();
        loop {
            if let Some(piece) = state.take() {
                MutexGuard::unlocked(&mut state, || self.count(piece, &mut worker));
            } else if state.is_closed {
                return;
            } else {
                self.more.wait(&mut state);
            }
        }
    }
}

impl Workers {
    /// No threads yet; up to `threads_max`, the calling one among them.
    pub fn new(engine: Arc<Engine>, threads_max: usize) -> Self {
        Self {
            engine,
            threads_max,
            threads: Vec::new(),
            queue: Arc::default(),
            is_active: false,
        }
    }

    /// Whether something may still have to be done.
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// Whether there may be more threads than the calling one.
    pub fn are_allowed(&self) -> bool {
        self.threads_max > 1
    }

    /// Has a piece counted, now or later, and leaves room for another in its place. `engine` is the calling thread's own, should it have to help.
    pub fn submit(
        &mut self,
        file: &Arc<Open>,
        now: Timestamp,
        chunk: &mut Chunk,
        worker: &mut Worker,
    ) {
        self.is_active = true;
        if self.threads.len() + 1 < self.threads_max {
            self.start();
        }
        let queue = self.queue.clone();
        let mut state = queue.state.lock();
        while state.pieces.len() >= WAITING_MAX * self.threads_max {
            help(&queue, &mut state, worker);
        }
        let spare = state.spare.pop().unwrap_or_default();
        state.pieces.push_back(Piece {
            file: file.clone(),
            now,
            chunk: std::mem::replace(chunk, spare),
        });
        drop(state);
        queue.more.notify_one();
    }

    /// Does, and waits for, all that is to be done.
    pub fn drain(&mut self, worker: &mut Worker) {
        if !std::mem::take(&mut self.is_active) {
            return;
        }
        let mut state = self.queue.state.lock();
        while !state.is_done() {
            help(&self.queue, &mut state, worker);
        }
    }

    fn start(&mut self) {
        let (queue, engine) = (self.queue.clone(), self.engine.clone());
        let thread = std::thread::Builder::new()
            .name("counter".into())
            .spawn(move || queue.serve(engine));
        match thread {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                warn!(err = %error, "a thread cannot be started; going on with fewer");
                self.threads_max = self.threads.len() + 1;
            }
        }
    }
}

impl Drop for Workers {
    /// Everything that was submitted is counted before.
    fn drop(&mut self) {
        self.queue.state.lock().is_closed = true;
        self.queue.more.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

/// Counts a piece, or waits until another thread has counted one.
fn help(queue: &Queue, state: &mut MutexGuard<'_, State>, worker: &mut Worker) {
    match state.take() {
        Some(piece) => MutexGuard::unlocked(state, || queue.count(piece, worker)),
        None => queue.done.wait(state),
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use prometheus_client::metrics::counter::Counter;

    use super::super::Text;
    use super::*;
    use crate::engine::StreamContext;
    use crate::line::LineBuffer;
    use crate::record::Clock;

    fn file() -> Arc<Open> {
        let clock = Clock {
            zone: jiff::tz::TimeZone::UTC,
            now: Timestamp::UNIX_EPOCH,
        };
        Arc::new(Open {
            path: "file".into(),
            source: "source".to_owned(),
            counts: Arc::default(),
            repeats: Arc::default(),
            lines_read: Counter::default(),
            bytes_read: Counter::default(),
            too_long: Counter::default(),
            too_long_bytes: Counter::default(),
            text: Mutex::new(Text {
                lines: LineBuffer::new(1024),
                origin: StreamContext::new(clock),
                too_long_told: false,
            }),
        })
    }

    #[test]
    fn pieces_of_a_file_are_taken_in_order_and_one_at_a_time() {
        let (a, b) = (file(), file());
        let mut state = State::default();
        for (second, file) in [&a, &a, &b, &a].into_iter().enumerate() {
            state.pieces.push_back(Piece {
                file: file.clone(),
                now: Timestamp::from_second(second as i64).unwrap(),
                chunk: Chunk::default(),
            });
        }
        let take = |state: &mut State| state.take().map(|piece| piece.now.as_second());
        assert_eq!(take(&mut state), Some(0));
        assert_eq!(take(&mut state), Some(2));
        assert_eq!(take(&mut state), None);
        for expected in [1, 3] {
            state.busy.retain(|busy| !Arc::ptr_eq(busy, &a));
            assert_eq!(take(&mut state), Some(expected));
        }
        assert!(!state.is_done());
        state.busy.clear();
        assert!(state.is_done());
    }
}
