//! Why did no rule match? The rule that came nearest, and where it parted from the message. For those who write rules; slow.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::record::Record;
use crate::rules::{Capture, Class, Pattern, Piece, Rule, RuleSet, Scope, Template, looked_at};

/// How far the nearest rule came.
struct Nearest<'r> {
    rule: &'r Rule,
    /// What it wanted next; nothing if the message matches and only the header does not.
    expected: Option<String>,
    /// Where in the message it parted, in bytes.
    at: usize,
}

/// The rule that came nearest to a record that none matches, and why it did not match.
pub fn nearest(rules: &RuleSet, record: &Record<'_>) -> Option<String> {
    let Nearest { rule, expected, at } = nearest_rule(rules, record)?;
    let rule = &rule.id;
    let Some(expected) = expected else {
        return Some(format!(
            "{rule} matches the message, but its conditions on the header do not hold"
        ));
    };
    let rest = String::from_utf8_lossy(record.message.get(at..).unwrap_or_default());
    let rest: String = rest.chars().take(40).collect();
    Some(format!(
        "{rule} wants {expected} at byte {at} of the message, where `{rest}` stands"
    ))
}

/// The rule whose pattern covers most of a message that no rule matches; none if nothing agrees with it.
fn nearest_rule<'r>(rules: &'r RuleSet, record: &Record<'_>) -> Option<Nearest<'r>> {
    let mut best: Option<(usize, Nearest<'r>)> = None;
    for rule in &rules.rules {
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
            let (weight, at, expected) = reach(template, *ignore_case, looked_at(record.message));
            // A rule that matches and is kept out by its conditions is as near as can be.
            let kept_out = expected.is_none() && !rule.when.iter().all(|when| when.holds(record));
            if expected.is_none() && !kept_out {
                continue;
            }
            if weight > 0 && best.as_ref().is_none_or(|(known, _)| weight > *known) {
                best = Some((weight, Nearest { rule, expected, at }));
            }
        }
    }
    best.map(|(_, nearest)| nearest)
}

/// How many bytes of literal text the longest beginning of the template that fits covers, where in the message it ends,
/// and what comes next in the template.
fn reach(template: &Template, ignore_case: bool, message: &[u8]) -> (usize, usize, Option<String>) {
    let pieces = &template.pieces;
    // Where a longer beginning fits, a shorter one does, too.
    let (mut count, mut end) = (0, 0);
    while count < pieces.len()
        && let Some(at) = end_of(template, count + 1, ignore_case, message)
    {
        (count, end) = (count + 1, at);
    }
    let weight = pieces[..count].iter().map(weight).sum();
    (weight, end, pieces.get(count).map(describe))
}

/// Where in the message so many pieces end, if it begins with them; all of them must reach its end.
fn end_of(template: &Template, count: usize, ignore_case: bool, message: &[u8]) -> Option<usize> {
    let mut part = Template {
        pieces: template.pieces[..count].to_vec(),
        captures: template.captures.clone(),
    };
    let is_whole = count == template.pieces.len();
    if !is_whole {
        part.pieces
            .push(Piece::Capture(part.captures.len(), vec![Piece::Rest]));
        part.captures.push(Capture {
            name: "rest".to_owned(),
            one_of: None,
            numeric: false,
        });
    }
    let regex = Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build(&format!("^{}", part.to_regex(ignore_case)))
        .ok()?;
    let mut captures = regex.create_captures();
    regex.captures(message, &mut captures);
    // There are no groups without a match.
    let last = captures.group_len().checked_sub(1)?;
    match is_whole {
        true => Some(message.len()),
        false => Some(captures.get_group(last)?.start),
    }
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
