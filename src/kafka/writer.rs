//! The checkpoints of shards, in a directory for each.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::heartbeat::EndOnPanic;
use crate::metric::Saved;
use crate::shard::{Head, Published};
use crate::source::Positions;
use crate::state::{self, Loaded, OpenError, Snapshot, State};

/// The key of the position in the snapshot of a shard.
pub(super) const POSITION: &str = "shard";

/// What is to be written.
enum Job {
    Checkpoint(Box<Checkpoint>),
    /// A record of a shard ends the process. Says when that is on disk.
    Failed(usize, i64, SyncSender<()>),
}

/// How long a process that ends waits for that.
const FAILED_MAX: Duration = Duration::from_secs(5);

/// The checkpoint of one shard.
struct Checkpoint {
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
        let job = Job::Checkpoint(Box::new(Checkpoint {
            shard,
            head,
            saved,
            taken: Instant::now(),
        }));
        if wait {
            return self.jobs.send(job).is_ok();
        }
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// The process ends because of the record at this offset; the next one shall know. Waits until that is on disk, but not
    /// for ever.
    pub(super) fn failed(&self, shard: usize, offset: i64) {
        let (done, finished) = sync_channel(1);
        if self.jobs.send(Job::Failed(shard, offset, done)).is_ok() {
            // On a disk that does not answer, it is one attempt that nobody remembers.
            let _ = finished.recv_timeout(FAILED_MAX);
        }
    }

    pub(super) fn finish(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            error!("the thread that writes the checkpoints of shards has panicked");
        }
    }
}

/// Adds to what is on disk that this record has ended the process.
fn failed(state: &mut State, offset: i64) -> std::io::Result<()> {
    let Loaded::Snapshot(mut snapshot) = state.load()? else {
        return Ok(());
    };
    let head = snapshot.positions.get::<Head>(POSITION).ok().flatten();
    let Some(mut head) = head else { return Ok(()) };
    head.failed_at(offset);
    let head = serde_json::to_value(&head)?;
    snapshot.positions.insert(POSITION, head);
    state.save(&snapshot.encode()?).map(|_| ())
}

fn write(mut places: Vec<Place>, queue: &Receiver<Job>) {
    let _end = EndOnPanic;
    let mut is_failing = false;
    while let Ok(job) = queue.recv() {
        let job = match job {
            Job::Checkpoint(checkpoint) => *checkpoint,
            Job::Failed(shard, offset, done) => {
                if let Some(place) = places.get_mut(shard)
                    && let Err(error) = failed(&mut place.state, offset)
                {
                    let path = place.state.path();
                    warn!(offset, err = %error, path = %path.display(), "which record ends the process could not be written");
                }
                let _ = done.send(());
                continue;
            }
        };
        let Some(Place { state, shard }) = places.get_mut(job.shard) else {
            continue;
        };
        let births = job.saved.last_birth;
        let written = state::pack(&job.saved).and_then(|table| {
            let mut positions = Positions::default();
            positions.insert(POSITION, serde_json::to_value(&job.head)?);
            state.save(&Snapshot { positions, table }.encode()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_the_process_is_in_the_next_checkpoint_that_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = open(directory.path(), "fleet", 3).unwrap();
        // Without a checkpoint there is nothing to go on from.
        failed(&mut state, 7).unwrap();
        assert!(matches!(state.load().unwrap(), Loaded::Nothing));
        let head = Head {
            next_offset: 5,
            ..Head::default()
        };
        let mut positions = Positions::default();
        positions.insert(POSITION, serde_json::to_value(&head).unwrap());
        let table = state::pack(&Saved::default()).unwrap();
        let snapshot = Snapshot { positions, table }.encode().unwrap();
        state.save(&snapshot).unwrap();
        for count in 1..=3 {
            failed(&mut state, 7).unwrap();
            let Loaded::Snapshot(snapshot) = state.load().unwrap() else {
                panic!("no snapshot");
            };
            let head: Head = snapshot.positions.get(POSITION).unwrap().unwrap();
            let attempts = head.attempts.unwrap();
            assert_eq!(
                (head.next_offset, attempts.offset, attempts.count),
                (5, 7, count)
            );
            assert_eq!(head.given_up(), (count == 3).then_some(7));
        }
    }
}
