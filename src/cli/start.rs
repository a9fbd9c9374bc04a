//! What a start needs: read and checked as a whole before anything is opened, created or bound. `check` makes the same
//! plan and goes no further, so it finds what a start would.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Failure, LOG_FLUSH_MAX, LogFlags, RuleFlags, StartFlags, SyslogFlags, WebFlags, topics,
};
use crate::config::{
    ApplianceFrom, Config, ListenAddress, ListenSocket, Source, Syslog, Tls, Transport,
    unknown_system_zone,
};
use crate::diagnostic::{Diagnostic, nearest};
use crate::engine::Engine;
use crate::passed::Passed;
use crate::rules::{self, RuleSet, Settings};
use crate::server::{self, WebConfig};
use crate::tail::CompressedAs;
use crate::{followed, logfmt, run, state, syslog};

/// Rule packs of this machine, used where no directory is named.
const RULES_DIRECTORY: &str = "/etc/appliance_log_exporter/rules";

impl RuleFlags {
    /// The configuration file with these flags folded in.
    pub(super) fn config(&self, faults: &mut Vec<Diagnostic>) -> Config {
        let mut config = match &self.config_file {
            Some(file) => Config::load(file, faults),
            None => Config::default(),
        };
        config
            .rule_directories
            .extend(self.rules_dir.iter().cloned());
        let default = PathBuf::from(RULES_DIRECTORY);
        if config.rule_directories.is_empty() && default.is_dir() {
            config.rule_directories.push(default);
        }
        config
    }
}

impl LogFlags {
    pub(super) fn begin(&self) {
        let stderr = logfmt::Stderr::start();
        let subscriber =
            logfmt::subscriber(self.log_level, self.log_format, move || stderr.clone());
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
pub(super) fn rule_set(config: &Config) -> Result<Arc<RuleSet>, Vec<Diagnostic>> {
    let settings = Settings {
        remote_address: config.labels.remote_address,
    };
    rules::load_to_run(&config.rule_directories, settings).map(Arc::new)
}

/// What a start needs.
pub(super) struct Plan {
    pub(super) load: run::Loaded,
    web: Option<WebConfig>,
    prefixes: Prefixes,
}

/// What paths begin with: empty, or `/PATH` without a slash at its end.
struct Prefixes {
    route: String,
    /// The same as clients see it, who may talk to a reverse proxy.
    external: String,
}

impl StartFlags {
    /// The configuration with all flags folded in, and `more` sources.
    pub(super) fn config(&self, more: &[Source], faults: &mut Vec<Diagnostic>) -> Config {
        let mut config = self.rules.config(faults);
        if !self.log_file.is_empty() {
            let current = std::env::current_dir().unwrap_or_default();
            let paths = self.log_file.iter().map(|path| match path.as_str() {
                "-" => path.clone(),
                relative => current.join(relative).display().to_string(),
            });
            config.sources.push(Source::of_flag(paths.collect()));
        }
        if let Some(syslog) = self.syslog.settings(faults) {
            config.sources.push(Source::of_syslog_flags(syslog));
        }
        config.sources.extend_from_slice(more);
        if let Some(directory) = &self.state_dir {
            config.state.directory = Some(directory.clone());
        }
        if let Some(watcher) = self.watcher {
            config.tail.watcher = watcher;
        }
        if let Some(replica) = self.shard {
            config.replica = replica;
        }
        config
    }

    /// Everything that a start needs; what is wrong goes into `faults`, and there is no plan then.
    pub(super) fn plan(&self, more: &[Source], faults: &mut Vec<Diagnostic>) -> Option<Plan> {
        let before = faults.len();
        let config = self.config(more, faults);
        sources(&config, faults);
        topics::check(&config, self.shard.is_some(), faults);
        if config.sources.is_empty() && self.rules.config_file.is_some() && faults.len() == before {
            faults.push(Diagnostic::bare(
                "there is nothing to follow",
                "name `sources` in the configuration file, or give --log.file GLOB or --syslog.listen ADDRESS",
            ));
        }
        if let Some(directory) = &config.state.directory
            && let Err(error) = state::check(directory)
        {
            faults.push(Diagnostic::bare(&error.to_string(), &error.hint()));
        }
        let syslog = syslog::Settings::load(&config)
            .map_err(|more| faults.extend(more))
            .ok();
        let web = self.web.check(faults);
        let prefixes = (self.web.prefixes())
            .map_err(|fault| faults.push(fault))
            .ok();
        let engine = match rule_set(&config) {
            Ok(rules) => {
                profiles(&config, &rules, faults);
                Engine::new(rules, config.limits.table, &config.appliances)
                    .map_err(|message| {
                        faults.push(Diagnostic::bare(&message, "make the rule smaller"));
                    })
                    .ok()
            }
            Err(mut more) => {
                more.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
                faults.extend(more);
                None
            }
        };
        // Two checks may look at one place; the first says more.
        let mut seen = std::collections::HashSet::new();
        faults.retain(|fault| {
            fault.line == 0 || seen.insert((fault.file.clone(), fault.line, fault.column))
        });
        (faults.len() == before).then_some(Plan {
            load: run::Loaded {
                config,
                engine: engine?,
                syslog: syslog?,
            },
            web,
            prefixes: prefixes?,
        })
    }
}

impl SyslogFlags {
    /// What the flags ask to listen on; nothing if they do not.
    fn settings(&self, faults: &mut Vec<Diagnostic>) -> Option<Syslog> {
        let before = faults.len();
        let mut listen = Vec::new();
        let mut fault = |text: &str, message: &str, hint: Option<&str>| {
            let hint = hint.map(str::to_owned);
            let mut fault = Diagnostic::of_flag("--syslog.listen", message, hint);
            fault.text = text.to_owned();
            faults.push(fault);
        };
        for text in &self.listen {
            match text.parse::<ListenAddress>() {
                Ok(address) => listen.push(address),
                Err(message) => fault(text, message, None),
            }
        }
        let tls = self.tls_cert_file.clone().zip(self.tls_key_file.clone());
        let tls = tls.map(|(cert_file, key_file)| Tls {
            cert_file,
            key_file,
            client_ca_file: self.tls_client_ca_file.clone(),
            client_crl_file: None,
        });
        let encrypted = (listen.iter()).find(|address| address.transport == Transport::Tls);
        match (encrypted, &tls) {
            (Some(address), None) => fault(
                &address.to_string(),
                "tls:// needs a certificate",
                Some("give --syslog.tls-cert-file FILE and --syslog.tls-key-file FILE"),
            ),
            (None, Some(_)) => fault(
                "",
                "a certificate is given, but nothing listens by tls://",
                None,
            ),
            _ => {}
        }
        (faults.len() == before && !listen.is_empty()).then(|| Syslog::of_flags(listen, tls))
    }
}

impl WebFlags {
    /// The web configuration, if there is one. Nothing is bound and no name is looked up.
    fn check(&self, faults: &mut Vec<Diagnostic>) -> Option<WebConfig> {
        let path = self.telemetry_path.as_str();
        let mut fault = |message: &str, hint: &str| {
            let mut fault =
                Diagnostic::of_flag("--web.telemetry-path", message, Some(hint.to_owned()));
            fault.text = path.to_owned();
            faults.push(fault);
        };
        if !path.starts_with('/') {
            fault("must start with /", "for instance /metrics");
        } else if path == "/" {
            fault(
                "must not be / itself, where the status page is",
                "for instance /metrics",
            );
        } else if server::is_reserved(path) {
            fault("this path has another meaning", "for instance /metrics");
        }
        for address in &self.listen_address {
            if let Err(error) = server::check_address(address) {
                let mut fault = Diagnostic::of_flag("--web.listen-address", &error, None);
                fault.text.clone_from(address);
                faults.push(fault);
            }
        }
        let file = self.web_config_file.as_ref()?;
        WebConfig::load(file)
            .map_err(|more| faults.extend(more))
            .ok()
    }

    fn prefixes(&self) -> Result<Prefixes, Diagnostic> {
        let fault = |flag, text: &str, message, hint: &str| {
            let mut fault = Diagnostic::of_flag(flag, message, Some(hint.to_owned()));
            fault.text = text.to_owned();
            fault
        };
        let is_path = |path: &str| {
            let is_fit = |byte: u8| byte.is_ascii_graphic() && !b"?#%\"<>\\".contains(&byte);
            path.starts_with('/') && !path.contains("//") && path.bytes().all(is_fit)
        };
        let path_of = |url: &str| {
            let rest = url
                .strip_prefix("http://")
                .or_else(|| url.strip_prefix("https://"))?;
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let path = if path.is_empty() { "/" } else { path };
            (!host.is_empty() && is_path(path)).then(|| path.to_owned())
        };
        let external = match &self.external_url {
            None => "/".to_owned(),
            Some(url) => path_of(url).ok_or_else(|| {
                let hint = "for instance https://example.org/exporter";
                fault(
                    "--web.external-url",
                    url,
                    "must be a URL of http or https",
                    hint,
                )
            })?,
        };
        let prefix = self.route_prefix.as_deref().unwrap_or(&external);
        if !is_path(prefix) {
            let hint = "for instance /exporter";
            return Err(fault("--web.route-prefix", prefix, "must be a path", hint));
        }
        let trimmed = |path: &str| path.trim_end_matches('/').to_owned();
        Ok(Prefixes {
            route: trimmed(prefix),
            external: trimmed(&external),
        })
    }

    /// Those that systemd passes under a name that a source listens on are not the web server's.
    fn listeners(
        &self,
        default: &str,
        passed: &mut Passed,
        sources: &[Source],
    ) -> Result<Vec<std::net::TcpListener>, Failure> {
        let addresses = match self.listen_address.as_slice() {
            [] => &[default.to_owned()],
            addresses => addresses,
        };
        match self.systemd_socket {
            true => {
                let addresses = sources.iter().filter_map(Source::syslog);
                let sockets = addresses
                    .flat_map(|syslog| &syslog.listen)
                    .map(|address| &address.socket);
                let sockets: Vec<_> = sockets.collect();
                let is_taken =
                    |name: &str| sockets.contains(&&ListenSocket::Passed(name.to_owned()));
                server::systemd_listeners(passed, is_taken)
            }
            false => server::bind(addresses),
        }
        .map_err(|error| match error.is_invalid() {
            true => Failure::Usage(error.to_string()),
            false => Failure::System(error.to_string()),
        })
    }
}

/// What can be wrong with a source without looking at files.
fn sources(config: &Config, faults: &mut Vec<Diagnostic>) {
    if let Err(more) = followed::settings(config) {
        faults.extend(more);
    }
    for (index, source) in config.sources.iter().enumerate() {
        for (item, path) in source.paths().iter().enumerate() {
            if path.split('/').any(|part| part == "~") {
                faults.push(config.source_fault(
                    index,
                    "paths",
                    Some(item),
                    "`~` is not expanded in a quoted path".to_owned(),
                    Some("write the directory in full".to_owned()),
                ));
            }
        }
    }
}

/// Each profile that a source names is that of a rule pack.
fn profiles(config: &Config, rules: &RuleSet, faults: &mut Vec<Diagnostic>) {
    let known: std::collections::BTreeSet<&str> = rules
        .packs
        .iter()
        .flat_map(|pack| &pack.profiles)
        .map(|profile| &**profile)
        .collect();
    for (index, source) in config.sources.iter().enumerate() {
        let Some(profile) = &source.profile else {
            continue;
        };
        if !known.contains(profile.as_str()) {
            let hint = match nearest(profile, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let known: Vec<&str> = known.iter().copied().collect();
                    format!("profiles: {}", known.join(", "))
                }
            };
            let message = "no rule pack has this profile".to_owned();
            faults.push(config.source_fault(index, "profile", None, message, Some(hint)));
        }
    }
}

/// A source and the files that each of its patterns matches now.
#[derive(serde::Serialize)]
pub(super) struct Matched {
    pub(super) source: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) listen: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<String>,
    pub(super) patterns: Vec<(String, Vec<PathBuf>)>,
}

/// The files that each source matches now, and what is odd about them.
pub(super) fn matched(config: &Config, warnings: &mut Vec<Diagnostic>) -> Vec<Matched> {
    let Ok((specs, _)) = followed::settings(config) else {
        return Vec::new();
    };
    let mut owners: std::collections::HashMap<PathBuf, usize> = Default::default();
    let mut all = Vec::new();
    for (index, (source, spec)) in config.sources.iter().zip(&specs).enumerate() {
        let mut patterns = Vec::new();
        for item in 0..spec.include.len() {
            let files = spec.files_now(item);
            if files.is_empty() && spec.include[item].as_str() != "-" {
                let message = "no file matches now".to_owned();
                warnings.push(config.source_fault(index, "paths", Some(item), message, None));
            }
            warnings.extend(compressed(config, (index, item), &files));
            for (path, appliance) in &files {
                match owners.insert(path.clone(), index) {
                    Some(owner) if owner != index => {
                        owners.insert(path.clone(), owner);
                        let message = format!(
                            "matches {}, which the source `{}` already follows: it is read once, for that one",
                            path.display(),
                            config.sources[owner].name
                        );
                        warnings.push(config.source_fault(
                            index,
                            "paths",
                            Some(item),
                            message,
                            None,
                        ));
                    }
                    _ => {}
                }
                listed(config, source, path, appliance.as_deref(), warnings);
            }
            let files = files.into_iter().map(|(path, _)| path).collect();
            patterns.push((spec.include[item].as_str().to_owned(), files));
        }
        all.push(Matched {
            source: source.name.clone(),
            listen: (source.syslog().into_iter())
                .flat_map(|syslog| &syslog.listen)
                .map(ToString::to_string)
                .collect(),
            topic: source.kafka().map(|kafka| kafka.topic.clone()),
            patterns,
        });
    }
    warnings.dedup();
    all
}

/// What a pattern of a source matches and is not read since it is compressed: the first one, and how many there are.
fn compressed(
    config: &Config,
    (source, pattern): (usize, usize),
    files: &[(PathBuf, Option<String>)],
) -> Option<Diagnostic> {
    let forms = files
        .iter()
        .filter_map(|(path, _)| Some((path, CompressedAs::of_file(path)?)));
    let mut forms = forms.peekable();
    let (path, form) = *forms.peek()?;
    let others = match forms.count() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let message = format!("{}: {form}{others}", path.display());
    let hint = "name what is not to be read under `exclude`".to_owned();
    Some(config.source_fault(source, "paths", Some(pattern), message, Some(hint)))
}

/// Whether the list of appliances has the name that a path gives.
fn listed(
    config: &Config,
    source: &Source,
    path: &Path,
    appliance: Option<&str>,
    warnings: &mut Vec<Diagnostic>,
) {
    let Some(name) = appliance.filter(|_| source.appliance == ApplianceFrom::Path) else {
        return;
    };
    if config.appliances.is_empty() || config.appliances.iter().any(|listed| listed == name) {
        return;
    }
    let near = nearest(name, config.appliances.iter().map(String::as_str));
    let item = config
        .appliances
        .iter()
        .position(|listed| listed.eq_ignore_ascii_case(name) || Some(listed.as_str()) == near);
    let message = format!(
        "the appliance `{name}` of {} is not in the list `appliances`",
        path.display()
    );
    let warning = item
        .and_then(|item| config.appliance_fault(item, message.clone(), None))
        .unwrap_or_else(|| Diagnostic::bare(&message, "its lines count under `other`"));
    warnings.push(warning);
}

/// Follows files and serves, until a signal.
pub(super) fn run(flags: StartFlags, log: &LogFlags) -> Result<ExitCode, Failure> {
    log.begin();
    let listens = !flags.syslog.listen.is_empty();
    if flags.log_file.is_empty() && !listens && flags.rules.config_file.is_none() {
        return Err(Failure::Settings(vec![Diagnostic::bare(
            "there is nothing to follow",
            "give --log.file GLOB, --syslog.listen ADDRESS or --config.file FILE",
        )]));
    }
    serve(flags, Vec::new(), ":10067", |_, _| Ok(()))
}

/// Opens what the plan says, and runs. `listening` gets each port, and what paths begin with.
pub(super) fn serve(
    flags: StartFlags,
    more: Vec<Source>,
    default_address: &str,
    listening: impl Fn(u16, &str) -> std::io::Result<()>,
) -> Result<ExitCode, Failure> {
    let plan = move |flags: &StartFlags| {
        let mut faults = Vec::new();
        let plan = flags.plan(&more, &mut faults).ok_or(faults)?;
        let warnings = &plan.load.engine.rules().warnings;
        for warning in unknown_system_zone().iter().chain(warnings) {
            tracing::warn!("{warning}");
        }
        Ok(plan)
    };
    let Plan {
        load,
        web,
        prefixes,
    } = plan(&flags).map_err(Failure::Settings)?;
    let mut passed = Passed::from_env();
    let sources = &load.config.sources;
    let listeners = (flags.web).listeners(default_address, &mut passed, sources)?;
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            listening(address.port(), &prefixes.route)?;
        }
    }
    let auto_reload = flags.auto_reload.then(|| run::AutoReload {
        file: flags.rules.config_file.clone(),
        interval: flags.auto_reload_interval,
    });
    let options = server::Options {
        route_prefix: prefixes.route,
        external_path: prefixes.external,
        telemetry_path: flags.web.telemetry_path.clone(),
        enable_lifecycle: flags.web.enable_lifecycle,
        ..server::Options::default()
    };
    // The first load is what was planned before the ports were opened.
    let first = Mutex::new(Some(load));
    let load = move || match first.lock().take() {
        Some(planned) => Ok(planned),
        None => plan(&flags).map(|plan| plan.load),
    };
    let serving = run::Serving {
        listeners,
        passed,
        options,
        auto_reload,
    };
    match run::run(Box::new(load), serving, web) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(run::Failure::Settings(faults)) => Err(Failure::Settings(faults)),
        Err(run::Failure::Other(message)) => Err(Failure::System(message)),
    }
}
