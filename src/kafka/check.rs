//! What brokers say of a topic before anything is read in earnest: for `check --kafka`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataTopic;

use super::check_state;
use super::client::{self, Client};
use super::murmur2::partition_of;
use super::report::{ANSWER_MAX, Finding, Report};
use crate::config::{ApplianceFrom, Kafka, Replica, Source};
use crate::own_metrics::OwnMetrics;
use crate::shard;

/// Records that are looked at, in each partition and in all, and for how long.
const RECORDS_EACH: i64 = 20;
const RECORDS_MAX: i64 = 2_000;
const READ_MAX: Duration = Duration::from_secs(15);
/// Keys that are named.
const KEYS_NAMED: usize = 3;
/// The shortest retention that survives a night.
const RETENTION_MIN: Duration = Duration::from_secs(24 * 3600);

/// A topic as its brokers describe it.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct TopicFound {
    brokers: usize,
    partitions: usize,
    replicas: usize,
    records: i64,
    /// Records that were looked at, and those of them that are not where murmur2 of their key leads.
    looked_at: usize,
    elsewhere: usize,
}

impl std::fmt::Display for TopicFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            brokers,
            partitions,
            replicas,
            records,
            looked_at,
            elsewhere,
        } = self;
        write!(
            f,
            "{partitions} partitions, {replicas} replicas, on {brokers} brokers; {records} records, of {looked_at} looked at {elsewhere} lie elsewhere than murmur2 of their key"
        )
    }
}

/// The check of one source.
struct Check<'c> {
    source: &'c Source,
    kafka: &'c Kafka,
    report: Report<'c>,
    found: TopicFound,
}

/// Asks the brokers of a source about its topic. Nothing is found if the source reads none or its brokers do not answer.
pub(crate) fn check(source: &Source, replica: Replica) -> (Option<TopicFound>, Vec<Finding>) {
    let Some(kafka) = source.kafka() else {
        return (None, Vec::new());
    };
    let mut check = Check {
        source,
        kafka,
        report: Report {
            kafka,
            findings: Vec::new(),
        },
        found: TopicFound::default(),
    };
    let is_there = check.run(replica);
    (is_there.then_some(check.found), check.report.findings)
}

impl Check<'_> {
    /// Returns false if the topic cannot be described.
    fn run(&mut self, replica: Replica) -> bool {
        let own = OwnMetrics::new("", "", std::time::SystemTime::now());
        let client = match Client::new(&self.source.name, self.kafka, &own) {
            Ok(client) => client,
            Err(error) => {
                self.report.error("brokers", error, None);
                return false;
            }
        };
        let topic = &self.kafka.topic;
        let metadata = client.consumer().fetch_metadata(Some(topic), ANSWER_MAX);
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                let why = client.last_trouble().unwrap_or_else(|| error.to_string());
                let hint =
                    "is a broker listening there, with TLS and a login as in these settings?";
                self.report.error(
                    "brokers",
                    format!("no broker answers: {why}"),
                    Some(hint.into()),
                );
                return false;
            }
        };
        self.found.brokers = metadata.brokers().len();
        let found = metadata.topics().first();
        let error = found
            .and_then(MetadataTopic::error)
            .map(RDKafkaErrorCode::from);
        let partitions = found.map_or(0, |found| found.partitions().len());
        let (Some(found), None, 1..) = (found, error, partitions) else {
            self.no_topic(error);
            return false;
        };
        self.partitions(found, replica);
        self.settings(found);
        self.records(&client);
        if let Some(state) = &self.kafka.state {
            let (brokers, partitions) = (self.found.brokers, self.found.partitions);
            check_state::check(&mut self.report, &client, state, (brokers, partitions));
        }
        true
    }

    /// The command that allows us something with the topic of the lines.
    fn allow(&self, operation: &str) -> String {
        let rest = format!("--operation {operation} --topic {}", self.kafka.topic);
        self.report.allow_all(&rest)
    }

    fn no_topic(&mut self, error: Option<RDKafkaErrorCode>) {
        let topic = &self.kafka.topic;
        if error == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
            let hint = self.allow("Describe");
            return self.report.error(
                "topic",
                "the brokers do not let us see the topic".into(),
                Some(hint),
            );
        }
        let replicas = self.found.brokers.clamp(1, 3);
        let rest = format!(
            "--create --topic {topic} --partitions 12 --replication-factor {replicas} --config message.timestamp.type=LogAppendTime --config retention.ms=259200000 --config min.insync.replicas={}",
            replicas.div_ceil(2)
        );
        let hint = self.report.command("kafka-topics.sh", &rest);
        let message = match error {
            None
            | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                "the brokers have no such topic".to_owned()
            }
            Some(error) => format!("the topic cannot be described: {error}"),
        };
        self.report.error("topic", message, Some(hint));
    }

    fn partitions(&mut self, found: &MetadataTopic, replica: Replica) {
        let partitions = found.partitions();
        self.found.partitions = partitions.len();
        let replicas = partitions.iter().map(|one| one.replicas().len()).min();
        self.found.replicas = replicas.unwrap_or(0);
        let headless: Vec<i32> = partitions
            .iter()
            .filter(|one| one.leader() < 0)
            .map(|one| one.id())
            .collect();
        if !headless.is_empty() {
            let rest = format!(
                "--describe --topic {} --unavailable-partitions",
                self.kafka.topic
            );
            let hint = self.report.command("kafka-topics.sh", &rest);
            let message =
                format!("these partitions have no leader, and cannot be read: {headless:?}");
            self.report.error("topic", message, Some(hint));
        }
        let behind = partitions
            .iter()
            .filter(|one| one.isr().len() < one.replicas().len())
            .count();
        if behind > 0 {
            self.report.warning(
                "topic",
                format!("{behind} partitions have replicas that are not in sync"),
                None,
            );
        }
        if self.found.replicas < 2 {
            self.report.warning(
                "topic",
                "each record is on one broker only: what that loses is lost".into(),
                None,
            );
        }
        if partitions.len() < replica.count as usize {
            let message = format!(
                "has {} partitions, fewer than the {} replicas of --shard: some read nothing",
                partitions.len(),
                replica.count
            );
            self.report.warning("topic", message, None);
        }
    }

    /// Compares the topic's settings with what a shard needs.
    fn settings(&mut self, found: &MetadataTopic) {
        let settings = match self.report.describe(found.name()) {
            Ok(settings) => settings,
            Err(error) => {
                let hint = self.allow("DescribeConfigs");
                return self.report.warning(
                    "topic",
                    format!("its settings cannot be looked at: {error}"),
                    Some(hint),
                );
            }
        };
        let of = |name: &str| {
            let entry = settings.get(name)?;
            entry.value.clone()
        };
        let is = |name: &str, value: &str| of(name).is_some_and(|found| found == value);
        if of("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            let message =
                "cleanup.policy=compact deletes lines of an appliance once it has written others";
            let hint = self
                .report
                .alter(&self.kafka.topic, "cleanup.policy=delete");
            self.report.error("topic", message.into(), hint);
        }
        if is("message.timestamp.type", "CreateTime") {
            let message = "message.timestamp.type=CreateTime: the time of a record is what its producer says, and retention goes by it; lines of an appliance whose clock is behind are deleted at once";
            self.report.warning(
                "topic",
                message.into(),
                self.report
                    .alter(&self.kafka.topic, "message.timestamp.type=LogAppendTime"),
            );
        }
        let retention = of("retention.ms").and_then(|text| text.parse::<i64>().ok());
        if let Some(retention) = retention.and_then(|ms| u64::try_from(ms).ok())
            && Duration::from_millis(retention) < RETENTION_MIN
        {
            let message = format!(
                "retention.ms={retention}: an outage of more than {} minutes loses records",
                retention / 60_000
            );
            self.report.warning(
                "topic",
                message,
                self.report
                    .alter(&self.kafka.topic, "retention.ms=259200000"),
            );
        }
        if self.found.replicas > 1 && is("min.insync.replicas", "1") {
            let message = "min.insync.replicas=1: a record may be on one broker only when its producer is told that it is safe";
            self.report.warning(
                "topic",
                message.into(),
                self.report
                    .alter(&self.kafka.topic, "min.insync.replicas=2"),
            );
        }
        if is("unclean.leader.election.enable", "true") {
            let message = "unclean.leader.election.enable=true: a broker that lacks records may become leader, and they are lost";
            self.report.warning(
                "topic",
                message.into(),
                self.report
                    .alter(&self.kafka.topic, "unclean.leader.election.enable=false"),
            );
        }
    }

    /// Looks at the last records of each partition.
    fn records(&mut self, client: &Client) {
        let count = i32::try_from(self.found.partitions).unwrap_or(i32::MAX);
        let each = RECORDS_EACH.min(RECORDS_MAX / i64::from(count)).max(1);
        let mut places = Vec::new();
        for partition in 0..count {
            match client.ends(partition) {
                Ok((low, high)) => {
                    self.found.records += high - low;
                    places.push((partition, (high - each).max(low)));
                }
                Err(error) => return self.unreadable(&error),
            }
        }
        if let Err(error) = client.assign(places.into_iter()) {
            return self.unreadable(&error);
        }
        let mut sample = Sample::default();
        let mut ended = BTreeSet::new();
        let until = Instant::now() + READ_MAX;
        while ended.len() < self.found.partitions && Instant::now() < until {
            match client.consumer().poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => sample.look_at(&message, self.source, self.kafka, count),
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = ended.insert(partition),
                Some(Err(error)) => return self.unreadable(&error),
            }
        }
        self.found.looked_at = sample.records;
        self.found.elsewhere = sample.elsewhere;
        let (records, topic) = (sample.records, &self.kafka.topic);
        if ended.len() < self.found.partitions {
            let missing = self.found.partitions - ended.len();
            self.report.error(
                "topic",
                format!(
                    "{missing} partitions gave no records within {} seconds",
                    READ_MAX.as_secs()
                ),
                None,
            );
        }
        if sample.elsewhere > 0 {
            let message = format!(
                "of {records} records {} are in another partition than murmur2 of their key, for instance those of {}: producers of {topic} that place one key differently lose the order of its lines",
                sample.elsewhere,
                sample.keys.join(", ")
            );
            let hint = "set partitioner=murmur2_random in librdkafka's producers, in rsyslog under topicConfParam";
            self.report.warning("topic", message, Some(hint.into()));
        }
        if sample.unusable > 0 {
            let message = format!(
                "of {records} records {} cannot be used: {}",
                sample.unusable,
                sample.why.map_or("", shard::Unusable::as_str)
            );
            self.report.warning(
                "topic",
                message,
                Some("do `format` and `appliance` of the source fit what is written?".into()),
            );
        }
    }

    fn unreadable(&mut self, error: &KafkaError) {
        let is_denied =
            error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed);
        let hint = is_denied.then(|| self.allow("Read"));
        self.report
            .error("topic", format!("the topic cannot be read: {error}"), hint);
    }
}

/// Records that were looked at.
#[derive(Default)]
struct Sample {
    records: usize,
    elsewhere: usize,
    keys: Vec<String>,
    unusable: usize,
    why: Option<shard::Unusable>,
}

impl Sample {
    fn look_at(
        &mut self,
        message: &rdkafka::message::BorrowedMessage<'_>,
        source: &Source,
        kafka: &Kafka,
        partitions: i32,
    ) {
        self.records += 1;
        let key = message.key().filter(|key| !key.is_empty());
        if let Some(key) = key
            && partition_of(key, partitions) != message.partition()
        {
            self.elsewhere += 1;
            let key = String::from_utf8_lossy(key).into_owned();
            if self.keys.len() < KEYS_NAMED && !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
        let unusable = match (&source.appliance, key) {
            (ApplianceFrom::Key, None) => Err(shard::Unusable::NoKey),
            _ => shard::message(&client::record(message), &kafka.format).map(|_| ()),
        };
        if let Err(why) = unusable {
            self.unusable += 1;
            self.why.get_or_insert(why);
        }
    }
}
