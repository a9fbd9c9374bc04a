//! Why did no rule match? The rule that came nearest, and where it parted from the message. For `explain` alone; slow.

use super::vm::{ABSENT, Outcome, Scratch, TemplateVm};
use super::{Matcher, holds, looked_at};
use crate::record::Record;
use crate::rules::{Capture, Class, Pattern, Piece, RuleId, RuleSet, Scope, Template};

/// How far the nearest rule came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nearest {
    /// The rule.
    pub rule: RuleId,
    /// What it wanted next; nothing if the message matches and only the header does not.
    pub expected: Option<String>,
    /// Where in the message it parted, in bytes.
    pub at: usize,
}

impl Matcher {
    /// The rule whose pattern covers most of a message that no rule matches; none if nothing agrees with it.
    pub(crate) fn nearest(&self, rules: &RuleSet, record: &Record<'_>) -> Option<Nearest> {
        let mut best: Option<(usize, Nearest)> = None;
        for (rule, id) in rules.rules.iter().zip(0..) {
            let in_scope = match &rule.scope {
                Scope::Programs(programs) => record
                    .program_id
                    .is_some_and(|program| programs.contains(&usize::from(program.0))),
                Scope::Every => true,
                Scope::Nameless => record.program.is_empty(),
            };
            if !in_scope {
                continue;
            }
            for pattern in &rule.patterns {
                let Pattern::Template {
                    template,
                    ignore_case,
                    ..
                } = pattern
                else {
                    continue;
                };
                let (weight, at, expected) =
                    reach(template, *ignore_case, looked_at(record.message));
                // A rule that matches and is kept out by its conditions is as near as can be.
                let kept_out =
                    expected.is_none() && !rule.when.iter().all(|when| holds(when, record));
                if expected.is_none() && !kept_out {
                    continue;
                }
                if weight > 0 && best.as_ref().is_none_or(|(known, _)| weight > *known) {
                    let nearest = Nearest {
                        rule: RuleId(id),
                        expected,
                        at,
                    };
                    best = Some((weight, nearest));
                }
            }
        }
        best.map(|(_, nearest)| nearest)
    }
}

impl Nearest {
    /// What a human is told who asks why no rule matches.
    pub(crate) fn describe(&self, rules: &RuleSet, record: &Record<'_>) -> String {
        let rule = &rules.rules[self.rule.0 as usize].id;
        let Some(expected) = &self.expected else {
            return format!(
                "{rule} matches the message, but its conditions on the header do not hold"
            );
        };
        let rest = String::from_utf8_lossy(record.message.get(self.at..).unwrap_or_default());
        let rest: String = rest.chars().take(40).collect();
        let at = self.at;
        format!("{rule} wants {expected} at byte {at} of the message, where `{rest}` stands")
    }
}

/// How many bytes of literal text the longest beginning of the template that fits covers, where in the message it ends,
/// and what comes next in the template.
fn reach(template: &Template, ignore_case: bool, message: &[u8]) -> (usize, usize, Option<String>) {
    for count in (0..=template.pieces.len()).rev() {
        let mut pieces = template.pieces[..count].to_vec();
        // The whole must reach the end; a part is followed by anything.
        let number = template.captures.len();
        if count < template.pieces.len() {
            pieces.push(Piece::Capture(number, vec![Piece::Rest]));
        }
        let mut captures = template.captures.clone();
        captures.push(Capture {
            name: "rest".to_owned(),
            one_of: None,
            numeric: false,
        });
        let mut spans = vec![ABSENT; captures.len()];
        let part = Template { pieces, captures };
        let variables: Vec<usize> = (0..spans.len()).collect();
        let vm = TemplateVm::new(&part, ignore_case, &variables);
        let mut scratch = Scratch::default();
        scratch.start(message);
        let outcome = vm.run(message, &mut spans, &mut scratch);
        if outcome == Outcome::Matched {
            let weight = template.pieces[..count].iter().map(weight).sum();
            let at = match spans[number] {
                ABSENT => message.len(),
                (start, _) => start as usize,
            };
            return (weight, at, template.pieces.get(count).map(describe));
        }
    }
    // Unreachable: a template without pieces is followed by anything.
    (0, 0, template.pieces.first().map(describe))
}

/// Literal text says more about a message than a placeholder.
fn weight(piece: &Piece) -> usize {
    match piece {
        Piece::Text(text) => text.len(),
        Piece::Capture(_, inner) => inner.iter().map(weight).sum(),
        _ => 0,
    }
}

fn describe(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => format!("`{}`", String::from_utf8_lossy(text)),
        Piece::Blanks { .. } => "a blank".to_owned(),
        Piece::Run { class, .. } => match class {
            Class::Digit | Class::Sign => "a number",
            Class::Hex | Class::X => "a hexadecimal number",
            Class::Ip6 => "an address",
            Class::Name => "a name",
            Class::Word => "a word",
            Class::Unquoted => "text in quotes",
            Class::PortMark => "a port",
        }
        .to_owned(),
        Piece::Quad => "an address".to_owned(),
        Piece::Lazy => "a text".to_owned(),
        Piece::Rest => "the end".to_owned(),
        Piece::Choice(options) => {
            let options: Vec<String> = options
                .iter()
                .filter_map(|option| {
                    option
                        .iter()
                        .find(|piece| !matches!(piece, Piece::Blanks { .. }))
                })
                .map(describe)
                .collect();
            options.join(" or ")
        }
        Piece::Capture(_, inner) => inner.first().map_or_else(String::new, describe),
    }
}

#[cfg(test)]
mod tests {
    use super::reach;
    use crate::rules::Template;

    #[test]
    fn the_nearest_rule_says_where_it_parted() {
        for (template, message, expected) in [
            (
                "SEL is {n:int}% full",
                "SEL is 85 full",
                (5, 9, Some("`%`")),
            ),
            (
                "SEL is {n:int}% full",
                "SEL is so full",
                (5, 7, Some("a number")),
            ),
            ("SEL is {n:int}% full", "fan lost", (0, 0, Some("`SEL`"))),
            ("SEL is full", "SEL is full", (9, 11, None)),
            ("SEL is full", "SEL is fuller", (5, 7, Some("`full`"))),
        ] {
            let template = Template::parse(template).unwrap();
            let (weight, at, next) = reach(&template, false, message.as_bytes());
            assert_eq!((weight, at, next.as_deref()), expected, "{message}");
        }
    }
}
