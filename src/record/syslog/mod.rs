//! The header that most lines have, in the order in which it is written: priority, date, hosts, facility and severity
//! words, program. Every part may be missing, and a relay may have put a second header before the first one.
//!
//! A program is looked for at its place only. The parser goes from token to token, knows what each may be, and ends at
//! the first one that no header holds; text typed by a remote party begins behind that point.
//!
//! The first host is the one that the collector wrote, and what the sender wrote never replaces it. A host of a second
//! header becomes [`Record::relayed_host`].

mod unknown_tag;

use super::bytes::{ends_token, skip_blanks, split_token};
use super::prefix::{
    behind_clock_mark, epoch_prefix, foreign_stamp, forwarded_host, host_before_stamp,
    without_number,
};
use super::priority::{named_priority, priority, words_of_priority};
use super::severity::{FacilityKind, Severity, facility_kind};
use super::stamp::stamp_len;
use super::tag::{Shape, Tag, known};
use super::{Programs, Record, clavister, host, junos, ontap, repeat, rfc5424, without_uptime};

/// Most tokens of a header, dates counted as one. Relays add a date and a host each; beyond two of them nothing is
/// known to be real.
const TOKENS_MAX: usize = 10;

/// Reads a header and returns the message. `text` is the line behind its priority.
#[inline]
pub(super) fn header<'a>(
    text: &'a [u8],
    prioritised: bool,
    record: &mut Record<'a>,
    programs: &Programs,
) -> &'a [u8] {
    HeaderParser::new(text, prioritised, record, programs).run(text, record)
}

/// The same for the message of an RFC 5424 line that names no program: a relay may have left the sender's own header,
/// or what it did not understand of it, at the start of the message.
pub(super) fn nested_header<'a>(
    text: &'a [u8],
    record: &mut Record<'a>,
    programs: &Programs,
) -> &'a [u8] {
    HeaderParser {
        stamped: true,
        hosts: 1,
        host_is_sure: false,
        nested: true,
        ..HeaderParser::new(text, true, record, programs)
    }
    .run(text, record)
}

/// What a token is.
enum Token<'a> {
    /// A part of the header, which goes on here.
    Continue(&'a [u8]),
    /// The program; the message begins here.
    Program(&'a [u8]),
    /// No part of a header.
    End,
}

/// What kind of timestamp opened the line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StampKind {
    /// Written by a program that puts its own time before a whole line, so that another timestamp may follow.
    Prefix,
    /// Seconds since 1970: they say more than a following date without a year.
    Epoch,
    Other,
}

/// The state between two tokens.
struct HeaderParser<'a, 'p> {
    programs: &'p Programs,
    /// Where the message begins if no program is found.
    message: &'a [u8],
    /// A date or a priority was read, so that the line has a header.
    dated: bool,
    /// A date was read, so that the next word is a host.
    stamped: bool,
    /// Hosts of the header at hand.
    hosts: usize,
    /// Further hosts are taken only if they cannot be words.
    hosts_max: usize,
    /// The last host has a digit, a dot or a colon, or is the first token.
    host_is_sure: bool,
    /// A host after the first one: it counts once a program is found behind it.
    nearer_host: Option<&'a [u8]>,
    /// A second header follows the first one's host.
    inner_header: bool,
    facility_word: bool,
    severity_word: bool,
    /// Facility and severity without the words, for a line whose words were no header's.
    before_words: (&'a [u8], Option<Severity>),
    /// Inside the message of an RFC 5424 line.
    nested: bool,
    stamp: StampKind,
}

impl<'a, 'p> HeaderParser<'a, 'p> {
    fn new(text: &'a [u8], prioritised: bool, record: &Record<'a>, programs: &'p Programs) -> Self {
        Self {
            programs,
            message: text,
            dated: prioritised,
            stamped: false,
            hosts: 0,
            hosts_max: if prioritised { 2 } else { 1 },
            host_is_sure: true,
            nearer_host: None,
            inner_header: false,
            facility_word: false,
            severity_word: false,
            before_words: (record.facility, record.severity),
            nested: false,
            stamp: StampKind::Other,
        }
    }

    #[inline]
    fn run(mut self, text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
        let mut rest = text;
        if !self.nested {
            rest = self.first_stamp(rest, record);
        }
        for _ in 0..TOKENS_MAX {
            rest = skip_blanks(rest);
            let token = match rest.first() {
                None => Token::End,
                Some(b'0'..=b'9' | b'A'..=b'Z' | b'<' | b'[' | b'(' | b'%' | b'-' | b':') => {
                    match self.sign(rest, record) {
                        Some(token) => token,
                        None => self.token(rest, record),
                    }
                }
                Some(b'l' | b'm') if repeat::is_repeat(rest) => {
                    self.message = rest;
                    return self.without_program(record, true);
                }
                Some(b'"' | b'\'') => self.quoted_tag(rest, record),
                Some(_) => self.token(rest, record),
            };
            match token {
                Token::Continue(next) => rest = next,
                Token::Program(message) => {
                    self.name_nearer_host(record);
                    return message;
                }
                Token::End => break,
            }
        }
        self.without_program(record, false)
    }

    /// Enters the host nearest to the program, unless it may as well be the first word of a program's name
    /// (`h1 Setup Assistant[1173]:`).
    fn name_nearer_host(&self, record: &mut Record<'a>) {
        if let Some(host) = self.nearer_host
            && record.relayed_host.is_none()
            && (self.host_is_sure || self.inner_header || record.program_id.is_some())
        {
            record.add_host(host);
        }
    }

    #[inline]
    fn first_stamp(&mut self, text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
        let len = stamp_len(text);
        if let Some((stamp, rest)) = text.split_at_checked(len)
            && len > 0
        {
            if stamp.iter().all(u8::is_ascii_digit) {
                self.stamp = StampKind::Epoch;
            } else if matches!(stamp, [_, _, _, _, b'-', ..]) {
                self.stamp = StampKind::Prefix;
            }
            return self.stamp(stamp, rest, record);
        }
        self.unusual_start(text, record)
    }

    /// What stands before or in place of the first timestamp of some senders.
    #[cold]
    fn unusual_start(&mut self, text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
        if let Some((stamp, rest)) = epoch_prefix(text) {
            self.stamp = StampKind::Epoch;
            return self.stamp(stamp, rest, record);
        }
        // A sequence number, and Cisco's mark of a clock that is not set: `<189>123: *Feb 29 12:05:01: …`. The number may
        // be missing, or be seconds since the start; a host may follow it: `<189>123: gw1: .Feb 29 12:05:01: …`.
        let rest = match without_number(text) {
            Some((rest, is_there)) if self.dated || is_there => rest,
            _ => text,
        };
        let rest = match behind_clock_mark(rest) {
            None if rest.len() < text.len() => match host_before_stamp(rest) {
                Some((host, rest)) => {
                    record.host = Some(host);
                    self.hosts = 1;
                    rest
                }
                None => rest,
            },
            stamp => stamp.unwrap_or(rest),
        };
        if let Some(len) = Some(stamp_len(rest)).filter(|&len| len > 0 && rest.len() < text.len())
            && let Some((stamp, rest)) = rest.split_at_checked(len)
        {
            return self.stamp(stamp, rest, record);
        }
        if rest.len() < text.len() {
            self.message = rest;
            return rest;
        }
        if let Some((stamp, rest)) = foreign_stamp(text) {
            return self.stamp(stamp, rest, record);
        }
        // Seconds since the start, of dmesg and journalctl.
        without_uptime(text).unwrap_or(text)
    }

    fn stamp(&mut self, stamp: &'a [u8], rest: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
        record.stamp = stamp;
        self.dated = true;
        self.stamped = true;
        self.hosts_max = 2;
        // Cisco writes a colon behind the date.
        let rest = match rest {
            [b':', after @ ..] if ends_token(after) => after,
            _ => rest,
        };
        self.message = rest;
        rest
    }

    /// Tokens that are known by their first byte: dates, inner priorities, brackets. `None` if it is none of them.
    fn sign(&mut self, rest: &'a [u8], record: &mut Record<'a>) -> Option<Token<'a>> {
        match rest {
            [b'<', ..] => {
                let after = priority(rest, record);
                (after.len() < rest.len()).then_some(Token::Continue(after))
            }
            [b'%', ..] => {
                let explicit = junos::explicit_priority(rest)?;
                junos::set_without_process(record, explicit.id, self.programs);
                if let Some(program) = self.programs.lookup(explicit.facility)
                    && record.program_id.is_none()
                    && facility_kind(explicit.facility) == FacilityKind::None
                {
                    record.program = explicit.facility;
                    record.program_id = Some(program);
                }
                record.severity = Some(explicit.severity);
                self.name_first_host(record);
                Some(Token::Program(explicit.message))
            }
            [b'(', ..] => junos::card_slot(rest)
                .or_else(|| self.address_of_host(rest))
                .or_else(|| named_priority(rest, record).filter(|_| self.dated))
                .map(Token::Continue),
            // A colon that stands alone behind the host.
            [b':', after @ ..] if ends_token(after) && self.hosts == 1 && self.dated => {
                let next = skip_blanks(after);
                (self.known_tag_next(next) || junos::explicit_priority(next).is_some())
                    .then_some(Token::Continue(next))
            }
            [b':', ..] => None,
            // Behind a web server's client it is the user, and what follows may be typed.
            [b'-', after @ ..] if ends_token(after) && (self.dated || self.hosts == 0) => {
                Some(Token::Continue(after))
            }
            [b'-', ..] => {
                if repeat::is_repeat(rest) {
                    self.message = rest;
                }
                Some(Token::End)
            }
            [b'M', b'e', b's', ..] => match forwarded_host(rest).filter(|_| self.stamped) {
                Some((host, after)) => Some(self.host(host, after, record)),
                None => self.inner_header(rest, record),
            },
            [b'[', ..] => {
                if let Some(event) = ontap::bracket(rest) {
                    return Some(Token::Program(ontap::set(record, event, self.programs)));
                }
                let len = stamp_len(rest);
                let (stamp, after) = rest.split_at_checked(len)?;
                if len == 0 {
                    return Some(match named_priority(rest, record) {
                        Some(after) => Token::Continue(after),
                        None => self.bracketed_host(rest, record),
                    });
                }
                record.stamp = stamp;
                self.dated = true;
                self.stamped = true;
                self.message = after;
                Some(Token::Continue(after))
            }
            _ => self.inner_header(rest, record),
        }
    }

    /// A host that was read without a date before it is one if a program follows.
    fn name_first_host(&self, record: &mut Record<'a>) {
        if !self.stamped && record.program_id.is_none() {
            record.host = None;
        }
    }

    /// `[10.0.0.1]`, as some collectors write a host that has no name.
    fn bracketed_host(&mut self, rest: &'a [u8], record: &mut Record<'a>) -> Token<'a> {
        if let Some(after) = self.address_of_host(rest) {
            return Token::Continue(after);
        }
        let (token, after) = split_token(rest);
        match host::enclosed_address(token) {
            Some(address) => self.host(address, after, record),
            None => Token::End,
        }
    }

    /// Behind `hsm1 (192.0.2.1)` or `hsm1 [192.0.2.1]`: the name says which host it is.
    fn address_of_host(&self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let (token, after) = split_token(rest);
        let is_behind_name = self.hosts == 1 && self.stamped && self.nearer_host.is_none();
        (is_behind_name && host::enclosed_address(token).is_some()).then_some(after)
    }

    /// A date or a whole RFC 5424 header behind the first host: the header that the sender wrote, kept by a relay.
    fn inner_header(&mut self, rest: &'a [u8], record: &mut Record<'a>) -> Option<Token<'a>> {
        if let Some(after) = clavister::torn_stamp(rest) {
            return Some(Token::Continue(after));
        }
        if self.nested {
            return None;
        }
        let behind_a_host = self.hosts > 0 || self.stamp != StampKind::Other;
        if let [b'0'..=b'9', ..] = rest
            && (behind_a_host || !self.stamped)
            && let Some(header) = rfc5424::Header::read(rest, false)
        {
            self.nearer_host = None;
            return Some(match header.enter(record, self.programs) {
                rfc5424::Entered::Message(message) => Token::Program(message),
                rfc5424::Entered::Nested(message) => {
                    Token::Program(nested_header(message, record, self.programs))
                }
            });
        }
        let len = stamp_len(rest);
        let (stamp, after) = rest.split_at_checked(len)?;
        // Right behind the date stands the host, whatever its name looks like; behind a date that another program put
        // before the line, a second date is one if it looks less like a host.
        let may_be_host =
            self.stamped && self.hosts == 0 && !matches!(rest, [b'0'..=b'9' | b'A'..=b'Z', ..]);
        if len == 0 || may_be_host || (self.stamped && !behind_a_host) {
            return None;
        }
        if self.stamp != StampKind::Epoch {
            record.stamp = stamp;
        }
        self.inner_header = self.hosts > 0;
        self.dated = true;
        self.stamped = true;
        self.stamp = match self.stamp {
            StampKind::Prefix => StampKind::Other,
            kind => kind,
        };
        self.message = after;
        if let Some(host) = self.nearer_host.take() {
            record.add_host(host);
        }
        self.hosts = 0;
        Some(Token::Continue(after))
    }

    #[inline]
    fn token(&mut self, rest: &'a [u8], record: &mut Record<'a>) -> Token<'a> {
        let tag = Tag::read(rest);
        if tag.shape == Shape::Bare {
            return self.bare(tag, record);
        }
        if tag.shape != Shape::Other
            && !(tag.shape == Shape::Glued && tag.rest.first() == Some(&b':'))
            && let Some((id, name)) = known(tag.name, self.programs)
            // A path behind a word may be a request's: `GET /NTLS[1]: …`.
            && (name.len() == tag.name.len() || self.hosts == 0 || (self.hosts == 1 && self.dated))
        {
            record.program = name;
            record.program_id = Some(id);
            record.tag = tag.module;
            return Token::Program(tag.rest);
        }
        self.unknown(rest, tag, record)
    }

    /// `"sshd[1]": `, as a template with quotes around the tag writes it.
    #[cold]
    fn quoted_tag(&self, rest: &'a [u8], record: &mut Record<'a>) -> Token<'a> {
        const TAG_BYTES_MAX: usize = 64;
        let read = || {
            let (quote, inner) = rest.split_first()?;
            let end = inner
                .iter()
                .take(TAG_BYTES_MAX)
                .position(|byte| byte == quote)?;
            let (text, after) = inner.split_at_checked(end)?;
            let tag = Tag::read(text);
            let after = match (tag.shape, after.get(1..)?) {
                (Shape::Pid | Shape::Colon, after) => after,
                (_, [b':', after @ ..]) => after,
                _ => return None,
            };
            (self.dated && tag.rest.is_empty() && ends_token(after))
                .then(|| Some((known(tag.name, self.programs)?, tag.module, after)))?
        };
        match read() {
            Some(((id, name), module, message)) => {
                record.program = name;
                record.program_id = Some(id);
                record.tag = module;
                Token::Program(message)
            }
            None => Token::End,
        }
    }

    /// A token without colon, bracket or parenthesis: a word of the priority, a host, or a program that lost its colon.
    #[inline]
    fn bare(&mut self, tag: Tag<'a>, record: &mut Record<'a>) -> Token<'a> {
        let Tag {
            name: word, rest, ..
        } = tag;
        let severity = Severity::parse(word);
        let facility = match facility_kind(word) {
            FacilityKind::None => false,
            FacilityKind::Plain => true,
            FacilityKind::AlsoHostName => self.is_facility(word, rest),
        };
        if facility {
            record.facility = word;
            self.facility_word = true;
        } else if severity.is_some() {
            record.severity = severity;
            self.severity_word = true;
        } else {
            return self.host_or_program(word, rest, record);
        }
        if self.facility_word && self.severity_word && self.dated {
            self.message = rest;
        }
        Token::Continue(rest)
    }

    /// Whether a word that may be a host's name, or plain text (`Invalid user kmd[1]: …`), is a facility here.
    fn is_facility(&self, word: &[u8], rest: &[u8]) -> bool {
        let (next, _) = split_token(skip_blanks(rest));
        self.severity_word
            || (self.hosts == 1 && self.dated && !self.nested)
            || Severity::parse(next).is_some()
            || next.eq_ignore_ascii_case(word)
    }

    #[inline]
    fn host_or_program(
        &mut self,
        token: &'a [u8],
        rest: &'a [u8],
        record: &mut Record<'a>,
    ) -> Token<'a> {
        if (self.hosts > 0 || self.facility_word || self.severity_word)
            && self.dated
            && let Some((id, name)) = known(token, self.programs)
            && !self.known_tag_next(rest)
        {
            record.program = name;
            record.program_id = Some(id);
            let rest = skip_blanks(rest);
            return Token::Program(rest.strip_prefix(b": ").unwrap_or(rest));
        }
        if let Some((facility, severity)) = words_of_priority(token) {
            record.facility = facility;
            record.severity = Some(severity);
            return Token::Continue(rest);
        }
        // Kubernetes writes the stream and whether the line is whole before a container's line.
        if matches!(token, b"stdout" | b"stderr")
            && self.stamp == StampKind::Prefix
            && self.hosts == 0
            && let [b' ', b'F' | b'P', rest @ ..] = rest
            && ends_token(rest)
        {
            self.message = rest;
            self.stamped = false;
            return Token::Continue(rest);
        }
        self.host(token, rest, record)
    }

    /// Whether a known program with its colon stands next, so that the token before it must be a host.
    fn known_tag_next(&self, rest: &'a [u8]) -> bool {
        let tag = Tag::read(skip_blanks(rest));
        matches!(tag.shape, Shape::Pid | Shape::Colon) && known(tag.name, self.programs).is_some()
    }

    #[inline]
    fn host(&mut self, token: &'a [u8], rest: &'a [u8], record: &mut Record<'a>) -> Token<'a> {
        let words = self.facility_word || self.severity_word;
        if !host::is_plausible(token) || (words && self.hosts > 0) {
            return Token::End;
        }
        // A sequence number, or seconds since the start.
        if self.hosts == 0 && !self.stamped && host::is_number(token) {
            return Token::Continue(rest);
        }
        let sure = host::is_sure(token);
        let token = host::name(token);
        if self.hosts == 0 {
            if record.host.is_none() {
                record.host = Some(token);
            } else {
                self.nearer_host = Some(token);
            }
            self.host_is_sure = true;
            if self.stamped {
                self.message = rest;
            }
        } else if junos::is_card(token) || (self.dated && token.iter().all(u8::is_ascii_digit)) {
            return Token::Continue(rest);
        } else if self.hosts < self.hosts_max || (sure && self.dated) {
            self.nearer_host = Some(token);
            self.host_is_sure = sure;
        } else {
            return Token::End;
        }
        self.hosts += 1;
        Token::Continue(rest)
    }

    /// No program found: undo fields that are only valid in a complete header.
    fn without_program(self, record: &mut Record<'a>, is_repeat: bool) -> &'a [u8] {
        if !(self.stamped || self.nested || (self.dated && is_repeat)) {
            record.host = None;
        }
        if self.inner_header {
            self.name_nearer_host(record);
        }
        if !(self.facility_word && self.severity_word && self.dated) {
            (record.facility, record.severity) = self.before_words;
        }
        self.message
    }
}
