//! What is said of shards, the partitions of Kafka's topics.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;

use super::{FamilyBuilder, Labelled, Registry, family};
use crate::metric::{Family, Kind, Series};

/// What happens to shards; every handle has the labels `source` and, but for the last, `partition`.
#[derive(Debug)]
pub struct ShardMetrics {
    /// Records that were deleted before they were read.
    pub lost_records: Labelled<2, Counter>,
    /// Times that the record read last was not there any more.
    pub log_replaced: Labelled<2, Counter>,
    /// Records that could not be used, by `reason`.
    pub records_dropped: Labelled<3, Counter>,
    /// Troubles with brokers, by `error`.
    pub kafka_errors: Labelled<2, Counter>,
}

impl ShardMetrics {
    pub(super) fn new(own: &mut Registry) -> Self {
        let lost_records = Labelled::new(["source", "partition"]);
        own.register(
            "shard_lost_records",
            "Records that were deleted from the partition before they were read: its retention is too short",
            lost_records.clone(),
        );
        let log_replaced = Labelled::new(["source", "partition"]);
        own.register(
            "shard_log_replaced",
            "Times that the record read last was not in the partition any more: the topic was made anew, or the end of the partition was cut off. Reading went on at the first record that is younger; what was lost is not known",
            log_replaced.clone(),
        );
        let records_dropped = Labelled::new(["source", "partition", "reason"]);
        own.register(
            "shard_records_dropped",
            "Records that were read and could not be used: empty, no JSON, without the field of the message, without the key that names the appliance, or fatal, which have ended the process three times",
            records_dropped.clone(),
        );
        let kafka_errors = Labelled::new(["source", "error"]);
        own.register(
            "kafka_errors",
            "Troubles with the brokers, as librdkafka names them; it tries again by itself",
            kafka_errors.clone(),
        );
        ShardMetrics {
            lost_records,
            log_replaced,
            records_dropped,
            kafka_errors,
        }
    }

    /// Exposes everything of a shard, at 0.
    pub fn touch(&self, source: &str, partition: &str, reasons: &[&str]) {
        self.lost_records.get([source, partition]);
        self.log_replaced.get([source, partition]);
        for reason in reasons {
            self.records_dropped.get([source, partition, reason]);
        }
    }
}

/// How far a shard is, at the time of a scrape.
#[derive(Clone, Debug)]
pub struct ShardGauges {
    /// The source.
    pub source: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The states that there are, and whether it is this one.
    pub states: Vec<(&'static str, bool)>,
    /// The offset of the next record.
    pub next_offset: i64,
    /// Records that wait.
    pub lag_records: u64,
    /// For how long one has been known to wait.
    pub lag_seconds: f64,
    /// Seconds since the broker last said where the partition ends; nothing if it never did.
    pub contact_age_seconds: Option<f64>,
    /// Seconds since the last checkpoint was on disk; nothing without one.
    pub checkpoint_age_seconds: Option<f64>,
    /// The appliances whose lines it counts.
    pub appliances: Vec<Arc<str>>,
}

impl ShardGauges {
    /// As families of a snapshot, those without a series left out. `partitions` says how many the topic of each source has.
    pub fn families(
        shards: &[ShardGauges],
        partitions: &[(Arc<str>, u64)],
    ) -> Vec<(Arc<Family>, Vec<Series>)> {
        let gauge = |name, help| family(name, help, Kind::Gauge);
        let mut families = vec![
            FamilyBuilder {
                name: "appliance_shard".into(),
                help: "1 for each appliance and each shard that counts its lines. An appliance in two shards has records with several keys, or producers that place one key differently.",
                kind: Kind::Gauge,
            }
            .with(
                labels(&["appliance", "source", "partition"]),
                shards.iter().flat_map(|shard| {
                    let each = shard.appliances.iter();
                    each.map(|name| (shard.labels([name.clone()], []), 1.0))
                }),
            ),
            gauge(
                "shard_state",
                "Whether a shard waits for the brokers, reads what was written while nobody read, or is active. Only an active one is in scrapes.",
            )
            .with(
                labels(&["source", "partition", "state"]),
                shards.iter().flat_map(|shard| {
                    let each = shard.states.iter();
                    each.map(|(state, is)| {
                        (shard.labels([], [Arc::from(*state)]), f64::from(u8::from(*is)))
                    })
                }),
            ),
            gauge("shard_partitions", "Partitions that the topic has.").by("source", partitions),
        ];
        let mut of_each = |name, help, value: fn(&ShardGauges) -> Option<f64>| {
            let each = shards
                .iter()
                .filter_map(|shard| Some((shard.labels([], []), value(shard)?)));
            families.push(gauge(name, help).with(labels(&["source", "partition"]), each));
        };
        of_each(
            "shard_next_offset",
            "Offset of the next record that is read.",
            |shard| Some(shard.next_offset as f64),
        );
        of_each(
            "shard_lag_records",
            "Records that wait to be read, as of when the broker was last asked where the partition ends.",
            |shard| Some(shard.lag_records as f64),
        );
        of_each(
            "shard_lag_seconds",
            "For how long a record has been known to wait to be read; 0 if none does.",
            |shard| Some(shard.lag_seconds),
        );
        of_each(
            "shard_contact_age_seconds",
            "Time since the leader of the partition last said where it ends. It is asked whether something comes or not.",
            |shard| shard.contact_age_seconds,
        );
        of_each(
            "shard_checkpoint_age_seconds",
            "Time since the last checkpoint of the shard.",
            |shard| shard.checkpoint_age_seconds,
        );
        families.retain(|(_, series)| !series.is_empty());
        families
    }

    fn labels<const N: usize, const M: usize>(
        &self,
        before: [Arc<str>; N],
        after: [Arc<str>; M],
    ) -> Arc<[Arc<str>]> {
        let own = [self.source.clone(), self.partition.to_string().into()];
        before.into_iter().chain(own).chain(after).collect()
    }
}

fn labels(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}
