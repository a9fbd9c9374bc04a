//! The sources of Kafka; without the feature there are none, since the settings refuse them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::config::Config;
use crate::engine::Engine;
#[cfg(feature = "kafka")]
use crate::kafka;
use crate::own_metrics::OwnMetrics;
use crate::shard::Shards;

/// The threads that read topics.
pub(super) struct Topics {
    #[cfg(feature = "kafka")]
    topics: kafka::Topics,
}

#[cfg(feature = "kafka")]
impl Topics {
    pub(super) fn start(
        config: &Config,
        engine: &Arc<Engine>,
        own: &Arc<OwnMetrics>,
        shards: &Arc<Shards>,
    ) -> io::Result<Self> {
        let topics = kafka::start(config, engine, own, shards)?;
        Ok(Self { topics })
    }

    pub(super) fn can_go_on_with(&self, config: &Config, new: &Config) -> bool {
        kafka::fixed(config) == kafka::fixed(new)
    }

    pub(super) fn replace(&self, config: &Config, engine: &Arc<Engine>) {
        self.topics.replace(config, engine);
    }

    pub(super) fn forget(&self, appliance: &str, done: &SyncSender<bool>) -> usize {
        self.topics.forget(appliance, done)
    }

    pub(super) fn heartbeat_age(&self) -> Duration {
        self.topics.heartbeat_age()
    }

    pub(super) fn stop(&self) {
        self.topics.stop();
    }
}

#[cfg(not(feature = "kafka"))]
impl Topics {
    pub(super) fn start(
        _: &Config,
        _: &Arc<Engine>,
        _: &Arc<OwnMetrics>,
        _: &Arc<Shards>,
    ) -> io::Result<Self> {
        Ok(Self {})
    }

    pub(super) fn can_go_on_with(&self, _: &Config, _: &Config) -> bool {
        true
    }

    pub(super) fn replace(&self, _: &Config, _: &Arc<Engine>) {}

    pub(super) fn forget(&self, _: &str, _: &SyncSender<bool>) -> usize {
        0
    }

    pub(super) fn heartbeat_age(&self) -> Duration {
        Duration::ZERO
    }

    pub(super) fn stop(&self) {}
}
