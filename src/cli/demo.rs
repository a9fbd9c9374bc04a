//! The demo: an exporter for a fleet that is made up.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::start::serve;
use super::{Failure, LogFlags, RuleFlags, StartFlags, SyslogFlags, WebFlags};
use crate::config::Transport;
use crate::demo;

/// Where demo listens: its logs are nobody's business.
const DEMO_ADDRESS: &str = "127.0.0.1:10067";

/// Follows the logs of a fleet that is made up.
pub(super) fn run(
    over: Option<Transport>,
    rules: RuleFlags,
    web: WebFlags,
    log: &LogFlags,
) -> Result<ExitCode, Failure> {
    log.begin();
    let demo = demo::Demo::start(over)
        .map_err(|error| Failure::System(format!("the demo cannot write logs: {error}")))?;
    let flags = StartFlags {
        rules,
        log_file: Vec::new(),
        shard: None,
        state_dir: None,
        syslog: SyslogFlags::default(),
        watcher: None,
        auto_reload: false,
        auto_reload_interval: Duration::MAX,
        web,
    };
    let scheme = if flags.web.web_config_file.is_some() {
        "https"
    } else {
        "http"
    };
    let path = flags.web.telemetry_path.clone();
    let source = demo.source().clone();
    let listen = source
        .syslog()
        .into_iter()
        .flat_map(|syslog| &syslog.listen);
    let listen = listen.map(ToString::to_string).next();
    serve(flags, vec![source], DEMO_ADDRESS, |port, prefix| {
        let mut out = std::io::stdout();
        match &listen {
            None => writeln!(out, "demo: logs in {}", demo.directory().display())?,
            Some(address) => {
                writeln!(out, "demo: devices send from 127.0.0.2 and up to {address}")?;
            }
        }
        writeln!(
            out,
            "demo: status page {scheme}://localhost:{port}{prefix}/"
        )?;
        writeln!(
            out,
            "demo: metrics     {scheme}://localhost:{port}{prefix}{path}"
        )?;
        writeln!(
            out,
            "demo: watch ipmi_sensor_state: a fan stops every four minutes and recovers"
        )?;
        writeln!(out, "demo: Ctrl-C ends it and removes what it wrote")
    })
}
