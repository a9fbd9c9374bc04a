//! One pattern of a rule, ready to run: a template or a regular expression, and what is known of it before it runs.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use memchr::memmem::Finder;
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

use super::prefix::{Prefix, Prefixes};
use super::regex::{Search, fill, linear};
use super::vm::{self, ABSENT, FirstSet, Outcome, Scratch, Span, TemplateVm};
use crate::rules::{Pattern, Piece, Template};

#[derive(Debug)]
pub(super) enum Compiled {
    Template {
        template: Arc<Template>,
        ignore_case: bool,
        variables: Arc<[usize]>,
        /// Made when a message may match.
        vm: OnceLock<TemplateVm>,
        /// For messages that spend the budget; made when there is one.
        fallback: OnceLock<Option<Regex>>,
    },
    Regex {
        source: Arc<str>,
        variables: Arc<[Option<usize>]>,
        /// Made when a message may match, or before if it may be too large.
        search: OnceLock<Option<Search>>,
    },
}

/// A text that every matching message holds. To look for it costs a fraction of a template that is tried in vain.
#[derive(Debug)]
pub(super) enum RequiredText {
    /// Behind the first word and the blanks that follow it.
    SecondWord(Box<[u8]>),
    Anywhere(Box<Finder<'static>>),
}

/// What stands behind the first word and the blanks that follow it. None if that depends on how a no-break space is taken.
pub(super) fn behind_first_word(message: &[u8]) -> Option<&[u8]> {
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | 0xC2);
    let len = message.iter().position(is_end).unwrap_or(message.len());
    let rest = &message[len..];
    (rest.first() != Some(&0xC2)).then(|| &rest[vm::blanks(rest)..])
}

impl Compiled {
    pub(super) fn prefixes(&self) -> Vec<Prefix> {
        match self {
            Compiled::Template { template, .. } => Prefixes::of_template(template),
            Compiled::Regex { source, .. } => Prefixes::of_regex(source),
        }
    }

    /// The bytes that a matching message may end with.
    pub(super) fn last(&self) -> FirstSet {
        match self {
            Compiled::Template {
                template,
                ignore_case,
                ..
            } => vm::last_of_all(&template.pieces, *ignore_case, FirstSet::END),
            Compiled::Regex { .. } => FirstSet::full(),
        }
    }

    /// What every matching message holds behind the text that the pattern begins with; none if that is not known.
    pub(super) fn required(&self) -> Option<RequiredText> {
        let Compiled::Template {
            template,
            ignore_case: false,
            ..
        } = self
        else {
            return None;
        };
        let pieces = &template.pieces;
        let word = pieces
            .iter()
            .take_while(|piece| vm::is_without_blanks(piece));
        if let [first, ..] = pieces.as_slice()
            && !matches!(first, Piece::Text(_))
            && let [Piece::Blanks { required: true }, Piece::Text(text), ..] =
                &pieces[word.count()..]
        {
            return Some(RequiredText::SecondWord(text.as_slice().into()));
        }
        let is_fixed = |piece: &&Piece| matches!(piece, Piece::Text(_) | Piece::Blanks { .. });
        let texts = (pieces.iter().skip_while(is_fixed)).filter_map(|piece| match piece {
            Piece::Text(text) if text.len() > 1 => Some(text),
            _ => None,
        });
        let longest = texts.max_by_key(|text| text.len())?;
        let finder = Finder::new(longest).into_owned();
        Some(RequiredText::Anywhere(Box::new(finder)))
    }

    /// The pattern as an unanchored regular expression; the caller anchors it.
    pub(super) fn regex(&self) -> Cow<'_, str> {
        match self {
            Compiled::Template {
                template,
                ignore_case,
                ..
            } => Cow::Owned(template.to_regex(*ignore_case)),
            Compiled::Regex { source, .. } => Cow::Borrowed(source),
        }
    }

    /// `spans`, by variable and all of them [`ABSENT`], are meaningful only after a match; `end` is where the match ends,
    /// if that is known.
    #[inline(always)] // Most of its cost is to call it.
    pub(super) fn captures(
        &self,
        message: &[u8],
        end: Option<usize>,
        spans: &mut [Span],
        scratch: &mut Scratch,
        captures: &mut Captures,
    ) -> bool {
        let outcome = match self {
            Compiled::Template {
                template,
                ignore_case,
                variables,
                vm,
                ..
            } => vm
                .get_or_init(|| TemplateVm::new(template, *ignore_case, variables))
                .run(message, spans, scratch),
            Compiled::Regex {
                source,
                variables,
                search,
            } => {
                return search
                    .get_or_init(|| Search::new(source, variables).ok())
                    .as_ref()
                    .is_some_and(|search| {
                        search.captures(message, end, variables, spans, captures)
                    });
            }
        };
        match outcome {
            Outcome::NotMatched => false,
            Outcome::Matched => true,
            Outcome::BudgetExceeded => self.over_budget(message, spans, scratch, captures),
        }
    }

    /// Rare, and still linear: a message made to spend the budget.
    #[cold]
    fn over_budget(
        &self,
        message: &[u8],
        spans: &mut [Span],
        scratch: &mut Scratch,
        captures: &mut Captures,
    ) -> bool {
        let Compiled::Template {
            template,
            ignore_case,
            variables,
            fallback,
            ..
        } = self
        else {
            return false;
        };
        scratch.add_cost(20 * message.len());
        let make = || linear(&format!("^{}", template.to_regex(*ignore_case))).ok();
        let named = variables.iter().map(|variable| Some(*variable));
        spans.fill(ABSENT);
        let regex = fallback.get_or_init(make).as_ref();
        regex.is_some_and(|regex| fill(regex, message, named, spans, captures))
    }
}

impl From<&Pattern> for Compiled {
    fn from(pattern: &Pattern) -> Self {
        match pattern {
            Pattern::Template {
                template,
                ignore_case,
                variables,
            } => Compiled::Template {
                template: template.clone(),
                ignore_case: *ignore_case,
                variables: variables.clone(),
                vm: OnceLock::new(),
                fallback: OnceLock::new(),
            },
            Pattern::Regex { source, variables } => Compiled::Regex {
                source: source.clone(),
                variables: variables.clone(),
                search: OnceLock::new(),
            },
        }
    }
}
