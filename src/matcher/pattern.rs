//! One pattern of a rule, ready to run: a template or a regular expression, and what is known of it before it runs.

use std::borrow::Cow;
use std::sync::OnceLock;

use memchr::memmem::Finder;
use regex_automata::meta::Regex;

use super::prefixes;
use super::regex::linear;
use super::vm::{self, ABSENT, FirstSet, Outcome, Scratch, Span, TemplateVm};
use crate::rules::{Pattern, Piece};

#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) pattern: Pattern,
    /// Of a template; made when a message may match.
    vm: OnceLock<TemplateVm>,
    /// Made when a message may match a regular expression, or spends the budget on a template.
    regex: OnceLock<Option<Regex>>,
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
    pub(super) fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            vm: OnceLock::new(),
            regex: OnceLock::new(),
        }
    }

    /// See [`prefixes`].
    pub(super) fn prefixes(&self) -> Vec<Vec<u8>> {
        match &self.pattern {
            Pattern::Template { template, .. } => prefixes::of_template(template),
            Pattern::Regex { source, .. } => prefixes::of_regex(source),
        }
    }

    /// The bytes that a matching message may end with.
    pub(super) fn last(&self) -> FirstSet {
        match &self.pattern {
            Pattern::Template {
                template,
                ignore_case,
                ..
            } => vm::last_of_all(&template.pieces, *ignore_case, FirstSet::END),
            Pattern::Regex { .. } => FirstSet::full(),
        }
    }

    /// What every matching message holds behind the text that the pattern begins with; none if that is not known.
    pub(super) fn required(&self) -> Option<RequiredText> {
        let Pattern::Template {
            template,
            ignore_case: false,
            ..
        } = &self.pattern
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
    pub(super) fn source(&self) -> Cow<'_, str> {
        match &self.pattern {
            Pattern::Template {
                template,
                ignore_case,
                ..
            } => Cow::Owned(template.to_regex(*ignore_case)),
            Pattern::Regex { source, .. } => Cow::Borrowed(source),
        }
    }

    /// The pattern in an engine that costs linear time.
    ///
    /// # Errors
    /// As [`linear`].
    pub(super) fn linear(&self) -> Result<Regex, String> {
        linear(&format!("^(?:{})", self.source()))
    }

    /// Makes a regular expression now, which may be too large.
    ///
    /// # Errors
    /// As [`linear`].
    pub(super) fn prepare(&self) -> Result<(), String> {
        if let Pattern::Regex { .. } = self.pattern {
            let made = self.linear()?;
            self.regex.get_or_init(|| Some(made));
        }
        Ok(())
    }

    /// `spans`, by variable and all of them [`ABSENT`], are meaningful only after a match.
    #[inline(always)] // Most of its cost is to call it.
    pub(super) fn captures(
        &self,
        message: &[u8],
        spans: &mut [Span],
        scratch: &mut Scratch,
    ) -> bool {
        if let Pattern::Template {
            template,
            ignore_case,
            variables,
        } = &self.pattern
        {
            let make = || TemplateVm::new(template, *ignore_case, variables);
            match self.vm.get_or_init(make).run(message, spans, scratch) {
                Outcome::NotMatched => return false,
                Outcome::Matched => return true,
                Outcome::BudgetExceeded => {}
            }
        }
        self.in_linear_time(message, spans, scratch)
    }

    #[inline(never)]
    fn in_linear_time(&self, message: &[u8], spans: &mut [Span], scratch: &mut Scratch) -> bool {
        scratch.add_cost(20 * message.len());
        let Some(regex) = self.regex.get_or_init(|| self.linear().ok()) else {
            return false;
        };
        let mut captures = regex.create_captures();
        regex.captures(message, &mut captures);
        if !captures.is_match() {
            return false;
        }
        spans.fill(ABSENT);
        for group in 1..captures.group_len() {
            let variable = match &self.pattern {
                Pattern::Template { variables, .. } => Some(variables[group - 1]),
                Pattern::Regex { variables, .. } => variables[group - 1],
            };
            if let (Some(variable), Some(span)) = (variable, captures.get_group(group)) {
                // The same name may be in several alternatives; the one that took part counts.
                spans[variable] = (span.start as u32, span.end as u32);
            }
        }
        true
    }
}
