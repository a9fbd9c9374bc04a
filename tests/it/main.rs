//! The integration tests: one binary, a module per subject.

mod alertmanager;
mod alerts;
mod dashboards;
mod deploy;
mod exposition;
mod packages;
mod rules_manual;
mod server;
mod support;
