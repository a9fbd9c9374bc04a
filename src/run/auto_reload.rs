//! Reloads when the configuration file or a rule pack has changed, as its content shows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use xxhash_rust::xxh3::xxh3_128;

use super::Shared;
use crate::rules;
use crate::server::App as _;

/// What to look at, and how often.
#[derive(Clone, Debug)]
pub struct AutoReload {
    /// The configuration file, if there is one. Directories of rules are those of the settings in force.
    pub file: Option<PathBuf>,
    /// Between two looks.
    pub interval: Duration,
}

impl AutoReload {
    /// Looks for as long as the exporter runs. What cannot be loaded is tried once, and again after its next change.
    pub(super) async fn run(self, shared: Arc<Shared>) {
        let look = || {
            let (shared, file) = (shared.clone(), self.file.clone());
            spawn_blocking(move || content(file, &shared.config().rule_directories))
        };
        let Ok(mut known) = look().await else { return };
        loop {
            sleep(self.interval).await;
            let Ok(found) = look().await else { return };
            if found == known {
                continue;
            }
            tracing::info!("settings or rules have changed");
            let app = shared.clone();
            // What it comes to is in the log and in the metrics.
            let reloaded = spawn_blocking(move || app.reload()).await;
            known = match reloaded {
                // The settings may name other directories now.
                Ok(Ok(())) => match look().await {
                    Ok(found) => found,
                    Err(_) => return,
                },
                _ => found,
            };
        }
    }
}

/// A hash of all that is read, with the names of the files; of the faults, where something cannot be read.
fn content(file: Option<PathBuf>, directories: &[PathBuf]) -> u128 {
    let mut faults = Vec::new();
    let file: Vec<PathBuf> = file.into_iter().collect();
    let mut texts = rules::texts(&file, &mut faults);
    texts.extend(rules::texts(directories, &mut faults));
    let mut all = String::new();
    for text in texts {
        all.push_str(&format!(
            "{}\0{}\0{}",
            text.file,
            text.text.len(),
            text.text
        ));
    }
    for fault in faults {
        all.push_str(&fault.to_string());
    }
    xxh3_128(all.as_bytes())
}
