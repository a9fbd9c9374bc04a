//! What we ask of brokers, over librdkafka.
//!
//! There is no consumer group: partitions are assigned, and offsets belong to our own state. Nor is there an offset to
//! fall back to: one that is out of range is an error, so that nothing is skipped without being counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::config::Kafka;
use crate::own_metrics::{Counters, OwnMetrics};
use crate::shard::{LastRecord, Record};

/// How long an answer of a broker may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long the record that was read last may take to come.
const RECORD_MAX: Duration = Duration::from_secs(15);
/// How long complaints are waited for.
const COMPLAINTS_MAX: Duration = Duration::from_secs(1);
/// Records and bytes that are taken at once.
const RECORDS_AT_ONCE: usize = 10_000;
const BYTES_AT_ONCE: usize = 1 << 20;
/// What librdkafka may fetch ahead, for all partitions of a source.
const FETCHED_KIB: u32 = 32 << 10;
/// How often the same trouble is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A connection to the brokers of a source.
pub(super) struct Client {
    consumer: BaseConsumer<Context>,
    topic: String,
}

/// What came at once.
#[derive(Default)]
pub(super) struct Batch<'c> {
    /// Records; those of one partition are in order.
    pub(super) records: Vec<BorrowedMessage<'c>>,
    /// Partitions of which all is read.
    pub(super) ended: Vec<i32>,
    /// An offset is not where it was.
    pub(super) is_misplaced: bool,
    /// The client is of no use any more.
    pub(super) is_fatal: bool,
}

/// When trouble was logged last. Clients that come and go share it, so that they do not fill the log.
pub(super) type Logged = Arc<Mutex<Option<Instant>>>;

/// Whether it is to be logged again, and not only counted.
pub(super) fn is_due(logged: &Logged) -> bool {
    let mut logged = logged.lock();
    let is_due = logged.is_none_or(|at| at.elapsed() >= LOG_EVERY);
    if is_due {
        *logged = Some(Instant::now());
    }
    is_due
}

/// Counts and logs what librdkafka says.
pub(super) struct Context {
    source: String,
    errors: Counters<2>,
    logged: Logged,
    /// The last trouble, in words.
    last: Mutex<Option<String>>,
    /// Offsets are committed to the consumer group; not if the brokers do not let us.
    commits: AtomicBool,
    /// Commits without an answer.
    committing: AtomicUsize,
}

impl Context {
    pub(super) fn new(source: &str, own: &OwnMetrics, logged: Logged) -> Self {
        Self {
            source: source.to_owned(),
            errors: own.shards.kafka_errors.clone(),
            logged,
            last: Mutex::default(),
            commits: AtomicBool::new(true),
            committing: AtomicUsize::new(0),
        }
    }

    pub(super) fn trouble(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let name = code.map_or_else(|| "other".to_owned(), |code| format!("{code:?}"));
        self.errors.get([&self.source, &name]).inc();
        // That all brokers are down follows from what was said before.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.last.lock() = Some(format!("{name}: {reason}"));
        }
        if !is_due(&self.logged) {
            debug!(source = self.source, err = %error, reason, "trouble with Kafka");
            return;
        }
        warn!(source = self.source, err = %error, reason, "trouble with Kafka; for a minute further ones are only counted");
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(source = self.source, facility, message, "librdkafka");
    }

    /// Whatever a poll returns as an error was said here before.
    fn error(&self, error: KafkaError, reason: &str) {
        // That a partition is read to its end is none.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            self.trouble(&error, reason);
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.committing.fetch_sub(1, Ordering::SeqCst);
        let Err(error) = result else { return };
        self.trouble(&error, "committing offsets to the consumer group");
        let is_forbidden = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            )
        );
        if is_forbidden && self.commits.swap(false, Ordering::SeqCst) {
            warn!(
                source = self.source,
                "the brokers do not let us commit offsets to the consumer group: none are committed any more"
            );
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    /// What becomes of a record shows when its transaction is committed.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// A record as the shard takes it. One without a time has that of 1970.
pub(super) fn record<'m>(message: &'m BorrowedMessage<'_>) -> Record<'m> {
    Record {
        offset: message.offset(),
        time_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key(),
        value: message.payload(),
    }
}

/// librdkafka's settings.
///
/// # Errors
/// The file with the password cannot be read.
pub(super) fn config(kafka: &Kafka) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.brokers.join(","))
        .set("client.id", "appliance_log_exporter")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "5000")
        .set("topic.metadata.refresh.interval.ms", "60000");
    if let Some(tls) = &kafka.tls {
        if let Some(file) = &tls.ca_file {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
        if let Some((cert, key)) = &tls.client {
            config.set("ssl.certificate.location", cert.to_string_lossy());
            config.set("ssl.key.location", key.to_string_lossy());
        }
    }
    if let Some(sasl) = &kafka.sasl {
        let password = std::fs::read_to_string(&sasl.password_file)
            .map_err(|error| format!("{}: {error}", sasl.password_file.display()))?;
        config
            .set("sasl.mechanism", sasl.mechanism.as_str())
            .set("sasl.username", &sasl.username)
            .set("sasl.password", password.trim_end_matches(['\n', '\r']));
    }
    let protocol = match (&kafka.tls, &kafka.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    Ok(config)
}

/// The same for a consumer.
///
/// # Errors
/// The file with the password cannot be read.
pub(super) fn consumer_config(kafka: &Kafka) -> Result<ClientConfig, String> {
    let mut config = config(kafka)?;
    config
        // No group is joined. Offsets are committed for others to see, by who keeps the state in a topic.
        .set("group.id", format!("ale.{}", kafka.topic))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        .set("check.crcs", "true")
        .set("queued.max.messages.kbytes", FETCHED_KIB.to_string())
        .set("fetch.queue.backoff.ms", "10");
    Ok(config)
}

impl Client {
    /// Makes a client. It connects when it is asked something.
    ///
    /// # Errors
    /// A file cannot be read, or librdkafka refuses a setting.
    pub(super) fn new(source: &str, kafka: &Kafka, own: &OwnMetrics) -> Result<Self, String> {
        let consumer = consumer_config(kafka)?
            .create_with_context(Context::new(source, own, Logged::default()))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            consumer,
            topic: kafka.topic.clone(),
        })
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self) -> Result<i32, KafkaError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), ANSWER_MAX)?;
        let topic = metadata.topics().first();
        let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic);
        let topic = topic.ok_or_else(unknown)?;
        match topic.error() {
            Some(error) => Err(KafkaError::MetadataFetch(error.into())),
            None if topic.partitions().is_empty() => Err(unknown()),
            None => Ok(i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)),
        }
    }

    /// Where a partition begins and where it ends, as its leader says now.
    pub(super) fn ends(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer
            .fetch_watermarks(&self.topic, partition, ANSWER_MAX)
    }

    /// The first record that is not older than this time; nothing if all are.
    pub(super) fn first_since(
        &self,
        partition: i32,
        time_ms: i64,
    ) -> Result<Option<i64>, KafkaError> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&self.topic, partition, Offset::Offset(time_ms))?;
        let found = self.consumer.offsets_for_times(asked, ANSWER_MAX)?;
        let found = found.find_partition(&self.topic, partition);
        Ok(match found.map(|found| (found.error(), found.offset())) {
            Some((Ok(()), Offset::Offset(offset))) => Some(offset),
            Some((Err(error), _)) => return Err(error),
            _ => None,
        })
    }

    /// The record at this offset, or the next one that is there. Takes away what is assigned.
    pub(super) fn look_at(
        &self,
        partition: i32,
        offset: i64,
        stop: &AtomicBool,
    ) -> Result<Option<LastRecord>, KafkaError> {
        self.assign([(partition, offset)].into_iter())?;
        let until = Instant::now() + RECORD_MAX;
        while Instant::now() < until && !stop.load(Ordering::SeqCst) {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.partition() == partition => {
                    return Ok(Some(record(&message).identity()));
                }
                Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => {
                    return Ok(None);
                }
                Some(Err(error)) if is_misplaced(&error) => return Ok(None),
                Some(Ok(_) | Err(_)) | None => {}
            }
        }
        Err(KafkaError::MessageConsumption(
            RDKafkaErrorCode::OperationTimedOut,
        ))
    }

    /// Reads these partitions from these offsets on, and no others.
    pub(super) fn assign(&self, all: impl Iterator<Item = (i32, i64)>) -> Result<(), KafkaError> {
        self.consumer.assign(&self.list(all)?)
    }

    fn list(
        &self,
        all: impl Iterator<Item = (i32, i64)>,
    ) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in all {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        Ok(list)
    }

    /// Commits to the consumer group how far partitions are read, for others to see. Waits for no answer.
    pub(super) fn commit(&self, offsets: impl Iterator<Item = (i32, i64)>) {
        let context = self.consumer.context();
        let Ok(list) = self.list(offsets) else { return };
        if list.count() == 0 || !context.commits.load(Ordering::SeqCst) {
            return;
        }
        context.committing.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            context.commit_callback(Err(error), &list);
        }
    }

    /// Waits for the answers to commits, for so long at most.
    pub(super) fn finish_commits(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let committing = &self.consumer.context().committing;
        while committing.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            // Records are of no use any more.
            let _ = self.consumer.poll(Duration::from_millis(50));
        }
    }

    /// What is there, after at most `wait`.
    pub(super) fn poll(&self, wait: Duration) -> Batch<'_> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut wait = wait;
        while batch.records.len() < RECORDS_AT_ONCE && bytes < BYTES_AT_ONCE {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    batch.records.push(message);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => batch.ended.push(partition),
                Some(Err(error)) => {
                    batch.is_misplaced |= is_misplaced(&error);
                    batch.is_fatal |= matches!(error, KafkaError::MessageConsumptionFatal(_));
                }
            }
            wait = Duration::ZERO;
        }
        batch
    }

    /// What librdkafka complained about last; it says so when it is asked for records.
    pub(super) fn last_trouble(&self) -> Option<String> {
        let until = Instant::now() + COMPLAINTS_MAX;
        while Instant::now() < until {
            // What it returns was said to the context.
            let _ = self.consumer.poll(COMPLAINTS_MAX / 10);
        }
        self.consumer.context().last.lock().clone()
    }

    /// For what is asked but once.
    pub(super) fn consumer(&self) -> &BaseConsumer<impl ConsumerContext + use<>> {
        &self.consumer
    }

    /// Counts and logs an error.
    pub(super) fn trouble(&self, error: &KafkaError, reason: &str) {
        self.consumer.context().trouble(error, reason);
    }
}

/// The offset is not there, or what lies before it has changed.
fn is_misplaced(error: &KafkaError) -> bool {
    let codes = [
        RDKafkaErrorCode::AutoOffsetReset,
        RDKafkaErrorCode::OffsetOutOfRange,
        RDKafkaErrorCode::LogTruncation,
    ];
    error
        .rdkafka_error_code()
        .is_some_and(|code| codes.contains(&code))
}
