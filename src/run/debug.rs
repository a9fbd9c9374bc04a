//! The page `/debug`: what the exporter takes, for those who ask why.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::own_metrics::{Process, threads};

/// Metrics that are listed, those with the most series first.
const METRICS_MAX: usize = 50;

impl Shared {
    /// As text, in sections that begin with their name.
    pub(super) fn debug_page(&self) -> String {
        let mut page = String::new();
        // A String takes every write.
        let _ = self.write_debug_page(&mut page);
        page
    }

    fn write_debug_page(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "uptime {:.0?}", self.started.elapsed())?;
        writeln!(page, "ready {}", self.ready.load(Ordering::SeqCst))?;
        writeln!(page, "last progress {:.3?} ago", self.heartbeat.age())?;

        writeln!(page, "\nthreads\n  cpu s  state  name")?;
        for thread in threads() {
            let (seconds, state, name) = (thread.cpu_seconds, thread.state, thread.name);
            writeln!(page, "{seconds:>7.2}  {state:<5}  {name}")?;
        }

        writeln!(page, "\nprocess")?;
        for (family, series) in Process::read().families() {
            for series in series {
                writeln!(page, "  {} {}", family.name, series.value)?;
            }
        }

        let (figures, config, engine) = (self.figures(), self.config(), self.engine());
        writeln!(page, "\nwaiting to be read\n  bytes  files  source")?;
        for (source, bytes) in &figures.lag {
            let followed = figures.followed.iter().find(|(name, _)| name == source);
            let files = followed.map_or("-".to_owned(), |(_, files)| files.to_string());
            writeln!(page, "{bytes:>7}  {files:>5}  {source}")?;
        }

        let shards = self.shard_list();
        if !shards.is_empty() {
            writeln!(page, "\nshards\n  series  waiting  state        shard")?;
            let tables = self.shards.all();
            for (shard, table) in shards.iter().zip(tables) {
                let series: usize = table
                    .engine()
                    .table()
                    .counts()
                    .map(|(_, series, _)| series)
                    .sum();
                let (waiting, state) = (shard.lag_records, shard.state);
                let name = table.name();
                writeln!(page, "{series:>8}  {waiting:>7}  {state:<11}  {name}")?;
            }
        }

        let limits = config.limits.table;
        let table = engine.table();
        let (appliances, bytes) = (table.appliances().len(), table.series_bytes());
        let mut counts: Vec<_> = table
            .counts()
            .map(|(metric, series, _)| (metric.clone(), series))
            .filter(|(_, series)| *series > 0)
            .collect();
        drop(table);
        let series: usize = counts.iter().map(|(_, series)| series).sum();
        writeln!(page, "\ntable")?;
        writeln!(page, "  appliances {appliances} of {}", limits.appliances)?;
        writeln!(page, "  series {series} of {}", limits.series)?;
        writeln!(page, "  bytes {bytes} of {} (estimated)", limits.bytes)?;
        writeln!(page, "\n series  metric")?;
        counts.sort_by_key(|(_, series)| Reverse(*series));
        for (metric, series) in counts.iter().take(METRICS_MAX) {
            writeln!(page, "{series:>7}  {metric}")?;
        }
        Ok(())
    }
}
