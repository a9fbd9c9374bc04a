//! The sources of Kafka; without the feature there are none, since the settings refuse them.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::config::Config;
use crate::engine::Engine;
#[cfg(feature = "kafka")]
use crate::kafka;
use crate::own_metrics::OwnMetrics;
use crate::server::Scrapers;
use crate::shard::Shards;
#[cfg(feature = "kafka")]
use crate::shard::ShownToAll;

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
        (listeners, scrapers): (&[TcpListener], &Arc<Scrapers>),
    ) -> io::Result<Self> {
        let addresses = listeners.iter().filter_map(|one| one.local_addr().ok());
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        let addresses = addresses.join(",");
        let scrapers = scrapers.clone();
        let shown: Arc<ShownToAll> = Arc::new(move || scrapers.shown_to_all());
        let topics = kafka::start(config, engine, own, shards, &addresses, &shown)?;
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
        _: (&[TcpListener], &Arc<Scrapers>),
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
