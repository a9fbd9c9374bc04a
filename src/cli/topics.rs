//! What can be wrong with a topic, with and without asking a broker.

use std::fs::File;

use crate::config::Config;
use crate::diagnostic::Diagnostic;

/// A topic as its brokers describe it.
#[derive(serde::Serialize)]
pub(super) struct Asked {
    source: String,
    topic: String,
    #[cfg(feature = "kafka")]
    #[serde(flatten)]
    found: crate::kafka::TopicFound,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "source {}: the topic {}", self.source, self.topic)?;
        #[cfg(feature = "kafka")]
        write!(f, " has {}", self.found)?;
        Ok(())
    }
}

/// Asks the brokers of all topics.
#[cfg(feature = "kafka")]
pub(super) fn ask(
    config: &Config,
    errors: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) -> Vec<Asked> {
    let mut all = Vec::new();
    for (index, source) in config.sources.iter().enumerate() {
        let (found, findings) = crate::kafka::check(source, config.replica);
        for finding in findings {
            let keys = ["kafka", finding.key];
            let fault = config.source_fault_at(index, &keys, finding.message, finding.hint);
            match finding.is_error {
                true => errors.push(fault),
                false => warnings.push(fault),
            }
        }
        let topic = source.kafka().map(|kafka| kafka.topic.clone());
        all.extend(found.zip(topic).map(|(found, topic)| Asked {
            source: source.name.clone(),
            topic,
            found,
        }));
    }
    if all.is_empty() && config.sources.iter().all(|source| source.kafka().is_none()) {
        let message = "has no effect without a source that has `kafka`";
        errors.push(Diagnostic::of_flag("--kafka", message, None));
    }
    all
}

/// Without the feature, a source with `kafka` is an error already.
#[cfg(not(feature = "kafka"))]
pub(super) fn ask(_: &Config, errors: &mut Vec<Diagnostic>, _: &mut Vec<Diagnostic>) -> Vec<Asked> {
    let message = "this program was built without Kafka";
    errors.push(Diagnostic::of_flag("--kafka", message, None));
    Vec::new()
}

/// Reports it. `has_flag` says that `--shard` is given.
pub(super) fn check(config: &Config, has_flag: bool, faults: &mut Vec<Diagnostic>) {
    if has_flag && config.sources.iter().all(|source| source.kafka().is_none()) {
        let message = "has no effect without a source that has `kafka`";
        faults.push(Diagnostic::of_flag("--shard", message, None));
    }
    for (index, source) in config.sources.iter().enumerate() {
        let Some(kafka) = source.kafka() else {
            continue;
        };
        if !cfg!(feature = "kafka") {
            let message = "this program was built without Kafka".to_owned();
            let hint = "build it with `cargo build --release --locked --features kafka`".to_owned();
            faults.push(config.source_fault(index, "kafka", None, message, Some(hint)));
        }
        for (keys, file) in kafka.files() {
            if let Err(error) = File::open(file) {
                let keys = ["kafka", keys[0], keys[1]];
                let message = format!("{}: {error}", file.display());
                faults.push(config.source_fault_at(index, &keys, message, None));
            }
        }
    }
}
