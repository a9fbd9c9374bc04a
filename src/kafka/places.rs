//! Where shards go on, asked apart from reading: a broker that does not answer holds up only those whose leader it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tracing::error;

use super::Topic;
use super::client::Client;
use crate::boot_time::BootTime;
use crate::config::Kafka;
use crate::heartbeat::EndOnPanic;
use crate::shard::{Head, LastRecord, Place};

/// What places are found together is read from at once: to change what is read costs what was fetched.
const TOGETHER: Duration = Duration::from_millis(500);

/// What a shard knows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) head: Head,
    /// It was never read.
    pub(super) is_new: bool,
}

/// What the partition has.
pub(super) struct Found {
    /// All that was there at this time lies before `high`.
    pub(super) since: BootTime,
    pub(super) low: i64,
    pub(super) high: i64,
    pub(super) place: Place,
    /// If the place is not there any more, the first record that is younger.
    pub(super) younger: i64,
}

/// What was asked, and what came of it; nothing if the brokers did not answer.
pub(super) type Answer = (Asked, Option<Found>);

/// The thread that asks, as the reading thread sees it.
pub(super) struct Places {
    jobs: Sender<Asked>,
    answers: Receiver<Answer>,
    /// How many are to come.
    asked: usize,
    /// Those that have come, and when the first did.
    held: Vec<Answer>,
    since: Instant,
}

/// What the thread has.
pub(super) struct Finder {
    jobs: Receiver<Asked>,
    answers: Sender<Answer>,
}

impl Places {
    /// Both ends.
    pub(super) fn pair() -> (Self, Finder) {
        let ((jobs, queue), (answer, answers)) = (channel(), channel());
        let places = Self {
            jobs,
            answers,
            asked: 0,
            held: Vec::new(),
            since: Instant::now(),
        };
        let finder = Finder {
            jobs: queue,
            answers: answer,
        };
        (places, finder)
    }

    /// Each shard asks once, and waits for the answer.
    pub(super) fn ask(&mut self, asked: Asked) {
        // The thread ends with this, or by a panic, which ends the process.
        self.asked += usize::from(self.jobs.send(asked).is_ok());
    }

    /// What has come, all at once.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        for answer in self.answers.try_iter() {
            if self.held.is_empty() {
                self.since = Instant::now();
            }
            self.asked -= 1;
            self.held.push(answer);
        }
        match self.asked == 0 || self.since.elapsed() >= TOGETHER {
            true => std::mem::take(&mut self.held),
            false => Vec::new(),
        }
    }
}

impl Finder {
    /// Answers until nobody asks any more.
    pub(super) fn work(&self, topic: &Topic, client: &Client, kafka: &Kafka, stop: &AtomicBool) {
        let _end = EndOnPanic;
        while let Ok(first) = self.jobs.recv() {
            // Another client than the one that reads, for as long as there is somebody who asks.
            let mut looking = None;
            for asked in std::iter::once(first).chain(self.jobs.try_iter()) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let found = find(topic, client, (&mut looking, kafka), &asked, stop);
                if let Err(error) = &found {
                    client.trouble(error, "finding the place to go on");
                }
                if self.answers.send((asked, found.ok().flatten())).is_err() {
                    return;
                }
            }
        }
    }
}

/// Compares what the shard knows with what the partition has. Nothing if there is no client.
fn find(
    topic: &Topic,
    client: &Client,
    (looking, kafka): (&mut Option<Client>, &Kafka),
    Asked { head, is_new }: &Asked,
    stop: &AtomicBool,
) -> Result<Option<Found>, KafkaError> {
    let (partition, since) = (head.partition, BootTime::now());
    let (low, high) = client.ends(partition)?;
    let is_there = |last: &LastRecord| !is_new && (low..high).contains(&last.offset);
    let found = match head.last.filter(is_there) {
        None => None,
        Some(last) => {
            let looking = match looking {
                Some(looking) => looking,
                None => match Client::new(&topic.name, kafka, &topic.own) {
                    Ok(client) => looking.insert(client),
                    Err(error) => {
                        error!(source = &*topic.name, err = %error, "the place to go on cannot be looked at; trying again");
                        return Ok(None);
                    }
                },
            };
            looking.look_at(partition, last.offset, stop)?
        }
    };
    let place = match is_new {
        true => Place::There,
        false => head.place(low, high, found),
    };
    let younger = match (place, head.last) {
        (Place::Replaced, Some(last)) => {
            let younger = client.first_since(partition, last.time_ms.saturating_add(1))?;
            younger.unwrap_or(high)
        }
        _ => low,
    };
    Ok(Some(Found {
        since,
        low,
        high,
        place,
        younger,
    }))
}
