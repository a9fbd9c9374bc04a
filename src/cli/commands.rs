//! The commands that read rules or lines and print something.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::CommandFactory as _;

use super::start::{Matched, matched, rule_set};
use super::terminal::{Measured, green, progress, red};
use super::{Cli, Failure, LineFlags, Output, RuleFlags, StartFlags, complain, topics};
use crate::config::{ApplianceFrom, Config, Source, unknown_system_zone};
use crate::coverage::{self, Coverage};
use crate::diagnostic::{Diagnostic, printable};
use crate::engine::{Engine, EventTime, Repeats, StreamContext, Worker};
use crate::exposition::{self, Format};
use crate::line::{Line, LineBuffer};
use crate::record::Clock;
use crate::rules::{self, RuleSet, Settings};
use crate::tail::compression::{self, MAGIC_BYTES};
use crate::tail::{CompressedAs, Pattern};
use crate::{check, client, explain};

/// Files of a pattern that `check` lists in its text output.
const LISTED_MAX: usize = 10;

fn worker(flags: &RuleFlags) -> Result<(Worker, Config), Failure> {
    let mut faults = Vec::new();
    let config = flags.config(&mut faults);
    let rules = rule_set(&config).map_err(|more| faults.extend(more));
    let (Ok(rules), true) = (rules, faults.is_empty()) else {
        return Err(Failure::Settings(faults));
    };
    let engine =
        Engine::new(rules, config.limits.table, &config.appliances).map_err(Failure::Usage)?;
    Ok((Worker::new(Arc::new(engine)), config))
}

/// Lines read now, from no source in particular: the relays of all of them count.
fn now(config: &Config) -> StreamContext {
    let mut origin = StreamContext::new(Clock {
        zone: jiff::tz::TimeZone::system(),
        now: jiff::Timestamp::now(),
    });
    origin.event_time = EventTime::Record;
    origin.relays = (config.sources.iter())
        .flat_map(|source| source.relays.clone())
        .collect();
    origin
}

/// Lines read now, as those of the source that was named, if one was. The appliance may stand in the file's path.
fn context(
    config: &Config,
    source: Option<&str>,
    file: Option<&Path>,
) -> Result<StreamContext, Failure> {
    let mut origin = now(config);
    let Some(name) = source else {
        return Ok(origin);
    };
    let Some(source) = config.sources.iter().find(|source| source.name == name) else {
        let names: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
        return Err(Failure::Usage(format!(
            "--source {name}: there is no such source\n  hint: there are: {}",
            names.join(", ")
        )));
    };
    let in_path = file.and_then(|file| appliance_in_path(source, file));
    origin.clock.zone = source.time_zone.clone();
    origin.profile.clone_from(&source.profile);
    origin.relays.clone_from(&source.relays);
    match &source.appliance {
        ApplianceFrom::Header => origin.fallback = in_path,
        ApplianceFrom::Path => origin.appliance = in_path,
        // A line alone has no key.
        ApplianceFrom::Key => {}
        ApplianceFrom::Fixed(name) => origin.appliance = Some(name.clone()),
    }
    Ok(origin)
}

fn appliance_in_path(source: &Source, file: &Path) -> Option<String> {
    let path = std::path::absolute(file).ok()?;
    let patterns = (source.paths().iter()).filter_map(|text| Pattern::parse(text).ok());
    let captures = patterns
        .filter_map(|pattern| pattern.matches(&path))
        .next()?;
    let mut named = captures.into_iter();
    named
        .find(|(name, _)| &**name == "appliance")
        .map(|(_, value)| value)
}

/// Has an exporter that runs forget an appliance.
pub(super) fn forget(url: &str, appliance: &str) -> Result<ExitCode, Failure> {
    match client::forget(url, appliance) {
        Ok(text) => {
            io::stdout().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (client::RequestError::Url | client::RequestError::Tls)) => {
            Err(Failure::Usage(format!("--url {url}: {error}")))
        }
        Err(error) => Err(Failure::System(format!("{url}: {error}"))),
    }
}

/// What `check` found.
#[derive(Default, serde::Serialize)]
struct Findings {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    sources: Vec<Matched>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<topics::Asked>,
    packs: usize,
    rules: usize,
    metrics: usize,
    examples: usize,
}

/// Plans a start without beginning it, and runs the rules' examples.
pub(super) fn check(
    flags: &StartFlags,
    asks_brokers: bool,
    output: Output,
) -> Result<ExitCode, Failure> {
    let mut found = Findings::default();
    let plan = flags.plan(&[], &mut found.errors);
    let config = match plan {
        Some(plan) => plan.load.config,
        None => flags.config(&[], &mut Vec::new()),
    };
    if asks_brokers {
        found.topics = topics::ask(&config, &mut found.errors, &mut found.warnings);
    }
    found.warnings.extend(unknown_system_zone());
    found.sources = matched(&config, &mut found.warnings);
    found
        .warnings
        .extend(rules::overlooked(&config.rule_directories));
    // Examples are written for the defaults; a setting adds labels to what they show. Faults of the rules themselves were
    // found by the plan.
    if let Ok(rules) = rules::load(&config.rule_directories, Settings::default()).map(Arc::new) {
        found
            .errors
            .extend(check::check(&rules).map_err(Failure::Usage)?);
        found.count(&rules);
    }
    found.print(output)?;
    Ok(match found.errors.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

impl Findings {
    fn count(&mut self, rules: &RuleSet) {
        self.warnings.extend(rules.warnings.iter().cloned());
        self.packs = rules.packs.len();
        self.rules = rules.rules.len();
        self.metrics = rules.metrics.len();
        self.examples = rules.rules.iter().map(|rule| rule.examples.len()).sum();
    }

    fn print(&self, output: Output) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        if output == Output::Json {
            let text = serde_json::to_string_pretty(self)
                .map_err(|error| Failure::System(error.to_string()))?;
            return Ok(writeln!(out, "{text}")?);
        }
        for fault in &self.errors {
            writeln!(out, "{fault}")?;
        }
        for warning in &self.warnings {
            writeln!(
                out,
                "warning: {}",
                warning.to_string().trim_start_matches("error: ")
            )?;
        }
        for matched in &self.sources {
            let Matched {
                source,
                listen,
                topic,
                patterns,
            } = matched;
            if let Some(topic) = topic {
                writeln!(out, "source {source}: reads the topic {topic}")?;
            }
            if !listen.is_empty() {
                writeln!(out, "source {source}: listens on {}", listen.join(", "))?;
                continue;
            }
            let files: usize = patterns.iter().map(|(_, files)| files.len()).sum();
            writeln!(out, "source {source}: {}", counted(files, "file"))?;
            for (_, files) in patterns {
                for file in files.iter().take(LISTED_MAX) {
                    writeln!(out, "  {}", printable(&file.display().to_string()))?;
                }
                if files.len() > LISTED_MAX {
                    writeln!(out, "  and {} more", files.len() - LISTED_MAX)?;
                }
            }
        }
        for topic in &self.topics {
            writeln!(out, "{topic}")?;
        }
        if self.errors.is_empty() {
            writeln!(
                out,
                "{} packs, {} rules, {} metrics, {} examples: {}",
                self.packs,
                self.rules,
                self.metrics,
                self.examples,
                green("all right")
            )?;
        } else {
            writeln!(out, "{}", red(&counted(self.errors.len(), "error")))?;
        }
        Ok(())
    }
}

/// `1 file`, `2 files`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(Measured(io::stdin().lock(), progress(None))));
    }
    let failed = |error: io::Error| Failure::System(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::Error::other("is a directory")));
    }
    if let Some(form) = CompressedAs::of_file(path) {
        return Err(Failure::System(format!(
            "{}: {form}\n  hint: decompress it into `-`, standard input",
            path.display()
        )));
    }
    let is_gzip = path.extension().is_some_and(|ending| ending == "gz")
        || compression::is_gzip(compression::first_bytes(&file, &mut [0; MAGIC_BYTES]));
    let file = Measured(file, progress(Some(&metadata)));
    if is_gzip {
        return Ok(Box::new(flate2::read::MultiGzDecoder::new(file)));
    }
    Ok(Box::new(file))
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
            Err(error) => return Err(Failure::System(format!("{}: {error}", path.display()))),
        };
        lines.push(&buffer[..count], |line| each(line.bytes));
    }
    lines.finish(|line| each(line.bytes));
    Ok(())
}

pub(super) fn replay(flags: &LineFlags, files: &[PathBuf]) -> Result<ExitCode, Failure> {
    let (mut worker, config) = worker(&flags.rules)?;
    for file in files {
        let mut origin = context(&config, flags.source.as_deref(), Some(file))?;
        let seconds = u32::try_from(origin.clock.now.as_second()).unwrap_or(0);
        // As the exporter does it, what is repeated belongs to the file.
        let mut repeats = Repeats::default();
        let mut batch = worker.batch(seconds, Some(&mut repeats));
        each_line(file, config.limits.line_bytes, |line| {
            batch.line(&mut origin, line)
        })?;
    }
    let text = exposition::encode(worker.engine().table().snapshot(), Format::Classic);
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What `explain` was given.
#[derive(Debug, PartialEq)]
enum Input<'a> {
    File(&'a Path),
    Line(&'a [u8]),
}

/// A log line has blanks in it and is the name of no file.
fn input(given: &OsStr) -> Input<'_> {
    let path = Path::new(given);
    let bytes = given.as_encoded_bytes();
    match bytes.contains(&b' ') && !path.exists() {
        true => Input::Line(bytes),
        false => Input::File(path),
    }
}

pub(super) fn explain(
    flags: &LineFlags,
    given: Option<&OsStr>,
    output: Output,
) -> Result<ExitCode, Failure> {
    let (mut worker, config) = worker(&flags.rules)?;
    let given = input(given.unwrap_or(OsStr::new("-")));
    let file = match given {
        Input::File(file) => Some(file),
        Input::Line(_) => None,
    };
    let mut origin = context(&config, flags.source.as_deref(), file)?;
    let mut repeats = Repeats::default();
    let mut out = anstream::stdout().lock();
    let rules = worker.engine().rules().clone();
    let mut one = |line: &[u8], out: &mut dyn Write| -> io::Result<()> {
        for explained in explain::explain(&mut worker, &mut origin, &mut repeats, line) {
            if output == Output::Json {
                writeln!(out, "{}", explained.to_json())?;
                continue;
            }
            writeln!(out, "{}", printable(&String::from_utf8_lossy(line)))?;
            for text in explained.to_text(&rules).lines() {
                let text = printable(text);
                let shown = match text.trim_start().split_once(' ') {
                    Some(("rule", rest)) if rest.trim() == "none" => red(&text),
                    Some(("rule", _)) => green(&text),
                    _ => text.into_owned(),
                };
                writeln!(out, "{shown}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    };
    let file = match given {
        Input::Line(line) => {
            one(line, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        Input::File(file) => file,
    };
    let mut input: Box<dyn Read> = if file == Path::new("-") {
        if io::stdin().is_terminal() {
            complain("paste log lines, end with Ctrl-D");
        }
        Box::new(io::stdin().lock())
    } else {
        open(file)?
    };
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

fn read(flags: &RuleFlags, file: &Path) -> Result<(Coverage, Config), Failure> {
    let (mut worker, config) = worker(flags)?;
    let found = coverage::read(&mut worker, &mut now(&config), |each| {
        each_line(file, config.limits.line_bytes, each)
    })?;
    Ok((found, config))
}

pub(super) fn coverage(
    flags: &RuleFlags,
    file: &Path,
    fail_under: Option<f64>,
    output: Output,
) -> Result<ExitCode, Failure> {
    let (found, _) = read(flags, file)?;
    let report = match output {
        Output::Text => found.report(),
        Output::Json => format!("{:#}\n", found.json()),
    };
    io::stdout().write_all(report.as_bytes())?;
    Ok(match fail_under {
        Some(percent) if found.percent() < percent => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

pub(super) fn suggest(
    flags: &RuleFlags,
    file: &Path,
    pack: &str,
    write: bool,
) -> Result<ExitCode, Failure> {
    // A directory for the first rules is made when they are written.
    let mut read_from = flags.clone();
    let is_there = |directory: &PathBuf| !write || directory.exists();
    read_from.rules_dir.retain(is_there);
    let (found, config) = read(&read_from, file)?;
    let drafts = found.drafts();
    if drafts.is_empty() {
        complain(format!("nothing to suggest: {}", found.report().trim_end()));
        return Ok(ExitCode::SUCCESS);
    }
    if !write {
        io::stdout().write_all(drafts.pack(pack).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut directories = flags.rules_dir.iter().chain(&config.rule_directories);
    let Some(directory) = directories.next() else {
        return Err(Failure::Usage(
            "--write needs to know where: give --rules.dir DIR".into(),
        ));
    };
    let written = drafts
        .write(directory, pack)
        .map_err(|fault| Failure::Settings(vec![fault]))?;
    writeln!(
        io::stdout(),
        "{}: {} added; edit them, then run `appliance_log_exporter check --rules.dir {}`",
        written.display(),
        counted(drafts.len(), "rule"),
        directory.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut Cli::command(),
        "appliance_log_exporter",
        &mut script,
    );
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_from_a_file() {
        for (given, expected) in [
            ("-", Input::File(Path::new("-"))),
            ("Cargo.toml", Input::File(Path::new("Cargo.toml"))),
            ("lunalog.typo", Input::File(Path::new("lunalog.typo"))),
            ("hsm1 sshd[7]: hello", Input::Line(b"hsm1 sshd[7]: hello")),
        ] {
            assert_eq!(input(OsStr::new(given)), expected, "{given}");
        }
    }

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!(counted(0, "error"), "0 errors");
        assert_eq!(counted(1, "error"), "1 error");
    }
}
