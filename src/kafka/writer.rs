//! The checkpoints of shards, in a directory for each.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use tracing::{error, info, warn};

use crate::heartbeat::EndOnPanic;
use crate::metric::Saved;
use crate::shard::{Head, Published};
use crate::source::Positions;
use crate::state::{self, OpenError, Snapshot, State};

/// The key of the position in the snapshot of a shard.
pub(super) const POSITION: &str = "shard";

/// The checkpoint of one shard.
struct Job {
    shard: usize,
    head: Head,
    saved: Saved,
    taken: Instant,
}

/// What a shard needs to be saved.
pub(super) struct Place {
    /// Its directory.
    pub(super) state: State,
    /// Where it is said when it was.
    pub(super) shard: Arc<Published>,
}

/// Takes possession of the directory of a shard.
///
/// # Errors
/// It cannot be used.
pub(super) fn open(directory: &Path, source: &str, partition: i32) -> Result<State, OpenError> {
    let parent = directory.join("shards").join(state::directory_name(source));
    State::open(parent.join(partition.to_string()))
}

/// The thread that writes, so that a slow disk does not hold up reading.
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(places: Vec<Place>) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("kafka-writer".into())
            .spawn(move || write(places, &queue))?;
        Ok(Self { jobs, thread })
    }

    /// Has a checkpoint written. Returns false if another one is being written; `wait` waits for that.
    pub(super) fn write(&self, shard: usize, (head, saved): (Head, Saved), wait: bool) -> bool {
        let job = Job {
            shard,
            head,
            saved,
            taken: Instant::now(),
        };
        if wait {
            return self.jobs.send(job).is_ok();
        }
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    pub(super) fn finish(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            error!("the thread that writes the checkpoints of shards has panicked");
        }
    }
}

fn write(mut places: Vec<Place>, queue: &Receiver<Job>) {
    let _end = EndOnPanic;
    let mut is_failing = false;
    while let Ok(job) = queue.recv() {
        let Some(Place { state, shard }) = places.get_mut(job.shard) else {
            continue;
        };
        let births = job.saved.last_birth;
        let written = state::pack(&job.saved).and_then(|table| {
            let mut positions = Positions::default();
            positions.insert(POSITION, &job.head);
            state.save(&Snapshot { positions, table }.encode())
        });
        let mut figures = shard.figures();
        match written {
            Ok(_) => {
                figures.births_on_disk = births;
                figures.checkpoint = Some(job.taken);
                drop(figures);
                if std::mem::take(&mut is_failing) {
                    info!("checkpoints of shards are written again");
                }
            }
            Err(error) => {
                // What counts is in memory alone, until it can be written.
                figures.births_on_disk = u64::MAX;
                drop(figures);
                if !std::mem::replace(&mut is_failing, true) {
                    warn!(err = %error, path = %state.path().display(), "a checkpoint could not be written; going on");
                }
            }
        }
    }
}
