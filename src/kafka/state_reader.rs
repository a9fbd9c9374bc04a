//! Reads the state of a shard from its topic.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::error;

use super::client::{self, Context, Logged};
use crate::config::{Kafka, StateTopic};
use crate::heartbeat::Heartbeat;
use crate::own_metrics::OwnMetrics;
use crate::shard::{Claim, Head, Key};

/// How long one call may wait. After a call that may be repeated, the same one is made again.
pub(super) const CALL_MAX: Duration = Duration::from_secs(5);
/// How long a restore waits for the next record, and for open transactions of former owners.
const RESTORE_WAIT: Duration = Duration::from_secs(60);
/// Bytes of a shard's state, as its records are.
const STATE_BYTES_MAX: usize = 256 << 20;

/// Where the state of a shard is, and what its thread needs.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) source: Arc<str>,
    pub(super) kafka: Kafka,
    pub(super) state: StateTopic,
    pub(super) partition: i32,
    pub(super) own: Arc<OwnMetrics>,
    /// What is tried again and again is not logged each time.
    pub(super) logged: Logged,
    /// Nobody waits any more: nothing is tried again.
    pub(super) stop: Arc<AtomicBool>,
    /// Calls of a fence or a restore return.
    pub(super) progress: Arc<Heartbeat>,
}

/// Why something was not done.
pub(super) enum Fault {
    /// Nothing is known but that it has not worked.
    Failed,
    /// The brokers do not accept us any more.
    Refused,
}

/// What was found of the last checkpoint.
pub(super) struct Checkpoint {
    /// Nothing if there was none.
    pub(super) head: Option<Head>,
    /// Its blocks by key.
    pub(super) records: HashMap<Vec<u8>, Vec<u8>>,
    /// The offset that the consumer group has, if there is no checkpoint.
    pub(super) committed: Option<i64>,
}

impl Place {
    /// Says why the state cannot be used for now.
    pub(super) fn complain(&self, why: &str) -> Fault {
        if client::is_due(&self.logged) {
            error!(
                source = &*self.source,
                partition = self.partition,
                topic = self.state.topic,
                err = why,
                "the state of a shard cannot be read or written; trying again, and for a minute further troubles are only counted"
            );
        }
        Fault::Failed
    }

    pub(super) fn is_ending(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The last checkpoint: all up to the end that the partition has now that nobody but us writes. The end of what is committed may lie before that while transactions are
    /// being aborted.
    pub(super) fn last_checkpoint(&self) -> Result<Checkpoint, Fault> {
        let begun = Instant::now();
        let (low, bound) = self.ends(&self.consumer("read_uncommitted")?)?;
        let consumer = self.consumer("read_committed")?;
        while self.ends(&consumer)?.1 < bound {
            if begun.elapsed() > RESTORE_WAIT || self.is_ending() {
                return Err(self.complain("a transaction stays open"));
            }
            self.progress.beat();
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut records: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut bytes = 0;
        if low < bound {
            self.read(&consumer, low, |_, key, value| {
                let former = match value {
                    Some(value) => {
                        bytes += value.len();
                        records.insert(key.to_vec(), value.to_vec())
                    }
                    None => records.remove(key),
                };
                bytes -= former.map_or(0, |former| former.len());
                match bytes <= STATE_BYTES_MAX {
                    true => Ok(()),
                    false => Err(self.complain("it is larger than 256 MiB")),
                }
            })?;
        }
        let head = records.remove(Key::Head.encode().as_bytes());
        let head = head.map(|head| self.own_head(&head)).transpose()?;
        let committed = match head {
            Some(_) => None,
            None => self.committed(&consumer)?,
        };
        Ok(Checkpoint {
            head,
            records,
            committed,
        })
    }

    /// What the last checkpoint says of its writer, and where that stands; its head was at `head_at` when it was seen last.
    pub(super) fn last_claim(&self, head_at: i64) -> Result<(Option<Claim>, i64), Fault> {
        let consumer = self.consumer("read_committed")?;
        let (low, high) = self.ends(&consumer)?;
        let from = head_at.clamp(low, high);
        let mut found = (None, head_at);
        if from < high {
            self.read(&consumer, from, |offset, key, value| {
                if Key::decode(key) == Some(Key::Head) {
                    let head = value.and_then(|head| serde_json::from_slice::<Head>(head).ok());
                    found = (head.and_then(|head| head.claim), offset);
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// How far the shard was read by what the consumer group has; nothing if it has nothing, or may not be asked.
    fn committed(&self, consumer: &BaseConsumer<Context>) -> Result<Option<i64>, Fault> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.kafka.topic, self.partition);
        let found = consumer.committed_offsets(asked, CALL_MAX);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let doing = "asking how far a consumer group has read";
                consumer.context().trouble(&error, doing);
                return match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::GroupAuthorizationFailed) => Ok(None),
                    _ => Err(Fault::Failed),
                };
            }
        };
        let found = found.find_partition(&self.kafka.topic, self.partition);
        Ok(
            found.and_then(|found| match (found.error(), found.offset()) {
                (Ok(()), Offset::Offset(offset)) => Some(offset),
                _ => None,
            }),
        )
    }

    /// The head, unless it belongs to another shard.
    fn own_head(&self, head: &[u8]) -> Result<Head, Fault> {
        let head: Head = serde_json::from_slice(head).map_err(|error| {
            self.complain(&format!("it was written by something else: {error}"))
        })?;
        if head.topic != self.kafka.topic || head.partition != self.partition {
            let other = &head.topic;
            return Err(self.complain(&format!(
                "it is that of the topic {other}: each topic needs a state topic of its own"
            )));
        }
        Ok(head)
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer<Context>, Fault> {
        let made = client::consumer_config(&self.kafka).and_then(|mut config| {
            config.set("isolation.level", isolation);
            let context = Context::new(&self.source, &self.own, self.logged.clone());
            let made = config.create_with_context(context);
            made.map_err(|error| error.to_string())
        });
        made.map_err(|error| self.complain(&error))
    }

    /// Where the partition of the state begins and ends for this consumer.
    fn ends(&self, consumer: &BaseConsumer<Context>) -> Result<(i64, i64), Fault> {
        let topic = &self.state.topic;
        let ends = consumer.fetch_watermarks(topic, self.partition, CALL_MAX);
        ends.map_err(|error| {
            consumer
                .context()
                .trouble(&error, "asking where the state of a shard ends");
            Fault::Failed
        })
    }

    /// Shows each committed record from this offset on, with its offset, key and value.
    fn read(
        &self,
        consumer: &BaseConsumer<Context>,
        from: i64,
        mut each: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut list = TopicPartitionList::new();
        let partition = self.partition;
        let assigned = list
            .add_partition_offset(&self.state.topic, partition, Offset::Offset(from))
            .and_then(|()| consumer.assign(&list));
        assigned.map_err(|_| Fault::Failed)?;
        let mut last = Instant::now();
        loop {
            self.progress.beat();
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    last = Instant::now();
                    let key = message.key().unwrap_or_default();
                    each(message.offset(), key, message.payload())?;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) if is_out_of_range(&error) => return Err(Fault::Failed),
                Some(Err(_)) | None => {}
            }
            if last.elapsed() > RESTORE_WAIT || self.is_ending() {
                return Err(self.complain("nothing comes"));
            }
        }
    }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    let codes = [
        RDKafkaErrorCode::AutoOffsetReset,
        RDKafkaErrorCode::OffsetOutOfRange,
    ];
    (error.rdkafka_error_code()).is_some_and(|code| codes.contains(&code))
}
