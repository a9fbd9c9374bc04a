//! The table of sources that listen for syslog.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::format::{Age, Bytes, Escaped, Grouped, Rate};
use super::{table, write_some};

/// A source that listens.
#[derive(Clone, Debug, Default)]
pub struct ListenerStatus {
    /// Its name.
    pub source: String,
    /// What it listens on.
    pub addresses: String,
    /// Connections that are open, by transport.
    pub connections: Vec<(&'static str, u64)>,
    /// How many have sent something.
    pub senders: usize,
    /// Some of the appliances that they are.
    pub appliances: Vec<String>,
    /// Messages received since the start.
    pub lines: u64,
    /// Messages a second, over the last while.
    pub lines_per_second: f64,
    /// Bytes that wait to be read.
    pub lag_bytes: u64,
    /// Bytes that were received and are kept.
    pub kept_bytes: u64,
    /// Messages that were dropped or cut since the start.
    pub dropped: u64,
    /// How long ago that happened last, and why.
    pub last_drop: Option<(Duration, &'static str)>,
}

pub(super) fn write(out: &mut String, listeners: &[ListenerStatus]) -> fmt::Result {
    out.write_str("<h2>Listeners</h2>\n")?;
    table(
        out,
        &[
            ("Listens on", ""),
            ("Source", ""),
            ("Connections", "n"),
            ("Senders", "n"),
            ("Appliances", ""),
            ("Waiting", "n"),
            ("Kept", "n"),
            ("Messages/s", "n"),
            ("Messages", "n"),
            ("Dropped or cut", "n"),
            ("Last drop", ""),
        ],
        listeners,
        |out, listener| {
            write!(
                out,
                "<td><code>{}</code></td><td>{}</td><td class=\"n\">",
                Escaped(&listener.addresses),
                Escaped(&listener.source)
            )?;
            if listener.connections.is_empty() {
                out.write_str("–")?;
            }
            for (index, (transport, open)) in listener.connections.iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                write!(out, "{comma}{} {transport}", Grouped(*open))?;
            }
            let senders = Grouped(listener.senders as u64);
            write!(out, "</td><td class=\"n\">{senders}</td><td>")?;
            write_some(out, &listener.appliances)?;
            let class = if listener.dropped > 0 { "n bad" } else { "n" };
            write!(
                out,
                "</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"{class}\">{}</td><td>",
                Bytes(listener.lag_bytes),
                Bytes(listener.kept_bytes),
                Rate(listener.lines_per_second),
                Grouped(listener.lines),
                Grouped(listener.dropped)
            )?;
            match listener.last_drop {
                Some((age, reason)) => write!(out, "{} ago: {reason}</td>", Age(age)),
                None => out.write_str("none</td>"),
            }
        },
    )
}
