//! The integration tests: one binary, a module per subject.

mod alertmanager;
mod alerts;
mod architecture;
mod attacks;
mod births;
#[cfg(feature = "kafka")]
mod broker;
mod catalogue;
mod clock;
mod dashboards;
mod deploy;
#[cfg(feature = "kafka")]
mod deploy_kafka;
mod end_to_end;
mod exporter;
mod exposition;
mod fuzz;
mod generated;
mod incidents;
mod ipmi_events;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_chaos;
#[cfg(feature = "kafka")]
mod kafka_cut;
#[cfg(feature = "kafka")]
mod kafka_elections;
#[cfg(feature = "kafka")]
mod kafka_fatal;
#[cfg(feature = "kafka")]
mod kafka_state;
#[cfg(feature = "kafka")]
mod kafka_zombie;
mod manual;
mod messages;
mod notable;
mod packages;
mod paging;
mod panels;
mod pipes;
mod readme;
mod reference;
mod remote_address;
mod restarts;
mod rules_manual;
mod runbooks;
mod running;
mod schemas;
mod senders;
mod server;
#[cfg(feature = "kafka")]
mod shards_at_scale;
mod status_page;
mod support;
mod syslog;
mod syslog_load;
mod syslog_systemd;
mod tailing;
