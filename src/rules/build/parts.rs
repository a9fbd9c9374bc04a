//! A rule as written, alone or as a member of a family.

use serde_yaml::{Mapping, Value};

use crate::diagnostic::Path;
use crate::rules::file::{LayoutWord, OneOrMany, RuleFile};

/// A rule as written, its family folded in, each part with its place.
pub(super) struct MergedRule<'r> {
    pub event: &'r str,
    pub path: Path,
    pub program: Option<(&'r OneOrMany, Path)>,
    pub templates: Option<(&'r OneOrMany, Path)>,
    pub regex: Option<(&'r OneOrMany, Path)>,
    pub ignore_case: bool,
    pub when: Vec<(&'r Mapping, Path)>,
    pub lets: Vec<(&'r Mapping, Path)>,
    pub metrics: Vec<(&'r Value, Path)>,
    pub attempts: Vec<(&'r Value, Path)>,
    pub notable: bool,
    pub go_on: bool,
    pub help: &'r str,
    pub seen: bool,
    pub examples: Vec<(&'r Value, Path)>,
}

impl<'r> MergedRule<'r> {
    pub(super) fn alone(rule: &'r RuleFile, event: &'r str, path: Path) -> Self {
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
            attempts: items(&rule.attempts, "attempts"),
            notable: rule.notable.unwrap_or_default(),
            go_on: rule.go_on.unwrap_or_default(),
            help: rule.help.as_deref().unwrap_or_default(),
            seen: matches!(rule.layout, Some(LayoutWord::Seen)),
            examples: items(&rule.examples, "examples"),
            path,
        }
    }

    pub(super) fn member(
        family: &'r RuleFile,
        member: &'r RuleFile,
        event: &'r str,
        at: &Path,
        path: Path,
    ) -> Self {
        let mut parts = MergedRule::alone(family, event, at.clone());
        let own = MergedRule::alone(member, event, path);
        parts.path = own.path;
        parts.program = own.program.or(parts.program);
        parts.templates = own.templates;
        parts.regex = own.regex;
        parts.ignore_case = member.ignore_case.unwrap_or(parts.ignore_case);
        parts.when.extend(own.when);
        parts.lets.extend(own.lets);
        parts.metrics.extend(own.metrics);
        parts.attempts.extend(own.attempts);
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
