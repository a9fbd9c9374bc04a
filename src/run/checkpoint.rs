//! The thread that writes checkpoints.

use std::io::{BufReader, BufWriter, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tracing::{debug, error, info, warn};

use crate::metric::{Saved, lock};
use crate::pipeline::EndOnPanic;
use crate::server::Scrapers;
use crate::source::{OnDisk, Positions};
use crate::state::{self, Place, State};

/// A checkpoint to be written, whom to call then, and who waits for it.
type Job = (Positions, Vec<OnDisk>, Saved, Option<SyncSender<()>>);

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
    ) -> Self {
        let (jobs, queue) = sync_channel(1);
        let failing = Arc::new(AtomicBool::new(false));
        let thread = {
            let (checkpoint, failing) = (checkpoint.clone(), failing.clone());
            let scrapers = scrapers.clone();
            std::thread::spawn(move || write(state, &queue, &checkpoint, &failing, &scrapers))
        };
        Self {
            jobs,
            thread,
            checkpoint,
            failing,
            scrapers,
        }
    }

    /// Has a checkpoint written. Returns false if the last one is not on disk yet; `wait` waits for it.
    pub(super) fn write(
        &self,
        positions: Positions,
        on_disk: Vec<OnDisk>,
        saved: Saved,
        wait: bool,
    ) -> bool {
        if wait {
            return self.jobs.send((positions, on_disk, saved, None)).is_ok();
        }
        match self.jobs.try_send((positions, on_disk, saved, None)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.scrapers.not_saved();
                false
            }
        }
    }

    /// Has a checkpoint written, and waits until it is on disk or cannot be, or [`WRITE_WAIT`] is over.
    pub(super) fn write_now(&self, positions: Positions, on_disk: Vec<OnDisk>, saved: Saved) {
        let (done, written) = sync_channel(1);
        if self
            .jobs
            .send((positions, on_disk, saved, Some(done)))
            .is_ok()
        {
            let _ = written.recv_timeout(WRITE_WAIT);
        }
    }

    /// Nothing has changed: what is on disk is as good as new.
    pub(super) fn unchanged(&self) {
        if !self.failing.load(Ordering::SeqCst) {
            let mut checkpoint = lock(&self.checkpoint);
            if checkpoint.is_some() {
                *checkpoint = Some(Instant::now());
            }
        }
    }

    pub(super) fn finish(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            error!("the checkpoint thread has panicked");
        }
    }
}

/// The table as it is stored: JSON, so that it can be read by other versions and by an operator, and compressed on the
/// way, since names repeat in every series and the whole would be larger than the table itself.
fn pack(saved: &Saved) -> std::io::Result<Vec<u8>> {
    let compressed = GzEncoder::new(Vec::new(), Compression::fast());
    let mut buffered = BufWriter::with_capacity(64 << 10, compressed);
    serde_json::to_writer(&mut buffered, saved)?;
    buffered
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .finish()
}

pub(super) fn unpack(table: &[u8]) -> impl Read {
    // It is read series by series: the whole would take more memory than the table that it becomes.
    BufReader::with_capacity(64 << 10, GzDecoder::new(table))
}

fn write(
    mut state: State,
    queue: &Receiver<Job>,
    checkpoint: &Mutex<Option<Instant>>,
    failing: &AtomicBool,
    scrapers: &Scrapers,
) {
    let _end = EndOnPanic;
    // Whoever waits is told when `_done` goes.
    while let Ok((positions, on_disk, saved, _done)) = queue.recv() {
        let taken = Instant::now();
        let table = match pack(&saved) {
            Ok(table) => table,
            Err(error) => {
                error!(err = %error, "values cannot be written");
                scrapers.save_failed();
                continue;
            }
        };
        let snapshot = state::Snapshot { positions, table }.encode();
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
                *lock(checkpoint) = Some(taken);
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
