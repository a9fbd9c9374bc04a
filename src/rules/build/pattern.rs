//! `match` and `regex` of a rule, and the variables that they capture.

use regex_syntax::ast::{self, Ast, GroupKind};

use super::parts::MergedRule;
use super::scene::RuleScope;
use crate::diagnostic::Problems;
use crate::rules::{Pattern, REGEX_BYTES_MAX, Template};

pub(super) fn patterns(
    parts: &MergedRule<'_>,
    is_checked: bool,
    scene: &mut RuleScope<'_>,
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
    let variable = |name: &str, boundless, scene: &mut RuleScope<'_>| {
        let known = scene.variables.iter().position(|known| known == name);
        known.unwrap_or_else(|| scene.add(name, boundless))
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
            .configure(
                Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(REGEX_BYTES_MAX)),
            )
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
