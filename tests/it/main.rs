//! The integration tests: one binary, a module per subject.

mod dashboards;
mod deploy;
mod exposition;
mod server;
mod support;
