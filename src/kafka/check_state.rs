//! What brokers say of a state topic: for `check --kafka`.

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::client::{self, Client};
use super::report::{ANSWER_MAX, Report};
use crate::config::StateTopic;

const KEY: &str = "state_topic";

/// Compares the state topic with what shards need, and tries whether transactions are allowed. That fences off nobody: the
/// id that is tried is no shard's.
pub(super) fn check(
    report: &mut Report<'_>,
    client: &Client,
    state: &StateTopic,
    (brokers, wanted): (usize, usize),
) {
    let topic = &state.topic;
    let metadata = match client.consumer().fetch_metadata(Some(topic), ANSWER_MAX) {
        Ok(metadata) => metadata,
        Err(error) => {
            let message = format!("the state topic cannot be described: {error}");
            return report.error(KEY, message, None);
        }
    };
    let found = metadata.topics().first();
    let error = (found.and_then(MetadataTopic::error)).map(RDKafkaErrorCode::from);
    let partitions = found.map_or(0, |found| found.partitions().len());
    match error {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            let hint = allow_topic(report, topic);
            let message = "the brokers do not let us see the state topic".into();
            return report.error(KEY, message, Some(hint));
        }
        None if partitions > 0 => {}
        _ => {
            let hint = create(report, topic, (brokers, wanted));
            return report.error(KEY, "the brokers have no such topic".into(), Some(hint));
        }
    }
    if partitions != wanted {
        let message = format!(
            "has {partitions} partitions, and the topic of the lines {wanted}: each of them keeps its state in the one of the same number"
        );
        let hint = match partitions < wanted {
            true => {
                let rest = format!("--alter --topic {topic} --partitions {wanted}");
                Some(report.command("kafka-topics.sh", &rest))
            }
            false => None,
        };
        report.error(KEY, message, hint);
    }
    settings(report, topic, brokers);
    transactions(report, topic);
}

fn create(report: &Report<'_>, topic: &str, (brokers, wanted): (usize, usize)) -> String {
    let replicas = brokers.clamp(1, 3);
    let rest = format!(
        "--create --topic {topic} --partitions {} --replication-factor {replicas} --config cleanup.policy=compact --config segment.bytes=67108864 --config segment.ms=600000 --config min.cleanable.dirty.ratio=0.1 --config min.insync.replicas={}",
        wanted,
        replicas.div_ceil(2)
    );
    report.command("kafka-topics.sh", &rest)
}

fn allow_topic(report: &Report<'_>, topic: &str) -> String {
    let rest = format!("--operation Describe --operation Read --operation Write --topic {topic}");
    report.allow_all(&rest)
}

fn settings(report: &mut Report<'_>, topic: &str, brokers: usize) {
    let settings = match report.describe(topic) {
        Ok(settings) => settings,
        Err(error) => {
            let hint = report.allow_all(&format!("--operation DescribeConfigs --topic {topic}"));
            let message = format!("its settings cannot be looked at: {error}");
            return report.warning(KEY, message, Some(hint));
        }
    };
    let of = |name: &str| settings.get(name).and_then(|entry| entry.value.clone());
    if of("cleanup.policy").is_some_and(|policy| policy != "compact") {
        let message = "cleanup.policy is not compact: old records of the state are deleted though they are the last of their appliance";
        let hint = report.alter(topic, "cleanup.policy=compact");
        report.error(KEY, message.into(), hint);
    }
    if brokers > 1 && of("min.insync.replicas").is_some_and(|count| count == "1") {
        let message =
            "min.insync.replicas=1: a checkpoint may be on one broker only when it counts as safe";
        let hint = report.alter(topic, "min.insync.replicas=2");
        report.warning(KEY, message.into(), hint);
    }
}

fn transactions(report: &mut Report<'_>, topic: &str) {
    let id = format!("ale.{}.check", report.kafka.topic);
    let made = client::config(report.kafka).and_then(|mut config| {
        let made = config.set("transactional.id", id).create();
        made.map_err(|error| error.to_string())
    });
    let tried = made.and_then(|producer: BaseProducer| {
        let tried = producer.init_transactions(ANSWER_MAX);
        tried.map_err(|error| error.to_string())
    });
    if let Err(error) = tried {
        let lines = &report.kafka.topic;
        let rest = format!(
            "--operation Describe --operation Write --transactional-id ale.{lines}. --resource-pattern-type prefixed"
        );
        let hint = format!(
            "{}; and {}",
            report.allow_all(&rest),
            allow_topic(report, topic)
        );
        report.error(
            KEY,
            format!("no transaction can be begun: {error}"),
            Some(hint),
        );
    }
}
