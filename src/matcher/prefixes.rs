//! The literal texts that a pattern may begin with: what a [`Selector`](super::select::Selector) tells patterns apart by.

use regex_syntax::hir::literal::Extractor;

use super::regex::syntax;
use crate::rules::{Piece, Template};

/// Longest prefix of a pattern, bytes without blanks.
pub(super) const PREFIX_BYTES_MAX: usize = 24;

/// Prefixes of one pattern; one with more has those before its choice.
const PREFIXES_MAX: usize = 32;

/// A byte as prefixes have it; none if they drop it. Of a no-break space both bytes are dropped, wherever they stand.
pub(super) fn canonical(byte: u8) -> Option<u8> {
    match byte {
        b' ' | b'\t' | 0xC2 | 0xA0 => None,
        byte => Some(byte.to_ascii_lowercase()),
    }
}

/// Those of a template, at least one, if only an empty one.
pub(super) fn of_template(template: &Template) -> Vec<Vec<u8>> {
    let (mut open, mut done) = (vec![Vec::new()], Vec::new());
    extend(&template.pieces, &mut open, &mut done);
    done.append(&mut open);
    done
}

/// Appends what pieces begin with to the prefixes that are open, and moves those that end to those that are done.
fn extend(pieces: &[Piece], open: &mut Vec<Vec<u8>>, done: &mut Vec<Vec<u8>>) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => open.iter_mut().for_each(|prefix| append(prefix, text)),
            Piece::Blanks { .. } => {}
            Piece::Capture(_, inner) => extend(inner, open, done),
            Piece::Choice(options) => {
                let (mut longer, mut ended) = (Vec::new(), Vec::new());
                for option in options {
                    let mut own = open.clone();
                    extend(option, &mut own, &mut ended);
                    longer.append(&mut own);
                }
                if longer.len() + ended.len() + done.len() > PREFIXES_MAX {
                    return done.append(open);
                }
                *open = longer;
                done.append(&mut ended);
            }
            Piece::Run { .. } | Piece::Quad | Piece::Lazy | Piece::Rest => {
                return done.append(open);
            }
        }
    }
}

fn append(prefix: &mut Vec<u8>, text: &[u8]) {
    let space = PREFIX_BYTES_MAX.saturating_sub(prefix.len());
    prefix.extend(text.iter().copied().filter_map(canonical).take(space));
}

/// Those of a regular expression as it was written, without an anchor.
pub(super) fn of_regex(regex: &str) -> Vec<Vec<u8>> {
    let hir = regex_automata::util::syntax::parse_with(regex, &syntax()).ok();
    let found = hir.map(|hir| Extractor::new().extract(&hir));
    let literals = found.as_ref().and_then(|found| found.literals());
    let prefix = |literal: &[u8]| {
        let mut prefix = Vec::new();
        append(&mut prefix, literal);
        prefix
    };
    let mut prefixes: Vec<Vec<u8>> = (literals.unwrap_or_default().iter())
        .map(|literal| prefix(literal.as_bytes()))
        .collect();
    prefixes.sort();
    prefixes.dedup();
    match prefixes.len() {
        1..=PREFIXES_MAX => prefixes,
        _ => vec![Vec::new()],
    }
}
