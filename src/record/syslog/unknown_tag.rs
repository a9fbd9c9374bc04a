//! A token that looks like the tag of a program which no pack names.

use super::{HeaderParser, Token};
use crate::record::bytes::{ends_token, skip_blanks, split_digits, split_token};
use crate::record::priority::{priority, words_of_priority};
use crate::record::stamp::stamp_len;
use crate::record::tag::{Shape, Tag, is_program_name, known};
use crate::record::{ProgramId, Programs, Record, host, junos, ontap};

/// The program of Clavister's cOS Stream.
const COS: &[u8] = b"cOS";

impl<'a> HeaderParser<'a, '_> {
    /// A token with a colon, bracket or parenthesis that is no known program.
    pub(super) fn unknown(
        &mut self,
        rest: &'a [u8],
        tag: Tag<'a>,
        record: &mut Record<'a>,
    ) -> Token<'a> {
        if let Some(event) = ontap::torn_bracket(rest) {
            return Token::Program(ontap::set(record, event, self.programs));
        }
        if tag.shape == Shape::Colon && junos::is_kmd_id(tag.name) {
            junos::set_without_process(record, tag.name, self.programs);
            return Token::Program(tag.rest);
        }
        let (token, after) = split_token(rest);
        if let Some(address) = host::address(token) {
            return self.host(address, after, record);
        }
        if let Some((facility, severity)) = words_of_priority(token) {
            record.facility = facility;
            record.severity = Some(severity);
            return Token::Continue(after);
        }
        if self.hosts == 0
            && self.stamped
            && let Some(name) = host::with_address(token, tag.name)
        {
            return self.host(name, after, record);
        }
        if let Some((id, name, message)) = tag_of_no_host(&tag, self.programs) {
            record.program = name;
            record.program_id = Some(id);
            return Token::Program(message);
        }
        // A collector that puts the sender's name before the message as it came: `gw1: <38>Feb 29 12:05:01 …`.
        if self.hosts == 0
            && tag.shape == Shape::Colon
            && host::is_plausible(tag.name)
            && self.prioritised_next(skip_blanks(tag.rest))
        {
            return self.host(tag.name, tag.rest, record);
        }
        if self.hosts == 0 && self.stamped && host::is_plausible(tag.name) {
            // Where the host stands, a pid that is parted by a blank is no part of a tag.
            if let Some(after) = rest.get(tag.name.len()..)
                && tag.shape == Shape::Pid
                && ends_token(after)
            {
                return self.host(tag.name, after, record);
            }
            let next = skip_blanks(tag.rest);
            let header_next = || {
                self.known_tag_next(next)
                    || ontap::bracket(next).is_some()
                    || junos::explicit_priority(next).is_some()
            };
            if tag.shape == Shape::Colon && !tag.name.eq_ignore_ascii_case(COS) && header_next() {
                return self.host(tag.name, tag.rest, record);
            }
        }
        // cOS Stream names itself before its category: `cOS: IPSEC: id=278 …`.
        if tag.shape == Shape::Colon
            && tag.name.eq_ignore_ascii_case(COS)
            && self.known_tag_next(tag.rest)
        {
            return Token::Continue(tag.rest);
        }
        let plausible = match tag.shape {
            Shape::Pid | Shape::PidWithoutColon => self.dated || self.hosts == 0,
            Shape::Colon => {
                let words = self.facility_word || self.severity_word;
                words
                    || self.hosts == 0
                    || (self.stamped && !self.nested && (self.hosts == 1 || self.host_is_sure))
            }
            Shape::Bare | Shape::Glued | Shape::Other => false,
        };
        if !plausible || !is_program_name(tag.name) {
            return Token::End;
        }
        if tag.shape == Shape::Colon {
            let next = skip_blanks(tag.rest);
            // A process may stand before ONTAP's bracket.
            if let Some(event) = ontap::bracket(next).filter(|event| event.name.contains(&b'.')) {
                return Token::Program(ontap::set(record, event, self.programs));
            }
            // ONTAP's audit lines say `cluster-01: cluster-01:`, host and tag.
            if next.starts_with(token) && self.hosts == 0 {
                return self.host(tag.name, tag.rest, record);
            }
        }
        record.program = tag.name;
        record.tag = tag.module;
        if tag.shape != Shape::Pid {
            self.name_first_host(record);
        }
        Token::Program(tag.rest)
    }

    /// Whether a priority stands next, and behind it a date or, if this line has one already, a known program with its colon.
    fn prioritised_next(&self, text: &'a [u8]) -> bool {
        let after = priority(text, &mut Record::default());
        let is_header = stamp_len(after) > 0 || (self.stamped && self.known_tag_next(after));
        after.len() < text.len() && is_header
    }
}

/// `sshd@:[1]: text`, a tag in which the place of the host is empty, gives the known program and the text.
fn tag_of_no_host<'a>(
    tag: &Tag<'a>,
    programs: &Programs,
) -> Option<(ProgramId, &'a [u8], &'a [u8])> {
    let name = tag.name.strip_suffix(b"@")?;
    let (id, name) = known(name, programs)?;
    let (digits, rest) = split_digits(tag.rest.strip_prefix(b"[")?);
    let rest = rest.strip_prefix(b"]")?;
    let message = rest.strip_prefix(b":").unwrap_or(rest);
    (!digits.is_empty() && ends_token(message)).then_some((id, name, message))
}
