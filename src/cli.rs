//! Flags and commands, spelled as Prometheus' exporters spell them.
//!
//! Exit codes: 0 done, 1 something is wrong with the world (a port in use, a fault that `check` found), 2 something is
//! wrong with flags, settings or rules.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::LevelFilter;

use crate::config::{self, Config};
use crate::diagnostic::Diagnostic;
use crate::engine::{Core, Engine, EventTime, Origin, Repeats};
use crate::exposition::{self, Format};
use crate::line::{Line, LineBuffer};
use crate::record::Clock;
use crate::rules::{self, RuleSet, Settings};
use crate::server::{self, WebConfig};
use crate::{check, demo, explain, logfmt, run};

/// Prometheus exporter for security appliances that can only be watched through their logs: Thales Luna HSMs, Juniper
/// KMD, Clavister IPsec, NetApp ONTAP kTLS. Without a command it follows the files and serves /metrics.
#[derive(Debug, Parser)]
#[command(name = "appliance_log_exporter", version, args_override_self = true)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Flags {
    /// Configuration file (YAML); every setting has a default.
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,
    /// Files to follow, a path or glob (repeatable); enough without a configuration file.
    #[arg(long = "log.file", value_name = "GLOB", global = true)]
    log_file: Vec<String>,
    /// Directory of rule packs that come before the built-in ones (repeatable).
    #[arg(long = "rules.dir", value_name = "DIR", global = true)]
    rules_dir: Vec<PathBuf>,
    /// Directory that keeps positions and values over a restart.
    #[arg(long = "state.dir", value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Address to serve on (repeatable).
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = ":10067",
        global = true
    )]
    pub(crate) listen_address: Vec<String>,
    /// Take the sockets that systemd hands over instead of opening any.
    #[arg(long = "web.systemd-socket", global = true)]
    pub(crate) systemd_socket: bool,
    /// TLS, passwords and headers, as the exporter toolkit's web configuration file says them.
    #[arg(long = "web.config.file", value_name = "FILE", global = true)]
    pub(crate) web_config_file: Option<PathBuf>,
    /// Answer `POST /-/reload` and `POST /-/forget`. They are answered without this flag where the web configuration asks
    /// for a password.
    #[arg(long = "web.enable-lifecycle", global = true)]
    pub(crate) enable_lifecycle: bool,
    /// Path of the metrics.
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics",
        global = true
    )]
    pub(crate) telemetry_path: String,
    /// What tells that a file has changed; the truth is looked up in any case.
    #[arg(long = "tail.watcher", value_name = "WATCHER", global = true)]
    watcher: Option<WatcherWord>,
    /// Least severe level of the exporter's own log.
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        default_value = "info",
        global = true
    )]
    log_level: LevelWord,
    /// Format of the exporter's own log.
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        default_value = "logfmt",
        global = true
    )]
    log_format: FormatWord,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WatcherWord {
    Inotify,
    Linemux,
    Poll,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelWord {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatWord {
    Logfmt,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExplainFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check settings, rules and the rules' examples.
    Check {
        /// Instead, list the lines of this log that no rule recognises, folded and counted (`-` for standard input).
        #[arg(long, value_name = "FILE")]
        coverage: Option<PathBuf>,
    },
    /// Read logs to their end as fast as possible and print the metrics.
    Replay {
        /// Files, or `-` for standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Say for every line what it means: header, rule, captures, updates.
    Explain {
        /// A file; standard input if there is none.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// For a person or for a program.
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: ExplainFormat,
    },
    /// Print draft rules for the lines of a log that no rule recognises.
    Suggest {
        /// A file, or `-` for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Write a realistic stream of sample logs to a temporary directory, and serve it.
    Demo,
}

/// Why a command ends.
enum Failure {
    /// Flags, settings or rules are wrong.
    Settings(Vec<Diagnostic>),
    /// A single message about them.
    Usage(String),
    /// Something else, which is nobody's typing.
    World(String),
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let flags = cli.flags;
    let done = match cli.command {
        None => run(&flags),
        Some(Command::Demo) => demo(&flags),
        Some(Command::Check { coverage: None }) => check(&flags),
        Some(Command::Check {
            coverage: Some(file),
        }) => coverage(&flags, &file),
        Some(Command::Replay { files }) => replay(&flags, &files),
        Some(Command::Explain { file, format }) => explain(&flags, file.as_deref(), format),
        Some(Command::Suggest { file }) => suggest(&flags, &file),
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
        Err(Failure::World(message)) => {
            // A reader that has had enough is no error.
            if message == BROKEN_PIPE {
                return ExitCode::SUCCESS;
            }
            complain(format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// How long the end waits for the log to be written.
const LOG_FLUSH_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// To standard error. If nobody takes it, the exit code still tells.
fn complain(what: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

const BROKEN_PIPE: &str = "broken pipe";

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::World(BROKEN_PIPE.to_owned()),
            _ => Failure::World(error.to_string()),
        }
    }
}

impl Flags {
    /// The configuration file with the flags folded in.
    ///
    /// # Errors
    /// What is wrong with the file, or with a glob of a flag.
    pub(crate) fn settings(&self) -> Result<Config, Vec<Diagnostic>> {
        let mut config = match &self.config_file {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        if !self.log_file.is_empty() {
            let current = std::env::current_dir().unwrap_or_default();
            let paths = self.log_file.iter().map(|path| match path.as_str() {
                "-" => path.clone(),
                relative => current.join(relative).display().to_string(),
            });
            config
                .sources
                .push(config::Source::of_flag(paths.collect()));
        }
        config
            .rule_directories
            .extend(self.rules_dir.iter().cloned());
        if let Some(directory) = &self.state_dir {
            config.state.directory = Some(directory.clone());
        }
        match self.watcher {
            Some(WatcherWord::Inotify) => config.tail.watcher = config::Watcher::Inotify,
            Some(WatcherWord::Linemux) => config.tail.watcher = config::Watcher::Linemux,
            Some(WatcherWord::Poll) => config.tail.watcher = config::Watcher::Poll,
            None => {}
        }
        Ok(config)
    }

    fn log(&self) {
        let level = match self.log_level {
            LevelWord::Debug => LevelFilter::DEBUG,
            LevelWord::Info => LevelFilter::INFO,
            LevelWord::Warn => LevelFilter::WARN,
            LevelWord::Error => LevelFilter::ERROR,
        };
        let format = match self.log_format {
            FormatWord::Logfmt => logfmt::Format::Logfmt,
            FormatWord::Json => logfmt::Format::Json,
        };
        let stderr = logfmt::Stderr::start();
        let subscriber = logfmt::subscriber(level, format, move || stderr.clone());
        // Only a second call could fail, and there is none.
        let _ = tracing::subscriber::set_global_default(subscriber);
        // The standard hook would wait for whoever reads standard error.
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(%panic, "a fault of the exporter");
            logfmt::flush(LOG_FLUSH_MAX);
        }));
    }
}

/// The rules that a configuration asks for.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn rule_set(config: &Config) -> Result<Arc<RuleSet>, Vec<Diagnostic>> {
    let settings = Settings {
        remote_address: config.labels.remote_address,
    };
    rules::load_to_run(&config.rule_directories, settings).map(Arc::new)
}

fn engine(flags: &Flags) -> Result<(Engine, Config), Failure> {
    let config = flags.settings().map_err(Failure::Settings)?;
    let rules = rule_set(&config).map_err(Failure::Settings)?;
    let limits = config.limits.table;
    let core = Core::new(rules, limits, &config.appliances).map_err(Failure::Usage)?;
    Ok((Engine::new(Arc::new(core)), config))
}

/// Lines read now, from no source in particular: the relays of all of them count.
fn now(config: &Config) -> Origin {
    let mut origin = Origin::new(Clock {
        zone: jiff::tz::TimeZone::system(),
        now: jiff::Timestamp::now(),
    });
    origin.event_time = EventTime::Record;
    origin.relays = (config.sources.iter())
        .flat_map(|source| source.relays.clone())
        .collect();
    origin
}

fn check(flags: &Flags) -> Result<ExitCode, Failure> {
    let config = flags.settings().map_err(Failure::Settings)?;
    // Examples are written for the defaults; a setting adds labels to what they show.
    let defaults = || rules::load(&config.rule_directories, Settings::default()).map(Arc::new);
    let faults = match rule_set(&config).and_then(|_| defaults()) {
        Ok(rules) => {
            let faults = check::check(&rules).map_err(Failure::Usage)?;
            if faults.is_empty() {
                let examples: usize = rules.rules.iter().map(|rule| rule.examples.len()).sum();
                writeln!(
                    io::stdout(),
                    "{} packs, {} rules, {} metrics, {examples} examples: all right",
                    rules.packs.len(),
                    rules.rules.len(),
                    rules.metrics.len(),
                )?;
                return Ok(ExitCode::SUCCESS);
            }
            faults
        }
        Err(faults) => faults,
    };
    for fault in &faults {
        writeln!(io::stdout(), "{fault}")?;
    }
    writeln!(io::stdout(), "{} faults", faults.len())?;
    Ok(ExitCode::FAILURE)
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    match File::open(path).and_then(|file| {
        if file.metadata()?.is_dir() {
            return Err(io::Error::other("is a directory"));
        }
        Ok(file)
    }) {
        Ok(file) if path.extension().is_some_and(|extension| extension == "gz") => {
            Ok(Box::new(flate2::read::MultiGzDecoder::new(file)))
        }
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failure::World(format!("{}: {error}", path.display()))),
    }
}

/// Reads a whole file in large pieces, line by line.
fn each_line(path: &Path, line_bytes: usize, mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
    let mut input = open(path)?;
    let mut lines = LineBuffer::new(line_bytes);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::World(format!("{}: {error}", path.display()))),
        };
        lines.push(&buffer[..count], |line| each(line.bytes));
    }
    lines.finish(|line| each(line.bytes));
    Ok(())
}

fn replay(flags: &Flags, files: &[PathBuf]) -> Result<ExitCode, Failure> {
    let (mut engine, config) = engine(flags)?;
    let mut origin = now(&config);
    let seconds = u32::try_from(origin.clock.now.as_second()).unwrap_or(0);
    for file in files {
        // As the exporter does it, what is repeated belongs to the file.
        let mut repeats = Repeats::default();
        let mut batch = engine.batch(seconds, Some(&mut repeats));
        each_line(file, config.limits.line_bytes, |line| {
            batch.line(&mut origin, line)
        })?;
    }
    let text = exposition::encode(engine.core().table().snapshot(), Format::Classic);
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn explain(flags: &Flags, file: Option<&Path>, format: ExplainFormat) -> Result<ExitCode, Failure> {
    let (mut engine, config) = engine(flags)?;
    let mut origin = now(&config);
    let mut out = io::stdout().lock();
    let rules = engine.core().rules().clone();
    let mut repeats = Repeats::default();
    let mut one = |line: &[u8], out: &mut dyn Write| -> io::Result<()> {
        for told in explain::explain(&mut engine, &mut origin, &mut repeats, line) {
            match format {
                ExplainFormat::Json => writeln!(out, "{}", told.to_json())?,
                ExplainFormat::Text => {
                    writeln!(out, "{}", String::from_utf8_lossy(line))?;
                    writeln!(out, "{}", told.to_text(&rules))?;
                }
            }
        }
        Ok(())
    };
    let file = file.unwrap_or(Path::new("-"));
    if file == Path::new("-") && io::stdin().is_terminal() {
        complain("paste log lines, end with Ctrl-D");
    }
    let mut input = open(file)?;
    let mut lines = LineBuffer::new(config.limits.line_bytes);
    let mut buffer = vec![0; 64 << 10];
    let mut written = Ok(());
    loop {
        // What a terminal or a pipe has so far, so that one can type.
        let count = match input.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let mut each = |line: Line<'_>| {
            if written.is_ok() {
                written = one(line.bytes, &mut out);
            }
        };
        match count {
            0 => lines.finish(each),
            count => lines.push(&buffer[..count], &mut each),
        }
        std::mem::replace(&mut written, Ok(()))?;
        out.flush()?;
        if count == 0 {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn coverage(flags: &Flags, file: &Path) -> Result<ExitCode, Failure> {
    let (mut engine, config) = engine(flags)?;
    let found = crate::coverage::read(&mut engine, &mut now(&config), |each| {
        each_line(file, config.limits.line_bytes, each)
    })?;
    io::stdout().write_all(found.report().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn suggest(flags: &Flags, file: &Path) -> Result<ExitCode, Failure> {
    let (mut engine, config) = engine(flags)?;
    let found = crate::coverage::read(&mut engine, &mut now(&config), |each| {
        each_line(file, config.limits.line_bytes, each)
    })?;
    io::stdout().write_all(found.drafts().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn run(flags: &Flags) -> Result<ExitCode, Failure> {
    flags.log();
    let (listeners, options, web) = serving(flags)?;
    let flags = flags.clone();
    let load = move || {
        let config = flags.settings()?;
        if config.sources.is_empty() {
            return Err(vec![Diagnostic::bare(
                "there is nothing to follow",
                "give --log.file GLOB or --config.file FILE",
            )]);
        }
        load(config)
    };
    served(run::run(
        Box::new(load),
        run::Serving { listeners, options },
        web,
    ))
}

fn demo(flags: &Flags) -> Result<ExitCode, Failure> {
    flags.log();
    let (listeners, options, web) = serving(flags)?;
    let demo = demo::Demo::start()
        .map_err(|error| Failure::World(format!("the demo cannot write logs: {error}")))?;
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            let scheme = if web.is_some() { "https" } else { "http" };
            let mut out = io::stdout();
            let (port, path) = (address.port(), &flags.telemetry_path);
            writeln!(out, "demo: logs in {}", demo.directory().display())?;
            writeln!(out, "demo: status page {scheme}://localhost:{port}/")?;
            writeln!(out, "demo: metrics     {scheme}://localhost:{port}{path}")?;
            writeln!(out, "demo: Ctrl-C ends it and removes the logs")?;
        }
    }
    let flags = flags.clone();
    let sources = demo.sources();
    let load = move || {
        let mut config = flags.settings()?;
        config.sources.extend(sources.iter().cloned());
        load(config)
    };
    served(run::run(
        Box::new(load),
        run::Serving { listeners, options },
        web,
    ))
}

fn load(config: Config) -> Result<(Config, Core), Vec<Diagnostic>> {
    let rules = rule_set(&config)?;
    for source in &config.sources {
        let Some(profile) = &source.profile else {
            continue;
        };
        let mut profiles = rules.packs.iter().flat_map(|pack| &pack.profiles);
        if !profiles.any(|known| **known == **profile) {
            let known: std::collections::BTreeSet<&str> = rules
                .packs
                .iter()
                .flat_map(|pack| &pack.profiles)
                .map(|profile| &**profile)
                .collect();
            let known: Vec<&str> = known.into_iter().collect();
            return Err(vec![Diagnostic::bare(
                &format!(
                    "source `{}`: no rule pack belongs to the profile `{profile}`",
                    source.name
                ),
                &format!("profiles: {}", known.join(", ")),
            )]);
        }
    }
    let core = Core::new(rules, config.limits.table, &config.appliances)
        .map_err(|message| vec![Diagnostic::bare(&message, "make the rule smaller")])?;
    Ok((config, core))
}

type ServingParts = (
    Vec<std::net::TcpListener>,
    server::Options,
    Option<WebConfig>,
);

fn serving(flags: &Flags) -> Result<ServingParts, Failure> {
    if !flags.telemetry_path.starts_with('/') || flags.telemetry_path == "/" {
        return Err(Failure::Usage(format!(
            "--web.telemetry-path: `{}` must begin with a slash and be more than one",
            flags.telemetry_path
        )));
    }
    let web = match &flags.web_config_file {
        Some(file) => Some(WebConfig::load(file).map_err(Failure::Settings)?),
        None => None,
    };
    let listeners = match flags.systemd_socket {
        true => server::systemd_listeners(),
        false => server::bind(&flags.listen_address),
    };
    let listeners = listeners.map_err(|error| match error.is_nonsense() {
        true => Failure::Usage(error.to_string()),
        false => Failure::World(error.to_string()),
    })?;
    let options = server::Options {
        telemetry_path: flags.telemetry_path.clone(),
        enable_lifecycle: flags.enable_lifecycle,
        ..server::Options::default()
    };
    Ok((listeners, options, web))
}

fn served(outcome: Result<(), run::Failure>) -> Result<ExitCode, Failure> {
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(run::Failure::Settings(faults)) => Err(Failure::Settings(faults)),
        Err(run::Failure::Other(message)) => Err(Failure::World(message)),
    }
}
