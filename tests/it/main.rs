//! The integration tests: one binary, a module per subject.

mod alertmanager;
mod alerts;
mod births;
mod catalogue;
mod dashboards;
mod deploy;
mod end_to_end;
mod exporter;
mod exposition;
mod fuzz;
mod generated;
mod manual;
mod packages;
mod paging;
mod panels;
mod pipes;
mod readme;
mod reference;
mod remote_address;
mod rules_manual;
mod running;
mod senders;
mod server;
mod support;
mod tailing;
