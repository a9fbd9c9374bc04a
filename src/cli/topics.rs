//! What can be wrong with a topic without asking a broker.

use std::fs::File;

use crate::config::Config;
use crate::diagnostic::Diagnostic;

/// Reports it. `has_flag` says that `--shard` is given.
pub(super) fn check(config: &Config, has_flag: bool, faults: &mut Vec<Diagnostic>) {
    if has_flag && config.sources.iter().all(|source| source.kafka.is_none()) {
        let message = "has no effect without a source that has `kafka`";
        faults.push(Diagnostic::of_flag("--shard", message, None));
    }
    for (index, source) in config.sources.iter().enumerate() {
        let Some(kafka) = &source.kafka else { continue };
        if !cfg!(feature = "kafka") {
            let message = "this program was built without Kafka".to_owned();
            let hint = "build it with `cargo build --release --locked --features kafka`".to_owned();
            faults.push(config.source_fault(index, "kafka", None, message, Some(hint)));
        }
        for (keys, file) in kafka.files() {
            if let Err(error) = File::open(file) {
                let keys = ["kafka", keys[0], keys[1]];
                let message = format!("{}: {error}", file.display());
                faults.push(config.source_fault_at(index, &keys, message));
            }
        }
    }
}
