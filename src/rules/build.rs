//! From packs as written to a checked rule set.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use regex_syntax::ast::{self, Ast, GroupKind};
use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use super::file::{
    ConditionFile, ExampleFile, KindWord, LabelFile, LabelsFile, LayoutWord, LetFile, MetricFile,
    OneOrMany, OpenFile, PackFile, RuleFile, Scalar, UpdateFile,
};
use super::template::is_name;
use super::{
    BuiltIn, Comparison, Example, Field, From, HeaderField, If, Let, Map, Metric, Pack, PackText,
    Part, Pattern, Place, Program, Rule, RuleSet, Scope, Settings, Template, Text, Update, Verb,
    When, Worst,
};
use crate::diagnostic::{Diagnostic, Document, Path, Problems, nearest};
use crate::metric::{Domain, Family, Kind, Spec};
use crate::record::Severity;

/// More combinations of enumerated labels than this are not worth a zero series each.
const ZERO_SERIES_MAX: usize = 400;

/// Labels of a metric, besides `appliance`; the series table has room for no more.
const LABELS_MAX: usize = 16;

/// A pack before it is read.
pub(super) enum Source {
    /// YAML.
    Text(PackText),
    /// The compact form of a built-in one.
    BuiltIn(&'static BuiltIn),
}

/// A rule or a family before it is read.
enum Written {
    Yaml(Value),
    Compact(&'static str),
}

/// A pack whose head is read.
struct Opened {
    document: Document,
    file: PackFile,
    /// The rules that stand in no `file`: those of the compact form.
    compact: &'static [&'static str],
    is_built_in: bool,
}

impl Opened {
    fn new(source: Source, is_built_in: bool, faults: &mut Vec<Diagnostic>) -> Option<Self> {
        match source {
            Source::Text(pack) => match Document::parse(&pack.file, &pack.text) {
                Ok(mut document) => {
                    let mut problems = Problems::new(&document);
                    match document.value.as_mapping() {
                        // Empty, as a shell leaves the file that it will write to.
                        Some(keys) if keys.is_empty() => return None,
                        Some(_) => {}
                        None => {
                            let message = "a pack starts with `pack: NAME`";
                            problems.value(&Path::root(), message, None);
                            faults.extend(problems.into_diagnostics());
                            return None;
                        }
                    }
                    let file = problems.decode(&document.value, &Path::root());
                    faults.extend(problems.into_diagnostics());
                    // What it says is in `file` now.
                    document.value = Value::Null;
                    Some(Self {
                        document,
                        file: file?,
                        compact: &[],
                        is_built_in,
                    })
                }
                Err(fault) => {
                    faults.push(fault);
                    None
                }
            },
            Source::BuiltIn(pack) => {
                let document = Document {
                    file: pack.name().into(),
                    text: Arc::new(Cow::Borrowed(pack.text)),
                    value: Value::Null,
                };
                let mut problems = Problems::new(&document);
                let file = compact(pack.head, &Path::root(), &mut problems);
                faults.extend(problems.into_diagnostics());
                Some(Self {
                    document,
                    file: file?,
                    compact: pack.rules,
                    is_built_in,
                })
            }
        }
    }
}

/// Reads a part of the compact form. What is wrong is told only roughly: `check` reads what it was made from.
fn compact<T: DeserializeOwned>(text: &str, path: &Path, problems: &mut Problems<'_>) -> Option<T> {
    serde_json::from_str(text)
        .map_err(|error| problems.value(path, error.to_string(), None))
        .ok()
}

/// Builds a rule set; `own` comes before `built_in`. A pack replaces the built-in one that it names under `replaces`, and
/// one of its own name, with a warning.
pub(super) fn build(
    own: Vec<Source>,
    built_in: Vec<Source>,
    settings: Settings,
    with_examples: bool,
) -> Result<RuleSet, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let mut names: HashMap<String, Arc<str>> = HashMap::new();
    let mut packs: Vec<Opened> = Vec::new();
    let mut warnings = Vec::new();
    for (is_built_in, sources) in [(false, own), (true, built_in)] {
        let mut group: Vec<Opened> = sources
            .into_iter()
            .filter_map(|source| Opened::new(source, is_built_in, &mut faults))
            .collect();
        group.sort_by(|a, b| a.file.pack.cmp(&b.file.pack));
        if is_built_in {
            replace(&packs, &mut group, &mut faults, &mut warnings);
        }
        for pack in group {
            let file = pack.document.file.clone();
            if let Some(other) = names.insert(pack.file.pack.clone(), file) {
                let mut problems = Problems::new(&pack.document);
                problems.value(
                    &Path::root().then("pack"),
                    format!("{other} is a pack of this name too"),
                    Some("give one of them another name, or put the rules into one file".into()),
                );
                faults.extend(problems.into_diagnostics());
                continue;
            }
            packs.push(pack);
        }
    }

    let mut set = RuleSet::default();
    let mut builder = Builder {
        set: &mut set,
        settings,
        with_examples,
        metrics: HashMap::new(),
        programs: HashMap::new(),
        left_out: HashSet::new(),
    };
    let mut all_maps = Vec::new();
    // Names first: rules may use programs and metrics of packs that come later.
    for (index, pack) in packs.iter().enumerate() {
        let mut problems = Problems::new(&pack.document);
        all_maps.push(builder.names(index, pack, &mut problems));
        faults.extend(problems.into_diagnostics());
    }
    let mut lints = Vec::new();
    for (index, (pack, maps)) in packs.into_iter().zip(&all_maps).enumerate() {
        let mut problems = Problems::new(&pack.document);
        let mut warnings = Problems::new(&pack.document);
        // One at a time, so that what was read of it can go before the next.
        let written = pack.file.rules.into_iter().map(Written::Yaml);
        let rules = written.chain(pack.compact.iter().copied().map(Written::Compact));
        builder.rules(
            index,
            &pack.document,
            rules,
            maps,
            &mut problems,
            &mut warnings,
        );
        faults.extend(problems.into_diagnostics());
        lints.extend(warnings.into_diagnostics());
    }
    set.lints = lints;
    set.warnings = warnings;
    set.rules.shrink_to_fit();
    if faults.is_empty() {
        Ok(set)
    } else {
        Err(faults)
    }
}

/// Takes away the built-in packs that `own` ones replace.
fn replace(
    own: &[Opened],
    built_in: &mut Vec<Opened>,
    faults: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) {
    for pack in own {
        let mut problems = Problems::new(&pack.document);
        let mut unsaid = Problems::new(&pack.document);
        let (key, replaced) = match &pack.file.replaces {
            Some(replaced) => ("replaces", replaced),
            None => ("pack", &pack.file.pack),
        };
        let path = Path::root().then(key);
        match built_in
            .iter()
            .position(|known| known.file.pack == *replaced)
        {
            Some(known) => {
                let known = built_in.remove(known);
                if pack.file.replaces.is_none() {
                    let rules = known.file.rules.len() + known.compact.len();
                    unsaid.value(
                        &path,
                        format!("replaces the built-in pack of this name and its {rules} rules"),
                        Some(format!("if that is meant, add `replaces: {replaced}`; if not, choose another name")),
                    );
                }
            }
            None if key == "replaces" => {
                let near = nearest(
                    replaced,
                    built_in.iter().map(|known| known.file.pack.as_str()),
                );
                problems.value(
                    &path,
                    "no built-in pack has this name",
                    near.map(|near| format!("did you mean `{near}`?")),
                );
            }
            None => {}
        }
        faults.extend(problems.into_diagnostics());
        warnings.extend(unsaid.into_diagnostics());
    }
}

type Maps = HashMap<String, Arc<Map>>;

struct Builder<'s> {
    set: &'s mut RuleSet,
    settings: Settings,
    /// Rules keep their examples, and it is worth a word if they have none.
    with_examples: bool,
    /// Metric name to index.
    metrics: HashMap<String, usize>,
    /// Spelling in lower case to index.
    programs: HashMap<String, usize>,
    /// Metric and label, where a setting leaves the label out.
    left_out: HashSet<(String, String)>,
}

/// What is known while one rule is built.
struct Scene<'a> {
    maps: &'a Maps,
    variables: Vec<String>,
    /// Whether a variable was ever named by a text or a condition.
    used: Vec<bool>,
    /// Variables that are holes of type `rest`.
    boundless: Vec<bool>,
    /// The pattern could not be read, so what it captures is not known.
    is_broken: bool,
}

impl Scene<'_> {
    fn text(&mut self, text: &str, path: &Path, problems: &mut Problems<'_>) -> Option<Text> {
        match Text::parse(text, &self.variables, self.maps) {
            Ok(text) => {
                for from in text.sources() {
                    self.mark(from);
                }
                Some(text)
            }
            Err(_) if self.is_broken => None,
            Err((message, hint)) => {
                problems.value(path, message, hint);
                None
            }
        }
    }

    fn mark(&mut self, from: From) {
        if let From::Variable(index) = from {
            self.used[index] = true;
        }
    }

    fn lookup(&mut self, name: &str) -> Option<From> {
        let from = match self.variables.iter().position(|variable| variable == name) {
            Some(index) => From::Variable(index),
            None => From::Field(Field::NAMED.iter().find(|(field, _)| *field == name)?.1),
        };
        self.mark(from);
        Some(from)
    }
}

impl Builder<'_> {
    fn names(
        &mut self,
        index: usize,
        Opened {
            document,
            file,
            is_built_in,
            ..
        }: &Opened,
        problems: &mut Problems<'_>,
    ) -> Maps {
        let root = Path::root();
        if !is_name(&file.pack) {
            problems.value(
                &root.then("pack"),
                "invalid pack name",
                Some("lower-case letters, digits and `_`".into()),
            );
        }
        self.set.packs.push(Pack {
            name: file.pack.as_str().into(),
            about: file.about.clone(),
            profiles: file.profiles.iter().map(|p| p.as_str().into()).collect(),
            file: document.file.clone(),
            is_built_in: *is_built_in,
        });
        for (name, aliases) in &file.programs {
            let Some(name) = name.as_str() else { continue };
            let path = root.then("programs").then(name);
            let aliases: Vec<String> = problems.decode(aliases, &path).unwrap_or_default();
            self.program(name, aliases, index);
        }
        let programs: Vec<&str> = (file.programs.iter())
            .filter_map(|(name, _)| name.as_str())
            .collect();
        let formats = super::format::formats(&file.formats, &programs, problems);
        self.set.formats.extend(formats);
        let mut maps = Maps::new();
        for (name, entries) in &file.maps {
            let Some(name) = name.as_str() else { continue };
            let path = root.then("maps").then(name);
            let Some(entries) = problems.decode::<Mapping>(entries, &path) else {
                continue;
            };
            let mut map = Map::default();
            for (key, value) in &entries {
                let key: Option<Scalar> = serde_yaml::from_value(key.clone()).ok();
                let Some(Scalar(key)) = key else { continue };
                let Some(Scalar(value)) = problems.decode(value, &path.then(key.as_str())) else {
                    continue;
                };
                if key == "else" {
                    map.otherwise = Some(value);
                } else {
                    map.values.insert(key, value);
                }
            }
            maps.insert(name.to_owned(), Arc::new(map));
        }
        for (name, metric) in &file.metrics {
            let Some(name) = name.as_str() else { continue };
            let path = root.then("metrics").then(name);
            if let Some(declared) = problems.decode::<MetricFile>(metric, &path) {
                self.metric(name, declared, index, &path, problems);
            }
        }
        maps
    }

    fn program(&mut self, name: &str, aliases: Vec<String>, pack: usize) -> usize {
        let known = std::iter::once(name)
            .chain(aliases.iter().map(String::as_str))
            .find_map(|spelling| self.programs.get(&spelling.to_ascii_lowercase()).copied());
        let index = known.unwrap_or_else(|| {
            self.set.programs.push(Program {
                name: name.to_owned(),
                aliases: Vec::new(),
                packs: Vec::new(),
            });
            self.set.programs.len() - 1
        });
        let program = &mut self.set.programs[index];
        if !program.packs.contains(&pack) {
            program.packs.push(pack);
        }
        for spelling in std::iter::once(name.to_owned()).chain(aliases) {
            let lower = spelling.to_ascii_lowercase();
            if lower != program.name.to_ascii_lowercase() && !program.aliases.contains(&spelling) {
                program.aliases.push(spelling);
            }
            self.programs.insert(lower, index);
        }
        index
    }

    fn metric(
        &mut self,
        name: &str,
        file: MetricFile,
        pack: usize,
        path: &Path,
        problems: &mut Problems<'_>,
    ) {
        let plain = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !plain(name) {
            problems.key(
                path,
                "invalid metric name",
                Some("letters, digits and `_`".into()),
            );
        }
        const RESERVED: [&str; 4] = [
            "process_",
            "promhttp_",
            "appliance_log_exporter_",
            "log_messages_",
        ];
        if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            problems.key(
                path,
                "reserved prefix: the exporter's own metrics use it",
                None,
            );
        }
        if matches!(name, "up" | "ALERTS" | "ALERTS_FOR_STATE") || name.starts_with("scrape_") {
            problems.key(path, "reserved name: Prometheus uses it", None);
        }
        let twin = match name.strip_suffix("_total") {
            Some(stem) => stem.to_owned(),
            None => format!("{name}_total"),
        };
        if self.metrics.contains_key(&twin) {
            // OpenMetrics names a counter's family without the suffix.
            problems.key(
                path,
                format!("`{twin}` is the same family in OpenMetrics"),
                None,
            );
        }
        let kind = match file.kind {
            KindWord::Counter => Kind::Counter,
            KindWord::Gauge => Kind::Gauge,
        };
        match (kind, name.ends_with("_total")) {
            (Kind::Counter, false) => {
                problems.key(
                    path,
                    "a counter's name ends in `_total`",
                    Some(format!("`{name}_total`")),
                );
            }
            (Kind::Gauge, true) => {
                problems.key(path, "only a counter's name ends in `_total`", None);
            }
            _ => {}
        }
        if let Some((suffix, unit)) = [
            ("_ms", "_seconds"),
            ("_milliseconds", "_seconds"),
            ("_percent", "_ratio"),
            ("_kb", "_bytes"),
            ("_mb", "_bytes"),
            ("_fahrenheit", "_celsius"),
        ]
        .into_iter()
        .find(|(suffix, _)| name.trim_end_matches("_total").ends_with(suffix))
        {
            problems.key(
                path,
                format!("`{suffix}` is not a base unit"),
                Some(format!("use `{unit}`")),
            );
        }
        if file.help.trim().is_empty() {
            problems.value(&path.then("help"), "a metric needs a help text", None);
        }
        let expire_seconds = file.expire.as_deref().and_then(|text| {
            let seconds = duration(text);
            if seconds.is_none() {
                problems.value(
                    &path.then("expire"),
                    "invalid duration",
                    Some("a number and s, m, h or d: `30d`".into()),
                );
            }
            seconds
        });
        if file.labels.len() > LABELS_MAX {
            problems.value(
                &path.then("labels"),
                format!("has {} labels, more than {LABELS_MAX}", file.labels.len()),
                None,
            );
        }
        let mut labels: Vec<Arc<str>> = vec!["appliance".into()];
        let mut domains = Vec::new();
        for (label, domain) in &file.labels {
            let Some(label) = label.as_str() else {
                continue;
            };
            let at = path.then("labels").then(label);
            if !plain(label) || label.starts_with("__") {
                problems.key(
                    &at,
                    "invalid label name",
                    Some("letters, digits and `_`".into()),
                );
            }
            if matches!(label, "appliance" | "test") {
                problems.key(&at, "the exporter sets this label itself", None);
                continue;
            }
            if matches!(
                label,
                "env" | "cluster" | "dc" | "job" | "instance" | "le" | "quantile"
            ) {
                problems.key(
                    &at,
                    "this label belongs to Prometheus or to the target",
                    None,
                );
            }
            let domain = match problems.decode::<LabelFile>(domain, &at) {
                Some(LabelFile::Word(word)) if word == "any" => Domain::Any(Vec::new()),
                Some(LabelFile::Values(values)) if !values.is_empty() => {
                    Domain::OneOf(values.into_iter().map(|value| value.0.into()).collect())
                }
                Some(LabelFile::Open(OpenFile {
                    any: true,
                    when,
                    known,
                })) if when.as_deref().is_none_or(|when| when == "remote_address") => {
                    if when.is_some() && !self.settings.remote_address {
                        self.left_out.insert((name.to_owned(), label.to_owned()));
                        continue;
                    }
                    Domain::Any(known.into_iter().map(|value| value.0.into()).collect())
                }
                Some(_) => {
                    problems.value(
                        &at,
                        "this says nothing about the label's values",
                        Some("`any`, a list of values, or {any: true, known: […]}".into()),
                    );
                    continue;
                }
                None => continue,
            };
            labels.push(label.into());
            domains.push(domain);
        }
        let combinations = domains.iter().fold(1usize, |product, domain| {
            product.saturating_mul(domain.known().len())
        });
        if kind == Kind::Counter && combinations > ZERO_SERIES_MAX {
            problems.value(
                &path.then("labels"),
                format!("{combinations} zero series for every appliance are too many"),
                Some(format!(
                    "at most {ZERO_SERIES_MAX}; declare one of the labels `any`"
                )),
            );
        }
        if let Some(&known) = self.metrics.get(name) {
            let metric = &mut self.set.metrics[known];
            let family = &metric.spec.family;
            if family.kind != kind || *family.labels != *labels {
                problems.key(
                    path,
                    "another pack declares this metric with another type or other labels",
                    None,
                );
                return;
            }
            if *family.help != *file.help {
                problems.value(
                    &path.then("help"),
                    "another pack declares this metric with another help text",
                    Some(format!("the other says: {}", family.help)),
                );
            }
            for (mine, theirs) in metric.spec.domains.iter_mut().zip(domains) {
                let mut known = mine.known().to_vec();
                known.extend(
                    theirs
                        .known()
                        .iter()
                        .filter(|value| !mine.known().contains(value))
                        .cloned(),
                );
                *mine = match (&*mine, &theirs) {
                    (Domain::OneOf(_), Domain::OneOf(_)) => Domain::OneOf(known),
                    _ => Domain::Any(known),
                };
            }
            if !metric.packs.contains(&pack) {
                metric.packs.push(pack);
            }
            return;
        }
        self.metrics.insert(name.to_owned(), self.set.metrics.len());
        self.set.metrics.push(Metric {
            spec: Spec {
                family: Arc::new(Family {
                    name: name.into(),
                    help: file.help.as_str().into(),
                    kind,
                    labels: labels.into(),
                }),
                domains,
                expire_seconds,
            },
            packs: vec![pack],
        });
    }

    fn rules(
        &mut self,
        pack: usize,
        document: &Document,
        rules: impl Iterator<Item = Written>,
        maps: &Maps,
        problems: &mut Problems<'_>,
        lints: &mut Problems<'_>,
    ) {
        let mut events: HashSet<String> = HashSet::new();
        let root = Path::root().then("rules");
        for (index, written) in rules.enumerate() {
            let path = root.then(index);
            let rule: Option<RuleFile> = match written {
                Written::Yaml(value) => problems.decode(&value, &path),
                Written::Compact(text) => compact(text, &path, problems),
            };
            let Some(rule) = rule else { continue };
            let Some(entries) = &rule.events else {
                let Some(event) = &rule.event else {
                    problems.value(&path, "a rule needs an `event`", None);
                    continue;
                };
                let parts = Parts::alone(&rule, event, path);
                self.rule(pack, document, parts, maps, &mut events, problems, lints);
                continue;
            };
            if rule.event.is_some() || rule.templates.is_some() || rule.regex.is_some() {
                problems.value(
                    &path,
                    "a family has no event or pattern of its own",
                    Some("they stand under `events`".into()),
                );
            }
            let path_of_events = path.then("events");
            for (event, value) in entries {
                let Some(event) = event.as_str() else {
                    continue;
                };
                let at = path_of_events.then(event);
                // `event: template` is short for `event: {match: template}`.
                let member = if value.is_string() || value.is_sequence() {
                    problems
                        .decode::<OneOrMany>(value, &at)
                        .map(|templates| RuleFile {
                            templates: Some(templates),
                            ..RuleFile::default()
                        })
                } else {
                    problems.decode::<RuleFile>(value, &at)
                };
                let Some(member) = member else { continue };
                if member.event.is_some() || member.events.is_some() {
                    problems.value(&at, "a family's event is named by its key alone", None);
                }
                let parts = Parts::member(&rule, &member, event, &path, at);
                self.rule(pack, document, parts, maps, &mut events, problems, lints);
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; each is a part of one rule's surroundings"
    )]
    fn rule(
        &mut self,
        pack: usize,
        document: &Document,
        parts: Parts<'_>,
        maps: &Maps,
        events: &mut HashSet<String>,
        problems: &mut Problems<'_>,
        lints: &mut Problems<'_>,
    ) {
        let path = &parts.path;
        let event = parts.event;
        if !is_name(event) {
            problems.value(
                &path.then("event"),
                "invalid event name",
                Some("lower-case letters, digits and `_`".into()),
            );
        }
        if !events.insert(event.to_owned()) {
            problems.value(
                path,
                format!("another rule of this pack has the event `{event}`"),
                None,
            );
        }
        let scope = self.scope(&parts, pack, problems);
        let mut scene = Scene {
            maps,
            variables: Vec::new(),
            used: Vec::new(),
            boundless: Vec::new(),
            is_broken: false,
        };
        let is_checked = self.set.packs[pack].is_built_in;
        let before = problems.len();
        let patterns = patterns(&parts, is_checked, &mut scene, problems);
        scene.is_broken = problems.len() > before;
        let mut when = Vec::new();
        for (conditions, at) in &parts.when {
            when.extend(
                conditions
                    .iter()
                    .filter_map(|entry| condition(entry, at, problems)),
            );
        }
        let captures = scene.variables.len();
        let mut lets = Vec::new();
        for (mapping, at) in &parts.lets {
            for (name, value) in *mapping {
                let Some(name) = name.as_str() else { continue };
                let at = at.then(name);
                if !is_name(name) {
                    problems.key(
                        &at,
                        "invalid name",
                        Some("lower-case letters, digits and `_`".into()),
                    );
                    continue;
                }
                if let Some(how) = make(value, &at, &mut scene, problems) {
                    let variable = match scene.variables.iter().position(|known| known == name) {
                        Some(known) if known < captures => {
                            problems.key(&at, "a hole has this name already", None);
                            continue;
                        }
                        Some(known) => known,
                        None => {
                            scene.variables.push(name.to_owned());
                            scene.used.push(false);
                            scene.boundless.push(false);
                            scene.variables.len() - 1
                        }
                    };
                    lets.push((variable, how));
                }
            }
        }
        let mut updates = Vec::with_capacity(parts.metrics.len());
        for (value, at) in &parts.metrics {
            if let Some(file) = problems.decode::<UpdateFile>(value, at) {
                updates.extend(self.update(file, at, &mut scene, problems, lints));
            }
        }
        for (variable, used) in scene.variables.iter().zip(&scene.used) {
            if !used && !scene.is_broken {
                lints.value(
                    path,
                    format!("`{variable}` is captured and never used"),
                    Some("write `_` instead of the name".into()),
                );
            }
        }
        if self.with_examples && parts.examples.is_empty() {
            lints.value(
                path,
                "a rule without an example",
                Some("add a line under `examples`".into()),
            );
        }
        let mut examples = Vec::new();
        for (value, at) in &parts.examples {
            let example = example(document, value, at, problems);
            examples.extend(example.filter(|_| self.with_examples));
        }
        // A rule stays as long as the program runs.
        lets.shrink_to_fit();
        when.shrink_to_fit();
        scene.variables.shrink_to_fit();
        let at = place(document, path);
        self.set.rules.push(Rule {
            id: format!("{}/{event}", self.set.packs[pack].name).into(),
            pack,
            event: event.into(),
            scope,
            patterns,
            when,
            variables: scene.variables,
            lets,
            updates,
            notable: parts.notable,
            go_on: parts.go_on,
            help: parts.help.to_owned(),
            seen: parts.seen,
            examples,
            at,
        });
    }

    fn scope(&mut self, parts: &Parts<'_>, pack: usize, problems: &mut Problems<'_>) -> Scope {
        let Some((program, at)) = &parts.program else {
            let own: Vec<usize> = (0..self.set.programs.len())
                .filter(|index| self.set.programs[*index].packs.contains(&pack))
                .collect();
            if own.is_empty() {
                problems.value(
                    &parts.path,
                    "the pack names no program, so the rule must",
                    Some("add `program:`".into()),
                );
            }
            return Scope::Programs(own);
        };
        let names = program.texts();
        match names.as_slice() {
            ["*"] => return Scope::Every,
            ["-"] => return Scope::Nameless,
            _ => {}
        }
        let mut indices = Vec::new();
        for (index, name) in names.iter().enumerate() {
            match self.programs.get(&name.to_ascii_lowercase()) {
                Some(known) => {
                    if !indices.contains(known) {
                        indices.push(*known);
                    }
                }
                None => {
                    let at = if program.is_list() {
                        at.then(index)
                    } else {
                        at.clone()
                    };
                    problems.value(
                        &at,
                        "no pack names this program",
                        Some(
                            nearest(name, self.set.programs.iter().map(|p| p.name.as_str()))
                                .map_or_else(
                                    || "add it under `programs:`".into(),
                                    |near| format!("did you mean `{near}`?"),
                                ),
                        ),
                    );
                }
            }
        }
        Scope::Programs(indices)
    }

    fn find_metric(&self, name: &str, path: &Path, problems: &mut Problems<'_>) -> Option<usize> {
        let found = self.metrics.get(name).copied();
        if found.is_none() {
            problems.value(
                path,
                "no pack declares this metric",
                nearest(name, self.metrics.keys().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?")),
            );
        }
        found
    }

    fn update(
        &mut self,
        file: UpdateFile,
        path: &Path,
        scene: &mut Scene<'_>,
        problems: &mut Problems<'_>,
        lints: &mut Problems<'_>,
    ) -> Option<Update> {
        let verbs: Vec<(&str, &String)> = [
            ("inc", &file.inc),
            ("add", &file.add),
            ("set", &file.set),
            ("states", &file.states),
            ("time", &file.time),
            ("worst", &file.worst),
        ]
        .into_iter()
        .filter_map(|(verb, metric)| metric.as_ref().map(|metric| (verb, metric)))
        .collect();
        let &[(verb, name)] = verbs.as_slice() else {
            problems.value(
                path,
                "an update needs one verb",
                Some("one of inc, add, set, states, time, worst".into()),
            );
            return None;
        };
        let index = self.find_metric(name, &path.then(verb), problems)?;
        let family = self.set.metrics[index].spec.family.clone();
        let counts = matches!(verb, "inc" | "add");
        if counts != (family.kind == Kind::Counter) {
            problems.value(
                &path.then(verb),
                format!(
                    "`{verb}` does not work on a {}",
                    if counts { "gauge" } else { "counter" }
                ),
                None,
            );
            return None;
        }
        for (key, there, wanted) in [
            ("value", file.value.is_some(), matches!(verb, "add" | "set")),
            ("label", file.label.is_some(), verb == "states"),
            ("active", file.active.is_some(), verb == "states"),
            ("of", !file.of.is_empty(), verb == "worst"),
        ] {
            if there != wanted {
                let message = if wanted {
                    format!("`{verb}` needs `{key}`")
                } else {
                    format!("`{key}` does not go with `{verb}`")
                };
                problems.value(path, message, None);
                return None;
            }
        }
        if file.split.is_some() && verb != "states" {
            problems.value(path, format!("`split` does not go with `{verb}`"), None);
        }
        let mut texts: Vec<(String, Text)> = Vec::new();
        let at = path.then("labels");
        match &file.labels {
            None => {}
            Some(LabelsFile::Texts(mapping)) => {
                for (label, text) in mapping {
                    let Some(label) = label.as_str() else {
                        continue;
                    };
                    let at = at.then(label);
                    let Some(Scalar(text)) = problems.decode(text, &at) else {
                        continue;
                    };
                    if let Some(text) = scene.text(&text, &at, problems) {
                        texts.push((label.to_owned(), text));
                    }
                }
            }
            Some(LabelsFile::Names(names)) => {
                for (index, name) in names.iter().enumerate() {
                    let text = format!("{{{name}}}");
                    if let Some(text) = scene.text(&text, &at.then(index), problems) {
                        texts.push((name.clone(), text));
                    }
                }
            }
        }
        let labels = self.labels(
            index,
            texts,
            file.label.as_deref(),
            &at,
            path,
            scene,
            problems,
            lints,
        )?;
        let state_label = file.label.as_ref().and_then(|label| {
            let found = family.labels[1..]
                .iter()
                .position(|known| **known == **label);
            if found.is_none() {
                problems.value(&path.then("label"), "the metric has no such label", None);
            }
            found
        });
        let mut conditions = Vec::with_capacity(file.conditions.as_ref().map_or(0, Mapping::len));
        for (name, value) in file.conditions.iter().flatten() {
            let Some(name) = name.as_str() else { continue };
            let at = path.then("if").then(name);
            let Some(from) = scene.lookup(name) else {
                if scene.is_broken {
                    continue;
                }
                problems.key(
                    &at,
                    "nothing in this rule is called so",
                    nearest(name, scene.variables.iter().map(String::as_str))
                        .map(|near| format!("did you mean `{near}`?")),
                );
                continue;
            };
            let Some(condition) = problems.decode::<ConditionFile>(value, &at) else {
                continue;
            };
            let (values, negated) = match &condition {
                ConditionFile::Is(values) => (values, false),
                ConditionFile::Not { not } => (not, true),
            };
            conditions.push(If {
                from,
                values: values.texts().into_iter().map(str::to_owned).collect(),
                negated,
            });
        }
        let mut value = |scalar: &Option<Scalar>, key: &str, problems: &mut Problems<'_>| {
            let Scalar(scalar) = scalar.as_ref()?;
            let at = path.then(key);
            let text = scene.text(scalar, &at, problems)?;
            if key == "value"
                && text
                    .constant()
                    .is_some_and(|text| text.parse::<f64>().is_err())
            {
                let hint = scene
                    .variables
                    .contains(scalar)
                    .then(|| format!("a captured value is written in braces: '{{{scalar}}}'"));
                problems.value(&at, "not a number", hint);
            }
            Some(text)
        };
        let verb = match verb {
            "inc" => Verb::Inc,
            "add" => Verb::Add(value(&file.value, "value", problems)?),
            "set" => Verb::Set(value(&file.value, "value", problems)?),
            "time" => Verb::Time,
            "states" => Verb::States {
                label: state_label?,
                active: value(&file.active, "active", problems)?,
                split: file.split,
            },
            _ => {
                let mut groups = Vec::new();
                for (index, of) in file.of.iter().enumerate() {
                    let at = path.then("of").then(index);
                    groups.push(self.worst(of, &at, scene, problems, lints)?);
                }
                Verb::Worst(groups)
            }
        };
        Some(Update {
            metric: index,
            labels,
            conditions,
            verb,
        })
    }

    /// Puts texts into the order of the metric's labels; `left_out` has none.
    #[expect(
        clippy::too_many_arguments,
        reason = "two call sites, each with its own place for faults"
    )]
    fn labels(
        &self,
        metric: usize,
        mut texts: Vec<(String, Text)>,
        left_out: Option<&str>,
        at: &Path,
        update: &Path,
        scene: &Scene<'_>,
        problems: &mut Problems<'_>,
        lints: &mut Problems<'_>,
    ) -> Option<Vec<Option<Text>>> {
        let metric = &self.set.metrics[metric];
        let mut labels = Vec::with_capacity(metric.spec.domains.len());
        let mut sound = true;
        for (label, domain) in metric.spec.family.labels[1..]
            .iter()
            .zip(&metric.spec.domains)
        {
            let found = texts.iter().position(|(name, _)| **name == **label);
            let text = found.map(|index| texts.swap_remove(index).1);
            match (&text, left_out == Some(&**label)) {
                (None, false) if scene.is_broken => sound = false,
                (None, false) => {
                    problems.value(update, format!("the label `{label}` has no value"), None);
                    sound = false;
                }
                (Some(_), true) => {
                    problems.value(at, format!("the label `{label}` is set by `active`"), None);
                    sound = false;
                }
                _ => {}
            }
            if let (Domain::Any(_), Some(text)) = (domain, &text) {
                for part in &text.parts {
                    if let Part::Value(From::Variable(variable), transforms) = part
                        && transforms.is_empty()
                        && scene.boundless.get(*variable) == Some(&true)
                    {
                        lints.value(
                            update,
                            format!(
                                "`{}` can be any text and becomes the label `{label}`",
                                scene.variables[*variable]
                            ),
                            Some("map it, or declare the label's values".into()),
                        );
                    }
                }
            }
            labels.push(text);
        }
        for (name, _) in texts {
            // A label that a setting leaves out is still written in the rule.
            let left_out = (metric.spec.family.name.to_string(), name.clone());
            if self.left_out.contains(&left_out) {
                continue;
            }
            problems.key(
                &at.then(name.as_str()),
                "the metric has no such label",
                nearest(
                    &name,
                    metric.spec.family.labels[1..].iter().map(|label| &**label),
                )
                .map(|near| format!("did you mean `{near}`?")),
            );
            sound = false;
        }
        sound.then_some(labels)
    }

    fn worst(
        &self,
        of: &super::file::WorstFile,
        path: &Path,
        scene: &mut Scene<'_>,
        problems: &mut Problems<'_>,
        lints: &mut Problems<'_>,
    ) -> Option<Worst> {
        let metric = self.find_metric(&of.metric, &path.then("metric"), problems)?;
        let mut texts = Vec::new();
        for (label, text) in &of.labels {
            let Some(label) = label.as_str() else {
                continue;
            };
            let at = path.then("labels").then(label);
            let Scalar(text) = problems.decode(text, &at)?;
            texts.push((label.to_owned(), scene.text(&text, &at, problems)?));
        }
        let family = self.set.metrics[metric].spec.family.clone();
        let Some(label) = family.labels[1..]
            .iter()
            .position(|known| **known == *of.label)
        else {
            problems.value(&path.then("label"), "the metric has no such label", None);
            return None;
        };
        let labels = self.labels(
            metric,
            texts,
            Some(&of.label),
            &path.then("labels"),
            path,
            scene,
            problems,
            lints,
        )?;
        let mut weights = Vec::new();
        for (value, weight) in &of.weights {
            let value: Scalar = serde_yaml::from_value(value.clone()).ok()?;
            let at = path.then("weights").then(value.0.as_str());
            weights.push((value.0, problems.decode::<f64>(weight, &at)?));
        }
        Some(Worst {
            metric,
            labels,
            label,
            weights,
        })
    }
}

/// A rule as written, its family folded in, each part with its place.
struct Parts<'r> {
    event: &'r str,
    path: Path,
    program: Option<(&'r OneOrMany, Path)>,
    templates: Option<(&'r OneOrMany, Path)>,
    regex: Option<(&'r OneOrMany, Path)>,
    ignore_case: bool,
    when: Vec<(&'r Mapping, Path)>,
    lets: Vec<(&'r Mapping, Path)>,
    metrics: Vec<(&'r Value, Path)>,
    notable: bool,
    go_on: bool,
    help: &'r str,
    seen: bool,
    examples: Vec<(&'r Value, Path)>,
}

impl<'r> Parts<'r> {
    fn alone(rule: &'r RuleFile, event: &'r str, path: Path) -> Self {
        let items = |values: &'r [Value], key: &str| {
            let at = path.then(key);
            let places = (0..values.len()).map(|index| at.then(index));
            values.iter().zip(places).collect()
        };
        Self {
            event,
            program: rule.program.as_ref().map(|it| (it, path.then("program"))),
            templates: rule.templates.as_ref().map(|it| (it, path.then("match"))),
            regex: rule.regex.as_ref().map(|it| (it, path.then("regex"))),
            ignore_case: rule.ignore_case.unwrap_or_default(),
            when: rule.when.iter().map(|it| (it, path.then("when"))).collect(),
            lets: rule.lets.iter().map(|it| (it, path.then("let"))).collect(),
            metrics: items(&rule.metrics, "metrics"),
            notable: rule.notable.unwrap_or_default(),
            go_on: rule.go_on.unwrap_or_default(),
            help: rule.help.as_deref().unwrap_or_default(),
            seen: matches!(rule.layout, Some(LayoutWord::Seen)),
            examples: items(&rule.examples, "examples"),
            path,
        }
    }

    fn member(
        family: &'r RuleFile,
        member: &'r RuleFile,
        event: &'r str,
        at: &Path,
        path: Path,
    ) -> Self {
        let mut parts = Parts::alone(family, event, at.clone());
        let own = Parts::alone(member, event, path);
        parts.path = own.path;
        parts.program = own.program.or(parts.program);
        parts.templates = own.templates;
        parts.regex = own.regex;
        parts.ignore_case = member.ignore_case.unwrap_or(parts.ignore_case);
        parts.when.extend(own.when);
        parts.lets.extend(own.lets);
        parts.metrics.extend(own.metrics);
        parts.notable = member.notable.unwrap_or(parts.notable);
        parts.go_on = member.go_on.unwrap_or(parts.go_on);
        if member.help.is_some() {
            parts.help = own.help;
        }
        if member.layout.is_some() {
            parts.seen = own.seen;
        }
        parts.examples = own.examples;
        parts
    }
}

fn patterns(
    parts: &Parts<'_>,
    is_checked: bool,
    scene: &mut Scene<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Pattern> {
    let mut patterns = Vec::with_capacity(1);
    let (written, at, regex) = match (&parts.templates, &parts.regex) {
        (Some((written, at)), None) => (written, at, false),
        (None, Some((written, at))) => (written, at, true),
        (Some(_), Some(_)) => {
            problems.value(&parts.path, "a rule has `match` or `regex`, not both", None);
            return patterns;
        }
        (None, None) => {
            problems.value(&parts.path, "a rule needs `match` or `regex`", None);
            return patterns;
        }
    };
    let variable = |name: &str, boundless: bool, scene: &mut Scene<'_>| match scene
        .variables
        .iter()
        .position(|known| known == name)
    {
        Some(index) => index,
        None => {
            scene.variables.push(name.to_owned());
            scene.used.push(false);
            scene.boundless.push(boundless);
            scene.variables.len() - 1
        }
    };
    for (index, text) in written.texts().into_iter().enumerate() {
        let at = if written.is_list() {
            at.then(index)
        } else {
            at.clone()
        };
        if regex {
            let source = format!("(?{}s-u){text}", if parts.ignore_case { "i" } else { "" });
            match regex_groups(&source, is_checked) {
                Ok(groups) => {
                    let variables = groups
                        .into_iter()
                        .map(|group| group.map(|name| variable(&name, false, scene)))
                        .collect();
                    patterns.push(Pattern::Regex {
                        source: source.into(),
                        variables,
                    });
                }
                Err(message) => problems.value(&at, message, None),
            }
            continue;
        }
        match Template::parse(text) {
            Ok(template) => {
                let variables = template
                    .captures
                    .iter()
                    .map(|capture| {
                        let boundless = text.contains(&format!("{{{}:rest}}", capture.name));
                        variable(&capture.name, boundless, scene)
                    })
                    .collect();
                patterns.push(Pattern::Template {
                    template: template.into(),
                    ignore_case: parts.ignore_case,
                    variables,
                });
            }
            Err(error) => problems.value(&at, error.message, error.hint),
        }
    }
    patterns
}

/// The names of a regular expression's groups, in order, without the whole match. Whether the expression has a meaning and
/// fits the size limit is not looked at if somebody has done so.
fn regex_groups(source: &str, is_checked: bool) -> Result<Vec<Option<String>>, String> {
    use regex_automata::nfa::thompson::{Config, NFA};
    let fault = |message: String| {
        // The last line says what is wrong.
        let last = message.lines().last().unwrap_or_default();
        format!(
            "invalid regular expression: {}",
            last.trim_start_matches("error: ")
        )
    };
    if !is_checked {
        let syntax = regex_automata::util::syntax::Config::new()
            .unicode(false)
            .utf8(false);
        let hir = regex_automata::util::syntax::parse_with(source, &syntax)
            .map_err(|error| fault(error.to_string()))?;
        NFA::compiler()
            .configure(Config::new().utf8(false).nfa_size_limit(Some(1 << 20)))
            .build_from_hir(&hir)
            .map_err(|error| fault(error.to_string()))?;
    }
    let ast = ast::parse::Parser::new()
        .parse(source)
        .map_err(|error| fault(error.to_string()))?;
    let mut groups = Vec::new();
    name_groups(&ast, &mut groups);
    Ok(groups)
}

/// Puts the name of every group at its place.
fn name_groups(ast: &Ast, groups: &mut Vec<Option<String>>) {
    match ast {
        Ast::Group(group) => {
            if let Some(index) = group.capture_index() {
                let place = index.saturating_sub(1) as usize;
                if groups.len() <= place {
                    groups.resize(place + 1, None);
                }
                if let GroupKind::CaptureName { name, .. } = &group.kind {
                    groups[place] = Some(name.name.clone());
                }
            }
            name_groups(&group.ast, groups);
        }
        Ast::Repetition(repetition) => name_groups(&repetition.ast, groups),
        Ast::Concat(concat) => concat
            .asts
            .iter()
            .for_each(|part| name_groups(part, groups)),
        Ast::Alternation(either) => either
            .asts
            .iter()
            .for_each(|part| name_groups(part, groups)),
        _ => {}
    }
}

fn condition(
    (key, value): (&Value, &Value),
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<When> {
    let key = key.as_str()?;
    let at = path.then(key);
    if key == "test" {
        return problems.decode::<bool>(value, &at).map(When::Test);
    }
    const FIELDS: [(&str, HeaderField); 5] = [
        ("facility", HeaderField::Facility),
        ("app_severity", HeaderField::AppSeverity),
        ("code", HeaderField::Code),
        ("tag", HeaderField::Tag),
        ("host", HeaderField::Host),
    ];
    let field = FIELDS.iter().find(|(name, _)| *name == key);
    if field.is_none() && key != "severity" {
        let known = FIELDS
            .iter()
            .map(|(name, _)| *name)
            .chain(["severity", "test"]);
        problems.key(
            &at,
            "no such header field",
            nearest(key, known)
                .map(|near| format!("did you mean `{near}`?"))
                .or_else(|| {
                    Some("severity, facility, app_severity, code, tag, host or test".into())
                }),
        );
        return None;
    }
    let values = problems.decode::<OneOrMany>(value, &at)?;
    let Some((_, field)) = field else {
        let mut severities = Vec::new();
        for word in values.texts() {
            match Severity::parse(word.as_bytes()) {
                Some(severity) => severities.push(severity),
                None => problems.value(
                    &at,
                    format!("`{word}` is no severity"),
                    Some("emerg, alert, crit, err, warning, notice, info or debug".into()),
                ),
            }
        }
        return Some(When::Severity(severities));
    };
    let values = values
        .texts()
        .into_iter()
        .map(|value| match value.strip_suffix('*') {
            Some(prefix) => (prefix.to_ascii_lowercase(), true),
            None => (value.to_ascii_lowercase(), false),
        })
        .collect();
    Some(When::Field(*field, values))
}

fn make(
    value: &Value,
    path: &Path,
    scene: &mut Scene<'_>,
    problems: &mut Problems<'_>,
) -> Option<Let> {
    if !value.is_mapping() {
        let Scalar(text) = problems.decode(value, path)?;
        return scene.text(&text, path, problems).map(Let::Text);
    }
    let file = problems.decode::<LetFile>(value, path)?;
    let comparisons = [
        ("le", Comparison::Le, file.le),
        ("lt", Comparison::Lt, file.lt),
        ("ge", Comparison::Ge, file.ge),
        ("gt", Comparison::Gt, file.gt),
        ("eq", Comparison::Eq, file.eq),
        ("ne", Comparison::Ne, file.ne),
    ];
    let mut found = Vec::new();
    for (key, comparison, operands) in comparisons {
        if let Some([left, right]) = operands {
            let at = path.then(key);
            let left = scene.text(&left.0, &at.then(0), problems)?;
            let right = scene.text(&right.0, &at.then(1), problems)?;
            found.push(Let::Compare(comparison, left, right));
        }
    }
    if let Some(names) = file.param {
        found.push(Let::Param(
            names.texts().into_iter().map(str::to_owned).collect(),
        ));
    }
    if let Some(texts) = file.first {
        let at = path.then("first");
        let mut parsed = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            parsed.push(scene.text(&text.0, &at.then(index), problems)?);
        }
        found.push(Let::First(parsed));
    }
    if found.len() != 1 {
        problems.value(
            path,
            "a `let` is made in one way",
            Some("a text, or one of le, lt, ge, gt, eq, ne, param, first".into()),
        );
        return None;
    }
    found.pop()
}

fn example(
    document: &Document,
    value: &Value,
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<Example> {
    let file = problems.decode::<ExampleFile>(value, path)?;
    let at = place(document, path);
    let positive = |lines: Vec<String>| Example::Lines {
        lines,
        samples: file.samples.clone(),
        at: at.clone(),
    };
    match (file.line.clone(), file.lines.clone(), file.not.clone()) {
        (Some(line), None, None) => Some(positive(vec![line])),
        (None, Some(lines), None) if !lines.is_empty() => Some(positive(lines)),
        (None, None, Some(line)) if file.samples.is_empty() => Some(Example::Not { line, at }),
        _ => {
            problems.value(
                path,
                "an example has `line`, `lines` or `not`, one of them",
                None,
            );
            None
        }
    }
}

/// Where a value stands, for faults that show only when the rules run. Worked out when asked, since it is dear.
fn place(document: &Document, path: &Path) -> Place {
    Place {
        file: document.file.clone(),
        text: document.text.clone(),
        path: path.clone(),
    }
}

fn duration(text: &str) -> Option<u32> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    text[..text.len() - 1]
        .parse::<u32>()
        .ok()?
        .checked_mul(unit)
}
