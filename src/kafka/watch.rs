//! Where partitions end, asked apart from reading: a reader that gets nothing looks like one that has nothing to get.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::error;

use super::client::Client;
use crate::shard::{Published, Shards};

/// Time between two rounds.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Time between two looks at how many partitions there are.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// Asks until `stop`.
pub(super) fn watch(
    client: &Client,
    source: &Arc<str>,
    shards: &Shards,
    own: &[Arc<Published>],
    partitions: i32,
    stop: &AtomicBool,
) {
    let mut count_at = Instant::now() + COUNT_EVERY;
    let mut known = partitions;
    while !stop.load(Ordering::SeqCst) {
        let round = Instant::now();
        for shard in own {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            match client.ends(shard.partition) {
                Ok((_, end)) => shard.figures().saw_end(end, Instant::now()),
                Err(error) => client.trouble(&error, "asking where a partition ends"),
            }
        }
        if round >= count_at {
            count_at = round + COUNT_EVERY;
            match client.partitions() {
                Ok(count) => {
                    if count != known {
                        error!(
                            source = &**source,
                            before = known,
                            now = count,
                            "the topic has another number of partitions: restart all replicas to read them all"
                        );
                        known = count;
                    }
                    shards.set_partitions(source, u64::try_from(count).unwrap_or(0));
                }
                Err(error) => client.trouble(&error, "asking how many partitions there are"),
            }
        }
        // Unparked by whoever stops it.
        std::thread::park_timeout((round + ASK_EVERY).saturating_duration_since(Instant::now()));
    }
}
