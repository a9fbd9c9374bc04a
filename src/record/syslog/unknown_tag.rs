//! A token that looks like the tag of a program which no pack names.

use super::{HeaderParser, Token};
use crate::record::bytes::{ends_token, skip_blanks, split_token};
use crate::record::priority::words_of_priority;
use crate::record::tag::{Shape, Tag, is_program_name};
use crate::record::{Record, host, junos, ontap};

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
}
