//! A Prometheus exporter for security appliances that can only be watched through their logs.
//!
//! The data goes one way, and the modules stand in that order:
//!
//! ```text
//!   bytes        lines        Record         Event          Update          text
//! tail ─────▶ line ─────▶ record ─────▶ matcher ─────▶ metric ─────▶ exposition ─────▶ server
//! ```
//!
//! See `ARCHITECTURE.md` for what each room promises and what it may know.

pub mod config;
pub mod diagnostic;
pub mod matcher;
pub mod rules;
pub mod exposition;
pub mod line;
pub mod logfmt;
pub mod metric;
pub mod own_metrics;
pub mod record;
pub mod server;
pub mod state;
pub mod tail;
pub mod unrecognised;
