//! The table of shards.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::format::{Age, Escaped, Grouped};
use super::table;

/// A partition that is read.
#[derive(Clone, Debug, Default)]
pub struct ShardStatus {
    /// The source that reads it.
    pub source: String,
    /// Its number.
    pub partition: i32,
    /// What is being done with it.
    pub state: &'static str,
    /// It is in scrapes.
    pub is_active: bool,
    /// Appliances whose lines it counts.
    pub appliances: usize,
    /// The offset of the next record.
    pub next_offset: i64,
    /// Records that wait.
    pub lag_records: u64,
    /// Since its leader last said where it ends.
    pub contact: Option<Duration>,
    /// Since its last checkpoint.
    pub checkpoint: Option<Duration>,
}

pub(super) fn write(out: &mut String, shards: &[ShardStatus]) -> fmt::Result {
    out.write_str("<h2>Shards<small>partitions of topics that this exporter reads</small></h2>\n")?;
    table(
        out,
        &[
            ("Source", ""),
            ("Partition", "n"),
            ("State", ""),
            ("Appliances", "n"),
            ("Next offset", "n"),
            ("Waiting", "n"),
            ("Leader heard", "n"),
            ("Checkpoint", "n"),
        ],
        shards,
        |out, shard| {
            let class = if shard.is_active { "good" } else { "bad" };
            write!(
                out,
                "<td>{}</td><td class=\"n\">{}</td><td class=\"{class}\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td>",
                Escaped(&shard.source),
                shard.partition,
                shard.state.replace('_', " "),
                Grouped(shard.appliances as u64),
                Grouped(u64::try_from(shard.next_offset).unwrap_or(0)),
                Grouped(shard.lag_records)
            )?;
            for age in [shard.contact, shard.checkpoint] {
                match age {
                    Some(age) => write!(out, "<td class=\"n\">{} ago</td>", Age(age))?,
                    None => out.write_str("<td class=\"n\">never</td>")?,
                }
            }
            Ok(())
        },
    )
}
