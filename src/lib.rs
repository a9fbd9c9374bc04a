//! A Prometheus exporter for security appliances that can only be watched through their logs.
//!
//! The data goes one way, and the modules stand in that order:
//!
//! ```text
//!   bytes        lines        Record         Event          Update          text
//! tail ─────▶ line ─────▶ record ─────▶ matcher ─────▶ metric ─────▶ exposition ─────▶ server
//! ```
//!
//! See `ARCHITECTURE.md` for what each module promises and what it may know.

// No input may end in a panic. A test may.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod source;
pub mod syslog;
pub mod tail;

pub mod boot_time;
mod heartbeat;
pub mod line;

pub mod record;

pub mod matcher;
pub mod update;

pub mod metric;

pub mod exposition;

pub mod server;

pub mod check;
pub mod cli;
mod client;
pub mod coverage;
pub mod demo;
mod der;
pub mod engine;
pub mod explain;
mod followed;
mod host;
#[cfg(feature = "kafka")]
mod kafka;
mod nearest;
pub mod passed;
pub mod pipeline;
pub mod rules;
pub mod run;
pub mod shard;
mod suggest;
mod validity;

pub mod config;
pub mod diagnostic;
pub mod logfmt;
pub mod own_metrics;
pub mod state;
pub mod unrecognised;
