//! The integration tests: one binary, a module per subject.

mod alerts;
mod dashboards;
mod deploy;
mod exposition;
mod server;
mod support;
