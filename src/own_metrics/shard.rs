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
    /// Blocks that were missing when a shard was restored.
    pub state_missing: Labelled<2, Counter>,
    /// What happened to the ownership, by `event`.
    pub events: Labelled<3, Counter>,
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
        let state_missing = Labelled::new(["source", "partition"]);
        own.register(
            "shard_state_missing",
            "Records of the state topic that were missing, or could not be read, when the shard was restored: the appliances in them began at 0",
            state_missing.clone(),
        );
        let events = Labelled::new(["source", "partition", "event"]);
        own.register(
            "shard_events",
            "What happened to the ownership of a shard with a state topic: it was restored, released, fenced off by another owner or by a transaction that took too long, contended by one that goes on, its lease was over before a commit, or the brokers were given up that had not answered for a lease, and it was begun anew",
            events.clone(),
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
            state_missing,
            events,
            kafka_errors,
        }
    }

    /// Exposes what belongs to a shard whose state is in a topic, at 0.
    pub fn touch_state(&self, source: &str, partition: &str, events: &[&str]) {
        self.state_missing.get([source, partition]);
        for event in events {
            self.events.get([source, partition, event]);
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
    /// The offset of the next record, if it is read.
    pub next_offset: Option<i64>,
    /// Records that wait, and for how long one has been known to, if it is read.
    pub lag: Option<(u64, f64)>,
    /// Seconds since the broker last said where the partition ends; nothing if it never did.
    pub contact_age_seconds: Option<f64>,
    /// Seconds since the last checkpoint was on disk; nothing without one.
    pub checkpoint_age_seconds: Option<f64>,
    /// Seconds that are left of the lease; nothing without a state topic, or before the first commit.
    pub lease_seconds: Option<f64>,
    /// Bytes of the state in the state topic.
    pub state_bytes: Option<u64>,
    /// Seconds that it took to restore it.
    pub restore_seconds: Option<f64>,
    /// The appliances whose lines it counts, if scrapes show it.
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
                "What a shard does: it waits for the brokers, reads what was written while nobody read (catching_up), or is active. Only an active one is in scrapes. With a state topic it may also be restoring, hidden because its lease or that of the owner before says so, contended by another owner, or released.",
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
            |shard| shard.next_offset.map(|offset| offset as f64),
        );
        of_each(
            "shard_lag_records",
            "Records that wait to be read, as of when the broker was last asked where the partition ends.",
            |shard| shard.lag.map(|(records, _)| records as f64),
        );
        of_each(
            "shard_lag_seconds",
            "For how long a record has been known to wait to be read; 0 if none does.",
            |shard| shard.lag.map(|(_, seconds)| seconds),
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
        of_each(
            "shard_lease_seconds",
            "What is left of the time for which the last commit allows to show the shard; 0 if it is over.",
            |shard| shard.lease_seconds,
        );
        of_each(
            "shard_state_bytes",
            "Bytes of the shard's state in the state topic, of its last records.",
            |shard| shard.state_bytes.map(|bytes| bytes as f64),
        );
        of_each(
            "shard_restore_seconds",
            "How long it took to restore the shard from the state topic.",
            |shard| shard.restore_seconds,
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
