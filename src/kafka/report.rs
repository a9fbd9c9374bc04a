//! What a check of topics reports, and the commands of Kafka that mend it.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::client;
use crate::config::Kafka;

/// How long a broker may take to answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What is wrong with a topic.
#[derive(Debug)]
pub(crate) struct Finding {
    /// It cannot work; else it works, but not as well as it could.
    pub(crate) is_error: bool,
    /// The keys below `kafka` that lead to it.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// The cure.
    pub(crate) hint: Option<String>,
}

/// The findings at the topics of a source.
pub(super) struct Report<'c> {
    pub(super) kafka: &'c Kafka,
    pub(super) findings: Vec<Finding>,
}

impl Report<'_> {
    pub(super) fn error(&mut self, key: &'static str, message: String, hint: Option<String>) {
        self.findings.push(Finding {
            is_error: true,
            key,
            message,
            hint,
        });
    }

    pub(super) fn warning(&mut self, key: &'static str, message: String, hint: Option<String>) {
        self.findings.push(Finding {
            is_error: false,
            key,
            message,
            hint,
        });
    }

    /// A command of Kafka that is run against these brokers.
    pub(super) fn command(&self, script: &str, rest: &str) -> String {
        let broker = self.kafka.brokers.first().map_or("", String::as_str);
        format!("{script} --bootstrap-server {broker} {rest}")
    }

    pub(super) fn alter(&self, topic: &str, setting: &str) -> Option<String> {
        let rest =
            format!("--alter --entity-type topics --entity-name {topic} --add-config {setting}");
        Some(self.command("kafka-configs.sh", &rest))
    }

    /// The command that allows us this.
    pub(super) fn allow_all(&self, rest: &str) -> String {
        let user = self.kafka.sasl.as_ref();
        let user = user.map_or("NAME", |sasl| &sasl.username);
        let rest = format!("--add --allow-principal User:{user} {rest}");
        self.command("kafka-acls.sh", &rest)
    }

    pub(super) fn describe(&self, topic: &str) -> Result<ConfigResource, String> {
        let admin: AdminClient<DefaultClientContext> = client::config(self.kafka)
            .and_then(|config| config.create().map_err(|error| error.to_string()))?;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_MAX));
        let asked = [ResourceSpecifier::Topic(topic)];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| error.to_string())?;
        let described = runtime.block_on(admin.describe_configs(&asked, &options));
        let described = described.map_err(|error| error.to_string())?;
        let one = described.into_iter().next().ok_or("no answer")?;
        one.map_err(|error| error.to_string())
    }
}
