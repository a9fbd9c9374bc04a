//! Long choices between texts, with what their options begin with in common written once.
//!
//! ```text
//! (Redundancy Lost|Ready|Redundancy Degraded|Reset)   →   (Re(dundancy (Lost|Degraded)|ady|set))
//! ```
//!
//! It matches what the choice matched, and prefers what it preferred. An engine that tries one option after the other, or
//! keeps a state for each of them, has less to do.

use super::piece::Piece;

/// A choice between so many options is left as it is.
const OPTIONS_MAX: usize = 8;

/// The same pieces, with long choices factored.
pub(super) fn factored(pieces: &[Piece]) -> Vec<Piece> {
    let factor = |piece: &Piece| match piece {
        Piece::Choice(options) => {
            let options = options.iter().map(|option| factored(option));
            Piece::Choice(factored_options(options.collect()))
        }
        Piece::Capture(number, inner) => Piece::Capture(*number, factored(inner)),
        piece => piece.clone(),
    };
    pieces.iter().map(factor).collect()
}

/// What an option begins with. Of options that begin with different ones at most one can match, so their order is free.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// A letter in either case, or another ASCII byte.
    Byte(u8),
    Blanks,
}

fn start(option: &[Piece]) -> Option<Start> {
    match option.first()? {
        Piece::Text(text) => {
            let first = text.first().filter(|byte| byte.is_ascii())?;
            Some(Start::Byte(first.to_ascii_lowercase()))
        }
        Piece::Blanks { required: true } => Some(Start::Blanks),
        _ => None,
    }
}

fn factored_options(options: Vec<Vec<Piece>>) -> Vec<Vec<Piece>> {
    if options.len() <= OPTIONS_MAX {
        return options;
    }
    let mut out = Vec::new();
    let mut options = options.into_iter().peekable();
    while let Some(option) = options.next() {
        let Some(first) = start(&option) else {
            out.push(option);
            continue;
        };
        // Up to an option that may match together with those before it.
        let mut groups = vec![(first, vec![option])];
        while let Some((start, option)) = options
            .next_if(|option| start(option).is_some())
            .and_then(|option| Some((start(&option)?, option)))
        {
            match groups.iter_mut().find(|(other, _)| *other == start) {
                Some((_, group)) => group.push(option),
                None => groups.push((start, vec![option])),
            }
        }
        out.extend(
            groups
                .into_iter()
                .flat_map(|(_, group)| factored_group(group)),
        );
    }
    out
}

/// Options that begin alike become one, if there is more than one.
fn factored_group(mut group: Vec<Vec<Piece>>) -> Vec<Vec<Piece>> {
    let common = common_start(&group);
    let Some(common) = common.filter(|_| group.len() > 1) else {
        return group;
    };
    for option in &mut group {
        match (&common, &mut option[0]) {
            (Piece::Text(common), Piece::Text(text)) if text.len() > common.len() => {
                text.drain(..common.len());
            }
            _ => drop(option.remove(0)),
        }
    }
    vec![vec![common, Piece::Choice(factored_options(group))]]
}

/// The piece that all begin with; none if they differ in their first byte.
fn common_start(group: &[Vec<Piece>]) -> Option<Piece> {
    let (first, others) = group.split_first()?;
    let Piece::Text(text) = first.first()? else {
        return first.first().cloned();
    };
    let shared = |other: &Vec<Piece>| match other.first() {
        Some(Piece::Text(other)) => text.iter().zip(other).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    let len = others.iter().map(shared).min().unwrap_or(text.len());
    (len > 0).then(|| Piece::Text(text[..len].to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::Template;
    use crate::rules::template::regex;

    #[test]
    fn what_options_begin_with_is_written_once() {
        let options =
            "redundancy lost|x1|Ready|x2|redundancy degraded|x3|reset|x|redundancy|é|x4|ready now";
        let template = Template::parse(&format!("{{t:({options})}}")).unwrap();
        let Piece::Capture(0, inner) = &factored(&template.pieces)[0] else {
            panic!("a capture");
        };
        let Piece::Choice(options) = &inner[0] else {
            panic!("a choice");
        };
        let starts: Vec<_> = options.iter().map(|option| &option[0]).collect();
        let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
        // Those in `r` differ in their first byte. `é` ends a run of options whose order is free.
        let expected = [
            "redundancy",
            "Ready",
            "redundancy",
            "reset",
            "redundancy",
            "x",
            "é",
            "x4",
            "ready",
        ]
        .map(text);
        assert_eq!(starts, expected.iter().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn a_factored_choice_matches_the_same_and_prefers_the_same(
            options in prop::collection::vec("[abA]{1,3}( [ab]{1,2})?|é|\u{a0}a", 9..40),
            message in "[abA é\u{a0}]{1,8}",
            ignore_case: bool,
        ) {
            let text = format!("x{{t:({})}}{{r}}", options.join("|"));
            let template = Template::parse(&text).unwrap();
            let run = |pieces: &[Piece]| {
                let regex = format!("^{}", regex(pieces, ignore_case));
                let config = regex_automata::util::syntax::Config::new().unicode(false).utf8(false);
                let regex = regex_automata::meta::Regex::builder().syntax(config).build(&regex).unwrap();
                let mut captures = regex.create_captures();
                let message = format!("x{message}");
                regex.captures(&message, &mut captures);
                [1, 2].map(|group| captures.get_group(group).map(|span| span.range()))
            };
            prop_assert_eq!(run(&template.pieces), run(&template.factored()));
        }
    }
}
