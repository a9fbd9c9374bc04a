//! Flags and commands, spelled as Prometheus' exporters spell them.
//!
//! Each command has the flags that it uses and no others. What they mean together is made in `start`, for the exporter
//! and for `check` alike; what the commands do is in `commands`.

mod commands;
mod demo;
mod start;
mod terminal;
mod topics;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Replica, Transport, Watcher};
use crate::diagnostic::Diagnostic;
use crate::logfmt;

/// Version, revision, target and compiler, as `--version` prints them.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nrevision: ",
    env!("BUILD_REVISION"),
    "\ntarget:   ",
    env!("BUILD_TARGET"),
    "\nrustc:    ",
    env!("BUILD_RUSTC"),
);

/// Prometheus exporter for security appliances that can only be watched through their logs.
///
/// Knows Thales Luna Network HSMs, Juniper KMD, Clavister IPsec and NetApp ONTAP kTLS. Without a command it follows log
/// files and serves the metrics.
#[derive(Debug, Parser)]
#[command(
    name = "appliance_log_exporter",
    version,
    long_version = LONG_VERSION,
    args_override_self = true,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  appliance_log_exporter --log.file '/var/log/appliances/{appliance}.log' --state.dir /var/lib/exporter
  appliance_log_exporter --syslog.listen udp://:5514 --syslog.listen tcp://:5514 --state.dir /var/lib/exporter
  appliance_log_exporter --config.file /etc/appliance_log_exporter/config.yaml

Exit status:
  0  success
  1  check found an error, --fail-under was not reached, or the system refused something (a port in use, a full disk)
  2  a flag, the configuration or a rule is wrong"
)]
pub struct Cli {
    #[command(flatten)]
    start: StartFlags,
    #[command(flatten)]
    log: LogFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Settings of whatever reads lines.
#[derive(Clone, Debug, Args)]
struct RuleFlags {
    /// Configuration file (YAML). Every setting has a default.
    #[arg(long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Directory of rule packs, used before the built-in ones (repeatable) [default: /etc/appliance_log_exporter/rules if
    /// it exists].
    #[arg(long = "rules.dir", value_name = "DIR")]
    rules_dir: Vec<PathBuf>,
}

/// Rules, and what is known of the lines that are read by them.
#[derive(Clone, Debug, Args)]
struct LineFlags {
    #[command(flatten)]
    rules: RuleFlags,
    /// Read the lines as those of this source of --config.file: with its profile, time zone, relays and appliance.
    #[arg(long, value_name = "NAME", requires = "config_file")]
    source: Option<String>,
}

/// Settings of a start.
#[derive(Clone, Debug, Args)]
struct StartFlags {
    #[command(flatten)]
    rules: RuleFlags,
    /// File to follow, or a quoted glob (repeatable).
    #[arg(long = "log.file", value_name = "GLOB")]
    log_file: Vec<String>,
    /// Reload when the configuration file or a rule pack has changed. (The web configuration is read anew in any case.)
    #[arg(long = "config.enable-auto-reload")]
    auto_reload: bool,
    /// How often --config.enable-auto-reload looks for changes.
    #[arg(
        long = "config.auto-reload-interval",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = interval
    )]
    auto_reload_interval: Duration,
    /// Directory for file positions, counter values and what was received, so that they survive a restart [default: none].
    #[arg(long = "state.dir", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    syslog: SyslogFlags,
    #[command(flatten)]
    web: WebFlags,
    /// Which partitions of Kafka's topics are read: those whose number modulo N is I; auto takes I from the number at the end
    /// of the host name [default: all].
    #[arg(long = "shard", value_name = "I/N|auto/N")]
    shard: Option<Replica>,
    /// How changes to files are noticed; files are checked regularly either way [default: inotify].
    #[arg(long = "tail.watcher", value_name = "WATCHER", value_parser = watcher())]
    watcher: Option<Watcher>,
}

/// Settings of what is received over the network.
#[derive(Clone, Debug, Default, Args)]
struct SyslogFlags {
    /// Address to receive syslog on: udp://, tcp:// or tls:// with HOST:PORT, :PORT for all interfaces, or systemd/NAME
    /// for sockets that systemd passes (repeatable). A sender is known by its certificate, if it needs one, else by its
    /// address.
    #[arg(long = "syslog.listen", value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Certificate for tls://, PEM.
    #[arg(long = "syslog.tls-cert-file", value_name = "FILE", requires_all = ["listen", "tls_key_file"])]
    tls_cert_file: Option<PathBuf>,
    /// Key of the certificate, PEM.
    #[arg(
        long = "syslog.tls-key-file",
        value_name = "FILE",
        requires = "tls_cert_file"
    )]
    tls_key_file: Option<PathBuf>,
    /// Who signs the certificates of senders, PEM. With it, a sender needs one.
    #[arg(
        long = "syslog.tls-client-ca-file",
        value_name = "FILE",
        requires = "tls_cert_file"
    )]
    tls_client_ca_file: Option<PathBuf>,
}

/// Settings of the server.
#[derive(Clone, Debug, Args)]
struct WebFlags {
    /// Address to listen on: HOST:PORT, or :PORT for all interfaces (repeatable) [default: :10067, of demo
    /// 127.0.0.1:10067].
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    listen_address: Vec<String>,
    /// Use the sockets that systemd passes instead of opening any, but for those that --syslog.listen or a source names.
    #[arg(long = "web.systemd-socket")]
    systemd_socket: bool,
    /// Web configuration file (exporter-toolkit format): TLS, basic auth, headers.
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
    /// Answer POST /-/reload and POST /-/forget. They are answered without this flag if the web configuration asks for a
    /// password.
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,
    /// URL under which clients reach the exporter, if a reverse proxy is between; its path is what redirects begin with.
    #[arg(long = "web.external-url", value_name = "URL")]
    external_url: Option<String>,
    /// What all paths begin with [default: the path of --web.external-url].
    #[arg(long = "web.route-prefix", value_name = "PATH")]
    route_prefix: Option<String>,
    /// Path of the metrics.
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics"
    )]
    telemetry_path: String,
}

/// Settings of the exporter's own log.
#[derive(Clone, Debug, Args)]
struct LogFlags {
    /// Log only messages of this level or above.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_parser = level())]
    log_level: LevelFilter,
    /// Format of log messages.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", value_parser = log_format())]
    log_format: logfmt::Format,
}

fn watcher() -> impl clap::builder::TypedValueParser<Value = Watcher> {
    PossibleValuesParser::new(["inotify", "linemux", "poll"]).map(|word| match word.as_str() {
        "linemux" => Watcher::Linemux,
        "poll" => Watcher::Poll,
        _ => Watcher::Inotify,
    })
}

fn transport() -> impl clap::builder::TypedValueParser<Value = Transport> {
    PossibleValuesParser::new(["udp", "tcp", "tls"]).try_map(|word| word.parse::<Transport>())
}

fn level() -> impl clap::builder::TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["debug", "info", "warn", "error"])
        .map(|word| word.parse().unwrap_or(LevelFilter::INFO))
}

fn log_format() -> impl clap::builder::TypedValueParser<Value = logfmt::Format> {
    PossibleValuesParser::new(["logfmt", "json"]).map(|word| match word.as_str() {
        "json" => logfmt::Format::Json,
        _ => logfmt::Format::Logfmt,
    })
}

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check everything that a start checks, and run the examples of the rules.
    ///
    /// Checks the flags, the configuration, the web configuration, the state directory and the rules, and lists the files
    /// that each source matches now. Opens no port and writes nothing.
    #[command(
        mut_arg("log_level", |flag| flag.hide(true)),
        mut_arg("log_format", |flag| flag.hide(true)),
        after_help = "\
Examples:
  appliance_log_exporter check --config.file /etc/appliance_log_exporter/config.yaml
  appliance_log_exporter check --coverage /var/log/appliances/hsm1.log --fail-under 95

Exit status: 0 without an error, 1 with one or if --fail-under is not reached, 2 if a flag is unknown or has no valid value."
    )]
    Check {
        #[command(flatten)]
        start: Box<StartFlags>,
        // Accepted, so that ExecStartPre= can take the arguments of ExecStart=.
        #[command(flatten)]
        log: LogFlags,
        /// Rule packs, files or directories, as with --rules.dir.
        #[arg(value_name = "PACK")]
        packs: Vec<PathBuf>,
        /// Instead, count the lines of this log that no rule recognises (`-` for standard input).
        #[arg(long, value_name = "FILE")]
        coverage: Option<PathBuf>,
        /// With --coverage: fail if fewer than this percentage of the lines are recognised.
        #[arg(long, value_name = "PERCENT", requires = "coverage", value_parser = percent)]
        fail_under: Option<f64>,
        /// Also ask the brokers of all topics: access, partitions, settings, and a few records. Prints the commands that
        /// mend what is wrong. Nothing else of `check` uses the network.
        #[arg(long, conflicts_with = "coverage")]
        kafka: bool,
        /// Output for a person (text) or a program (json).
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Output,
    },
    /// Read logs to their end and print the metrics.
    #[command(after_help = "\
Examples:
  appliance_log_exporter replay /var/log/appliances/hsm1.log
  zcat hsm1.log.*.gz | appliance_log_exporter replay --rules.dir my-rules -")]
    Replay {
        #[command(flatten)]
        lines: LineFlags,
        /// Log files, also gzipped ones, or `-` for standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Explain what lines mean: header, rule, captures, changes to metrics.
    #[command(after_help = "\
Examples:
  appliance_log_exporter explain 'Feb 29 12:05:01 hsm1 sshd[77]: Accepted password for admin from 192.0.2.1 port 22 ssh2'
  tail -1 /var/log/appliances/hsm1.log | appliance_log_exporter explain --format json")]
    Explain {
        #[command(flatten)]
        lines: LineFlags,
        /// A log file, `-` for standard input, or a log line in quotes [default: -].
        #[arg(value_name = "FILE|LINE")]
        input: Option<OsString>,
        /// Output for a person (text) or a program (json).
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Output,
    },
    /// Draft rules for the lines of a log that no rule recognises.
    #[command(after_help = "\
Examples:
  appliance_log_exporter suggest /var/log/appliances/hsm1.log
  appliance_log_exporter suggest --rules.dir my-rules --write /var/log/appliances/hsm1.log")]
    Suggest {
        #[command(flatten)]
        rules: RuleFlags,
        /// Add the drafts to a pack in the first directory of --rules.dir instead of printing them.
        #[arg(long)]
        write: bool,
        /// Name of the pack.
        #[arg(long, value_name = "NAME", default_value = "site")]
        pack: String,
        /// A log file, also a gzipped one, or `-` for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Write the logs of a small fleet to a temporary directory, and follow them.
    #[command(after_help = "\
Examples:
  appliance_log_exporter demo
  appliance_log_exporter demo --over tls --web.listen-address :10067")]
    Demo {
        /// Send the logs over the network instead, each device from an address of its own: udp, tcp, or tls with a
        /// certificate that is made for it.
        #[arg(long, value_name = "TRANSPORT", value_parser = transport())]
        over: Option<Transport>,
        #[command(flatten)]
        rules: RuleFlags,
        #[command(flatten)]
        web: WebFlags,
        #[command(flatten)]
        log: LogFlags,
    },
    /// Make an exporter that runs forget an appliance and all its series.
    ///
    /// The exporter must run with --web.enable-lifecycle, or with a password. What the appliance logs from then on is
    /// counted anew.
    #[command(after_help = "\
Examples:
  appliance_log_exporter forget --url http://localhost:10067 hsm7
  appliance_log_exporter forget --url http://admin:secret@collector:10067 hsm7

Exit status: 0 if it is forgotten, 1 if not: the exporter does not know it, refuses, or cannot be reached.")]
    Forget {
        /// Where the exporter serves; http only.
        #[arg(long, value_name = "URL")]
        url: String,
        /// The appliance, as the label says it.
        #[arg(value_name = "APPLIANCE")]
        appliance: String,
    },
    /// Print the completion script of a shell.
    #[command(after_help = "\
Examples:
  appliance_log_exporter completions bash > ~/.local/share/bash-completion/completions/appliance_log_exporter
  appliance_log_exporter completions fish > ~/.config/fish/completions/appliance_log_exporter.fish")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    let interval = text.parse::<jiff::SignedDuration>().ok();
    interval
        .and_then(|interval| Duration::try_from(interval).ok())
        .filter(|interval| (1..=86_400).contains(&interval.as_secs()))
        .ok_or("must be a duration from 1s to 24h, for instance 30s")
}

fn percent(text: &str) -> Result<f64, &'static str> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("must be a number from 0 to 100"),
    }
}

/// Why a command ends.
enum Failure {
    /// Flags, settings or rules are wrong.
    Settings(Vec<Diagnostic>),
    /// A single message about them.
    Usage(String),
    /// The system refused something.
    System(String),
    /// Nobody reads the output any more, which is no error.
    BrokenPipe,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::System(error.to_string()),
        }
    }
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        None => start::run(cli.start, &cli.log),
        Some(Command::Demo {
            over,
            rules,
            web,
            log,
        }) => demo::run(over, rules, web, &log),
        Some(Command::Check {
            mut start,
            packs,
            coverage,
            fail_under,
            kafka,
            format,
            ..
        }) => {
            start.rules.rules_dir.extend(packs);
            match coverage {
                None => commands::check(&start, kafka, format),
                Some(file) => commands::coverage(&start.rules, &file, fail_under, format),
            }
        }
        Some(Command::Replay { lines, files }) => commands::replay(&lines, &files),
        Some(Command::Explain {
            lines,
            input,
            format,
        }) => commands::explain(&lines, input.as_deref(), format),
        Some(Command::Suggest {
            rules,
            write,
            pack,
            file,
        }) => commands::suggest(&rules, &file, &pack, write),
        Some(Command::Forget { url, appliance }) => commands::forget(&url, &appliance),
        Some(Command::Completions { shell }) => commands::completions(shell),
    };
    logfmt::flush(LOG_FLUSH_MAX);
    match done {
        Ok(code) => code,
        Err(Failure::Settings(faults)) => {
            for fault in &faults {
                complain(fault);
            }
            ExitCode::from(2)
        }
        Err(Failure::Usage(message)) => {
            complain(format!("error: {message}"));
            ExitCode::from(2)
        }
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::System(message)) => {
            complain(format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// How long the end waits for the log to be written.
const LOG_FLUSH_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// To standard error. If nobody takes it, the exit status still says it.
fn complain(what: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Prints a fault of the command line, and what was probably meant.
fn usage(error: &clap::Error) -> ExitCode {
    // It goes to a terminal or nowhere; there is nobody else to tell.
    let _ = error.print();
    if let Some(hint) = intended(error, std::env::args_os()) {
        complain(format!("\n  hint: {hint}"));
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// What somebody meant who wrote a word where a command is expected, or flags before a command.
fn intended(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> Option<String> {
    if !matches!(
        error.kind(),
        ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict
    ) {
        return None;
    }
    let arguments: Vec<String> = arguments
        .filter_map(|argument| argument.into_string().ok())
        .collect();
    let cli = Cli::command();
    let command = arguments
        .iter()
        .find(|word| cli.find_subcommand(word).is_some());
    if let Some(command) = command {
        return Some(format!("flags go behind the command: `{command} --flag`"));
    }
    if arguments.iter().any(|word| word.starts_with("--log.file")) {
        return Some("the shell expands a glob that is not quoted: write --log.file '*.log', with the quotes".into());
    }
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) if Path::new(word).exists() => Some(format!(
            "to read a file once: `replay {word}`; to follow it: `--log.file {word}`"
        )),
        _ => Some(
            "without a command the exporter follows the files of --log.file or --config.file"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exporter itself, which ends at some lines when it is compiled for tests: `shard/tests.rs`.
    #[test]
    #[ignore = "tests/it/kafka_fatal.rs runs it"]
    fn exporter() {
        let arguments = std::env::var("ARGUMENTS").expect("those of the exporter");
        let cli = Cli::parse_from(std::iter::once("exporter").chain(arguments.lines()));
        let done = start::run(cli.start, &cli.log);
        assert!(done.is_ok());
    }

    #[test]
    fn flags_are_consistent_and_each_command_shows_its_own() {
        Cli::command().debug_assert();
        let mut cli = Cli::command();
        for (name, has, has_not) in [
            ("check", "--state.dir", "--log.level"),
            ("replay", "--rules.dir", "--web.listen-address"),
            ("explain", "--format", "--state.dir"),
            ("suggest", "--write", "--log.file"),
            ("demo", "--web.listen-address", "--state.dir"),
            ("completions", "fish", "--config.file"),
        ] {
            let command = cli.find_subcommand_mut(name).expect("a command");
            let help = command.render_long_help().to_string();
            assert!(help.contains(has), "{name}: {has}\n{help}");
            assert!(!help.contains(has_not), "{name}: {has_not}\n{help}");
            let examples = help.matches("\n  appliance_log_exporter ").count()
                + help.matches("| appliance_log_exporter ").count();
            assert_eq!(examples, 2, "{help}");
        }
    }

    #[test]
    fn a_word_that_is_no_command_gets_a_hint() {
        for (arguments, hint) in [
            (
                &["--log.file", "a.log", "b.log"][..],
                "the shell expands a glob that is not quoted: write --log.file '*.log', with the quotes",
            ),
            (
                &["--config.file", "c.yaml", "check"],
                "flags go behind the command: `check --flag`",
            ),
            (
                &["Cargo.toml"],
                "to read a file once: `replay Cargo.toml`; to follow it: `--log.file Cargo.toml`",
            ),
            (
                &["run"],
                "without a command the exporter follows the files of --log.file or --config.file",
            ),
        ] {
            let arguments = || {
                std::iter::once(&"exporter")
                    .chain(arguments)
                    .map(OsString::from)
            };
            let error = Cli::try_parse_from(arguments()).expect_err("no such command");
            assert_eq!(
                intended(&error, arguments()).as_deref(),
                Some(hint),
                "{error}"
            );
        }
    }
}
