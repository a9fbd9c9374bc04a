//! The thread that writes checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{debug, error, info, warn};

use crate::heartbeat::EndOnPanic;
use crate::metric::Saved;
use crate::server::Scrapers;
use crate::source::{OnDisk, Positions};
use crate::state::{self, Place, State};

/// What a checkpoint consists of, and whom to call when it is on disk.
pub(super) struct Checkpoint {
    pub(super) positions: Positions,
    pub(super) on_disk: Vec<OnDisk>,
    pub(super) saved: Saved,
}

/// A checkpoint to be written, and who waits for it.
type Job = (Checkpoint, Option<SyncSender<()>>);

/// How long reading waits for a checkpoint at most. With a disk that takes longer, what is rotated meanwhile may be lost at
/// a kill.
const WRITE_WAIT: Duration = Duration::from_secs(2);

/// The thread that writes checkpoints, so that a slow disk does not hold up reading.
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    thread: std::thread::JoinHandle<()>,
    checkpoint: Arc<Mutex<Option<Instant>>>,
    failing: Arc<AtomicBool>,
    scrapers: Arc<Scrapers>,
}

impl Writer {
    pub(super) fn start(
        state: State,
        checkpoint: Arc<Mutex<Option<Instant>>>,
        scrapers: Arc<Scrapers>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(1);
        let failing = Arc::new(AtomicBool::new(false));
        let thread = {
            let (checkpoint, failing) = (checkpoint.clone(), failing.clone());
            let scrapers = scrapers.clone();
            let named = std::thread::Builder::new().name("checkpoint".into());
            named.spawn(move || write(state, &queue, &checkpoint, &failing, &scrapers))?
        };
        Ok(Self {
            jobs,
            thread,
            checkpoint,
            failing,
            scrapers,
        })
    }

    /// Queues a checkpoint. Returns false if the queue is full: the disk takes longer than the interval.
    pub(super) fn queue(&self, checkpoint: Checkpoint) -> bool {
        self.try_queue((checkpoint, None))
    }

    /// Queues a checkpoint, and waits until it is on disk, cannot be written, or [`WRITE_WAIT`] is over. Returns false,
    /// without waiting, if the queue is full.
    pub(super) fn queue_and_wait(&self, checkpoint: Checkpoint) -> bool {
        let (done, written) = sync_channel(1);
        let queued = self.try_queue((checkpoint, Some(done)));
        if queued {
            let _ = written.recv_timeout(WRITE_WAIT);
        }
        queued
    }

    fn try_queue(&self, job: Job) -> bool {
        let queued = self.jobs.try_send(job).is_ok();
        if !queued {
            self.scrapers.not_saved();
        }
        queued
    }

    /// Writes the last checkpoint, and ends when it is on disk.
    pub(super) fn finish(self, last: Option<Checkpoint>) {
        if let Some(last) = last {
            // It fails if the thread has panicked, which is said below.
            let _ = self.jobs.send((last, None));
        }
        drop(self.jobs);
        if self.thread.join().is_err() {
            error!("the checkpoint thread has panicked");
        }
    }

    /// Nothing has changed: what is on disk is as good as new.
    pub(super) fn unchanged(&self) {
        if !self.failing.load(Ordering::SeqCst) {
            let mut checkpoint = self.checkpoint.lock();
            if checkpoint.is_some() {
                *checkpoint = Some(Instant::now());
            }
        }
    }
}

fn write(
    mut state: State,
    queue: &Receiver<Job>,
    checkpoint: &Mutex<Option<Instant>>,
    failing: &AtomicBool,
    scrapers: &Scrapers,
) {
    let _end = EndOnPanic;
    // Dropping `_done` wakes whoever waits.
    while let Ok((job, _done)) = queue.recv() {
        let Checkpoint {
            positions,
            on_disk,
            saved,
        } = job;
        let taken = Instant::now();
        let encoded =
            state::pack(&saved).and_then(|table| state::Snapshot { positions, table }.encode());
        let snapshot = match encoded {
            Ok(snapshot) => snapshot,
            Err(error) => {
                error!(err = %error, "values cannot be written");
                scrapers.save_failed();
                continue;
            }
        };
        match state.save(&snapshot) {
            Ok(place) => {
                debug!(
                    bytes = snapshot.len(),
                    milliseconds = taken.elapsed().as_millis(),
                    "checkpoint written"
                );
                if place == Place::MadeAnew {
                    warn!(path = %state.path().display(), "the state directory had been removed or replaced; it was made anew");
                }
                on_disk.into_iter().for_each(|call| call());
                if failing.swap(false, Ordering::SeqCst) {
                    info!("checkpoints are written again");
                }
                scrapers.saved(&saved.shown);
                *checkpoint.lock() = Some(taken);
            }
            Err(error) => {
                scrapers.save_failed();
                // Said once; the age of the last checkpoint shows in the metrics.
                if !failing.swap(true, Ordering::SeqCst) {
                    warn!(err = %error, path = %state.path().display(), "a checkpoint could not be written; going on");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            positions: Positions::default(),
            on_disk: Vec::new(),
            saved: Saved::default(),
        }
    }

    #[test]
    fn a_disk_that_hangs_does_not_hold_up_reading() {
        let (jobs, hangs) = sync_channel(1);
        let (end, ended) = sync_channel::<()>(0);
        let writer = Writer {
            jobs,
            thread: std::thread::spawn(move || {
                let _ = ended.recv();
            }),
            checkpoint: Arc::default(),
            failing: Arc::default(),
            scrapers: Arc::new(Scrapers::new(&[], true)),
        };
        let begun = Instant::now();
        assert!(writer.queue_and_wait(checkpoint()));
        for _ in 0..100 {
            assert!(!writer.queue_and_wait(checkpoint()));
            assert!(!writer.queue(checkpoint()));
        }
        let waited = begun.elapsed();
        assert!(waited < 2 * WRITE_WAIT, "{waited:?}");
        drop((hangs, end));
        writer.finish(None);
    }
}
