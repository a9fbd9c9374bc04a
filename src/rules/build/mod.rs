//! From packs as written to a checked rule set.

mod attempt;
mod clear;
mod condition;
mod metric;
mod parts;
mod pattern;
mod scene;
mod source;
mod update;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde_yaml::Mapping;

use self::attempt::attempt;
use self::condition::{condition, example, lets, place};
use self::parts::MergedRule;
use self::pattern::patterns;
use self::scene::{Maps, RuleScope};
pub(super) use self::source::Source;
use self::source::{LoadedPack, RawRule, compact, replace};
use super::file::{MetricFile, OneOrMany, RuleFile, Scalar, UpdateFile};
use super::template::is_name;
use super::{Map, Pack, Program, Rule, RuleSet, Scope, Settings};
use crate::diagnostic::{Diagnostic, Document, Path, Problems, nearest};

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
    let mut packs: Vec<LoadedPack> = Vec::new();
    let mut warnings = Vec::new();
    for (is_built_in, sources) in [(false, own), (true, built_in)] {
        let mut group: Vec<LoadedPack> = sources
            .into_iter()
            .filter_map(|source| LoadedPack::new(source, is_built_in, &mut faults))
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
        let mut report = Report {
            faults: Problems::new(&pack.document),
            lints: Problems::new(&pack.document),
        };
        // One at a time, so that what was read of it can go before the next.
        let written = pack.file.rules.into_iter().map(RawRule::Yaml);
        let rules = written.chain(pack.compact.iter().copied().map(RawRule::Compact));
        builder.rules(index, &pack.document, rules, maps, &mut report);
        faults.extend(report.faults.into_diagnostics());
        lints.extend(report.lints.into_diagnostics());
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

/// What is said about one document.
struct Report<'d> {
    /// What is wrong: the packs are refused.
    faults: Problems<'d>,
    /// What is allowed but not right.
    lints: Problems<'d>,
}

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

impl Builder<'_> {
    fn names(
        &mut self,
        index: usize,
        LoadedPack {
            document,
            file,
            is_built_in,
            ..
        }: &LoadedPack,
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
        let formats = super::format::formats(file, &programs, problems);
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

    fn rules(
        &mut self,
        pack: usize,
        document: &Document,
        rules: impl Iterator<Item = RawRule>,
        maps: &Maps,
        report: &mut Report<'_>,
    ) {
        let mut events: HashSet<String> = HashSet::new();
        let root = Path::root().then("rules");
        for (index, written) in rules.enumerate() {
            let path = root.then(index);
            let rule: Option<RuleFile> = match written {
                RawRule::Yaml(value) => report.faults.decode(&value, &path),
                RawRule::Compact(text) => compact(text, &path, &mut report.faults),
            };
            let Some(rule) = rule else { continue };
            let Some(entries) = &rule.events else {
                let Some(event) = &rule.event else {
                    report.faults.value(&path, "a rule needs an `event`", None);
                    continue;
                };
                let parts = MergedRule::alone(&rule, event, path);
                self.rule(pack, document, parts, maps, &mut events, report);
                continue;
            };
            if rule.event.is_some() || rule.templates.is_some() || rule.regex.is_some() {
                report.faults.value(
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
                    report
                        .faults
                        .decode::<OneOrMany>(value, &at)
                        .map(|templates| RuleFile {
                            templates: Some(templates),
                            ..RuleFile::default()
                        })
                } else {
                    report.faults.decode::<RuleFile>(value, &at)
                };
                let Some(member) = member else { continue };
                if member.event.is_some() || member.events.is_some() {
                    report
                        .faults
                        .value(&at, "a family's event is named by its key alone", None);
                }
                let parts = MergedRule::member(&rule, &member, event, &path, at);
                self.rule(pack, document, parts, maps, &mut events, report);
            }
        }
    }

    fn rule(
        &mut self,
        pack: usize,
        document: &Document,
        parts: MergedRule<'_>,
        maps: &Maps,
        events: &mut HashSet<String>,
        report: &mut Report<'_>,
    ) {
        let path = &parts.path;
        let event = parts.event;
        if !is_name(event) {
            report.faults.value(
                &path.then("event"),
                "invalid event name",
                Some("lower-case letters, digits and `_`".into()),
            );
        }
        if !events.insert(event.to_owned()) {
            report.faults.value(
                path,
                format!("another rule of this pack has the event `{event}`"),
                None,
            );
        }
        let scope = self.scope(&parts, pack, &mut report.faults);
        let mut scene = RuleScope {
            maps,
            variables: Vec::new(),
            used: Vec::new(),
            boundless: Vec::new(),
            is_broken: false,
        };
        let is_checked = self.set.packs[pack].is_built_in;
        let before = report.faults.len();
        let patterns = patterns(&parts, is_checked, &mut scene, &mut report.faults);
        scene.is_broken = report.faults.len() > before;
        let mut when = Vec::new();
        for (conditions, at) in &parts.when {
            when.extend(
                conditions
                    .iter()
                    .filter_map(|entry| condition(entry, at, &mut report.faults)),
            );
        }
        let mut lets = lets(&parts, &mut scene, &mut report.faults);
        let mut updates = Vec::with_capacity(parts.metrics.len());
        for (value, at) in &parts.metrics {
            if let Some(file) = report.faults.decode::<UpdateFile>(value, at) {
                updates.extend(self.update(&file, at, &mut scene, report));
            }
        }
        let name = self.set.packs[pack].name.clone();
        let attempts = (parts.attempts.iter())
            .filter_map(|(value, at)| attempt(value, at, &name, &mut scene, &mut report.faults))
            .collect();
        for (variable, used) in scene.variables.iter().zip(&scene.used) {
            if !used && !scene.is_broken {
                report.lints.value(
                    path,
                    format!("`{variable}` is captured and never used"),
                    Some("write `_` instead of the name".into()),
                );
            }
        }
        if self.with_examples && parts.examples.is_empty() {
            report.lints.value(
                path,
                "a rule without an example",
                Some("add a line under `examples`".into()),
            );
        }
        let mut examples = Vec::new();
        for (value, at) in &parts.examples {
            let example = example(document, value, at, &mut report.faults);
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
            attempts,
            notable: parts.notable,
            go_on: parts.go_on,
            help: parts.help.to_owned(),
            seen: parts.seen,
            examples,
            at,
        });
    }

    fn scope(&mut self, parts: &MergedRule<'_>, pack: usize, problems: &mut Problems<'_>) -> Scope {
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
}
