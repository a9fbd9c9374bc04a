//! The header that most lines have, in the order in which it is written: priority, date, hosts, facility and severity
//! words, program. Every part may be missing, and a relay may have put a second header before the first one.
//!
//! A program is looked for at its place only. The walk goes from token to token, knows what each may be, and ends at
//! the first one that no header holds; text typed by a remote party begins behind that point.

use super::bytes::{ends_token, is_blank, number, skip_blanks, split_digits, split_token};
use super::severity::{FacilityKind, Severity, facility_kind, facility_name};
use super::time::stamp_len;
use super::{Programs, Record, clavister, junos, ontap, repeat, rfc5424};

/// Most tokens of a header, dates counted as one. Relays add a date and a host each; beyond two of them nothing is
/// known to be real.
const TOKENS_MAX: usize = 10;

/// Longest name, bytes, that is read as the program of a tag that no pack knows (RFC 5424 allows 48).
const UNKNOWN_PROGRAM_BYTES_MAX: usize = 64;

/// Longest pid or module in a tag, bytes.
const TAG_PART_BYTES_MAX: usize = 32;

/// Reads `<38>` and the blanks after it into facility and severity. Anything else is left where it is.
#[inline]
pub(super) fn priority<'a>(text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
    let [b'<', inner @ ..] = text else {
        return text;
    };
    let (digits, after) = split_digits(inner);
    let [b'>', rest @ ..] = after else {
        return text;
    };
    if !(1..=3).contains(&digits.len()) {
        return text;
    }
    if let Some(value) = number(digits).filter(|&value| value <= 191) {
        record.facility = facility_name(value / 8);
        record.severity = Severity::from_number(value % 8);
    }
    skip_blanks(rest)
}

/// Walks a header and returns the message. `text` is the line behind its priority.
#[inline]
pub(super) fn header<'a>(
    text: &'a [u8],
    prioritised: bool,
    record: &mut Record<'a>,
    programs: &Programs,
) -> &'a [u8] {
    Walk {
        programs,
        message: text,
        dated: prioritised,
        hosts: 0,
        hosts_max: if prioritised { 2 } else { 1 },
        host_is_sure: true,
        nearer_host: None,
        facility_word: false,
        severity_word: false,
        before_words: (record.facility, record.severity),
        nested: false,
        stamp_is_epoch: false,
    }
    .run(text, record)
}

/// The same for the message of an RFC 5424 line that names no program: a relay may have left the sender's own header,
/// or what it did not understand of it, at the start of the message.
pub(super) fn nested_header<'a>(
    text: &'a [u8],
    record: &mut Record<'a>,
    programs: &Programs,
) -> &'a [u8] {
    Walk {
        programs,
        message: text,
        dated: true,
        hosts: 1,
        hosts_max: 2,
        host_is_sure: false,
        nearer_host: None,
        facility_word: false,
        severity_word: false,
        before_words: (record.facility, record.severity),
        nested: true,
        stamp_is_epoch: false,
    }
    .run(text, record)
}

/// A program's name as it stands in a header, and what follows it.
pub(super) struct Tag<'a> {
    pub(super) name: &'a [u8],
    /// `pam_unix` in `sshd(pam_unix)[1]:`.
    pub(super) module: &'a [u8],
    shape: Shape,
    /// Behind the colon, or behind the name where there is none.
    pub(super) rest: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A token without colon, bracket or parenthesis.
    Bare,
    /// `name[1]:`, `name [1]:`, `name(module):`.
    Pid,
    /// `name[1] text`: what is left of RFC 5424 in a traditional file.
    PidWithoutColon,
    /// `name:` and a blank.
    Colon,
    /// `name:text`.
    Glued,
    /// Something with a bracket, colon or parenthesis that is no tag.
    Other,
}

impl<'a> Tag<'a> {
    /// Reads the token at the start of `text`.
    #[inline]
    pub(super) fn read(text: &'a [u8]) -> Tag<'a> {
        let end = text
            .iter()
            .position(|&byte| ENDS_NAME[usize::from(byte)])
            .unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        match after {
            [b'[', ..] => Tag::with_pid(name, b"", after),
            [b':', rest @ ..] => {
                let shape = match rest {
                    _ if ends_token(rest) => Shape::Colon,
                    _ => Shape::Glued,
                };
                Tag {
                    name,
                    module: b"",
                    shape,
                    rest,
                }
            }
            [b'(', rest @ ..] => match part(rest, b')') {
                Some((module, after)) if !name.is_empty() => Tag::with_pid(name, module, after),
                // `(systemd)[1]:`, a unit's process before it has its own name.
                Some((name, after)) => Tag::with_pid(name, b"", after),
                None => Tag {
                    name,
                    module: b"",
                    shape: Shape::Other,
                    rest: after,
                },
            },
            _ => match skip_blanks(after) {
                // `NTLS [1234]:`.
                pid @ [b'[', b'0'..=b'9', ..] => match Tag::with_pid(name, b"", pid) {
                    tag @ Tag {
                        shape: Shape::Pid, ..
                    } => tag,
                    _ => Tag {
                        name,
                        module: b"",
                        shape: Shape::Bare,
                        rest: after,
                    },
                },
                _ => Tag {
                    name,
                    module: b"",
                    shape: Shape::Bare,
                    rest: after,
                },
            },
        }
    }

    /// `after` begins with the bracket, or with what follows the module.
    #[inline]
    fn with_pid(name: &'a [u8], module: &'a [u8], after: &'a [u8]) -> Tag<'a> {
        let (after, has_pid) = match after {
            [b'[', rest @ ..] => match part(rest, b']') {
                Some((_, after)) => (after, true),
                None => {
                    return Tag {
                        name,
                        module,
                        shape: Shape::Other,
                        rest: after,
                    };
                }
            },
            _ => (after, false),
        };
        let (shape, rest) = match after {
            [b':', rest @ ..] => (Shape::Pid, rest),
            [b' ', b':', rest @ ..] if has_pid => (Shape::Pid, rest),
            _ if has_pid && ends_token(after) => (Shape::PidWithoutColon, after),
            _ => (Shape::Other, after),
        };
        Tag {
            name,
            module,
            shape,
            rest,
        }
    }
}

/// The text up to `close`, which must be near and without a blank before it.
#[inline]
fn part(text: &[u8], close: u8) -> Option<(&[u8], &[u8])> {
    let end = text
        .iter()
        .take(TAG_PART_BYTES_MAX)
        .position(|&byte| byte == close || is_blank(byte))?;
    match text.split_at_checked(end)? {
        (inner, [found, rest @ ..]) if *found == close => Some((inner, rest)),
        _ => None,
    }
}

/// Whether a byte ends the name in a tag.
pub(super) const ENDS_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        table[byte] = true;
        byte += 1;
    }
    table[b'[' as usize] = true;
    table[b':' as usize] = true;
    table[b'(' as usize] = true;
    // The first byte of a no-break space; no name has it otherwise.
    table[0xc2] = true;
    table
};

/// The known program that a tag names: as it stands, or without a path before it, or without a second category behind
/// it (`IPSEC,FRAG`).
pub(super) fn known<'a>(
    name: &'a [u8],
    programs: &Programs,
) -> Option<(super::ProgramId, &'a [u8])> {
    if let Some(id) = programs.lookup(name) {
        return Some((id, name));
    }
    let mut short = name;
    if let Some(at) = name.iter().rposition(|&byte| byte == b'/') {
        short = name.get(at + 1..)?;
    }
    if let Some(at) = short.iter().position(|&byte| byte == b',') {
        short = short.get(..at)?;
    }
    if short.len() == name.len() {
        return None;
    }
    programs.lookup(short).map(|id| (id, short))
}

/// The message behind `[1234]:`, a pid that was parted from its program by a blank.
#[inline]
pub(super) fn moved_pid(text: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = split_digits(text.strip_prefix(b"[")?);
    let rest = rest.strip_prefix(b"]:")?;
    (!digits.is_empty()).then(|| skip_blanks(rest))
}

/// What to do after a token.
enum Step<'a> {
    /// It belongs to the header, which goes on here.
    On(&'a [u8]),
    /// The program was found, the message begins here.
    Program(&'a [u8]),
    /// No header holds such a token.
    Stop,
}

/// The state between two tokens.
struct Walk<'a, 'p> {
    programs: &'p Programs,
    /// Where the message begins if no program is found.
    message: &'a [u8],
    /// A date or a priority was read, so that the line has a header.
    dated: bool,
    hosts: usize,
    /// Further hosts are taken only if they cannot be words.
    hosts_max: usize,
    /// The last host has a digit, a dot or a colon, or is the first token.
    host_is_sure: bool,
    /// A host after the first one: it counts once a program is found behind it.
    nearer_host: Option<&'a [u8]>,
    facility_word: bool,
    severity_word: bool,
    /// Facility and severity without the words, for a line whose words were no header's.
    before_words: (&'a [u8], Option<Severity>),
    /// Inside the message of an RFC 5424 line.
    nested: bool,
    /// Seconds since 1970 stood before the header and say more than its date without a year.
    stamp_is_epoch: bool,
}

impl<'a> Walk<'a, '_> {
    #[inline]
    fn run(mut self, text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
        let mut rest = text;
        if !self.nested {
            rest = self.first_stamp(rest, record);
        }
        for _ in 0..TOKENS_MAX {
            rest = skip_blanks(rest);
            let step = match rest.first() {
                None => Step::Stop,
                Some(b'0'..=b'9' | b'A'..=b'Z' | b'<' | b'[' | b'(' | b'%' | b'-') => {
                    match self.sign(rest, record) {
                        Some(step) => step,
                        None => self.token(rest, record),
                    }
                }
                Some(b'l' | b'm') if repeat::is_repeat(rest) => {
                    self.message = rest;
                    Step::Stop
                }
                Some(_) => self.token(rest, record),
            };
            match step {
                Step::On(next) => rest = next,
                Step::Program(message) => {
                    if let Some(host) = self.nearer_host {
                        record.host = Some(host);
                    }
                    return message;
                }
                Step::Stop => break,
            }
        }
        self.without_program(record)
    }

    #[inline]
    fn first_stamp(&mut self, text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
        let len = stamp_len(text);
        if let Some((stamp, rest)) = text.split_at_checked(len)
            && len > 0
        {
            return self.stamp(stamp, rest, record);
        }
        if let Some((stamp, rest)) = epoch_prefix(text) {
            self.stamp_is_epoch = true;
            return self.stamp(stamp, rest, record);
        }
        text
    }

    fn stamp(&mut self, stamp: &'a [u8], rest: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
        record.stamp = stamp;
        self.dated = true;
        self.hosts_max = 2;
        self.message = rest;
        rest
    }

    /// Tokens that are known by their first byte: dates, inner priorities, brackets. `None` if it is none of them.
    fn sign(&mut self, rest: &'a [u8], record: &mut Record<'a>) -> Option<Step<'a>> {
        match rest {
            [b'<', ..] => {
                let after = priority(rest, record);
                (after.len() < rest.len()).then_some(Step::On(after))
            }
            [b'%', ..] => {
                let (tag, severity, message) = junos::explicit_priority(rest)?;
                junos::set_without_process(record, tag, self.programs);
                record.severity = Some(severity);
                Some(Step::Program(message))
            }
            [b'(', ..] => junos::card_slot(rest).map(Step::On),
            [b'-', after @ ..] if ends_token(after) => Some(Step::On(after)),
            [b'-', ..] => {
                if repeat::is_repeat(rest) {
                    self.message = rest;
                }
                Some(Step::Stop)
            }
            [b'[', ..] => {
                if let Some(event) = ontap::bracket(rest) {
                    return Some(Step::Program(ontap::set(record, event, self.programs)));
                }
                let len = stamp_len(rest);
                let (stamp, after) = rest.split_at_checked(len)?;
                if len == 0 {
                    return Some(self.bracketed_host(rest, record));
                }
                record.stamp = stamp;
                self.dated = true;
                self.message = after;
                Some(Step::On(after))
            }
            _ => self.inner_header(rest, record),
        }
    }

    /// `[10.0.0.1]`, as some collectors write a host that has no name.
    fn bracketed_host(&mut self, rest: &'a [u8], record: &mut Record<'a>) -> Step<'a> {
        let (token, after) = split_token(rest);
        match token {
            [b'[', address @ .., b']'] if is_address(address) => self.host(address, after, record),
            _ => Step::Stop,
        }
    }

    /// A date or a whole RFC 5424 header behind the first host: the header that the sender wrote, kept by a relay.
    fn inner_header(&mut self, rest: &'a [u8], record: &mut Record<'a>) -> Option<Step<'a>> {
        if let [b'1', b' ', ..] = rest
            && let Some(message) = rfc5424::header(rest, false, record, self.programs)
        {
            self.nearer_host = None;
            return Some(Step::Program(message));
        }
        if let Some(after) = clavister::torn_stamp(rest) {
            return Some(Step::On(after));
        }
        let len = stamp_len(rest);
        let (stamp, after) = rest.split_at_checked(len)?;
        if len == 0 || self.nested {
            return None;
        }
        if !self.stamp_is_epoch {
            record.stamp = stamp;
        }
        self.dated = true;
        self.message = after;
        if let Some(host) = self.nearer_host.take() {
            record.host = Some(host);
        }
        self.hosts = 0;
        Some(Step::On(after))
    }

    #[inline]
    fn token(&mut self, rest: &'a [u8], record: &mut Record<'a>) -> Step<'a> {
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
            return Step::Program(tag.rest);
        }
        self.unknown(rest, tag, record)
    }

    /// A token without colon, bracket or parenthesis: a word of the priority, a host, or a program that lost its colon.
    #[inline]
    fn bare(&mut self, tag: Tag<'a>, record: &mut Record<'a>) -> Step<'a> {
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
        Step::On(rest)
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
    ) -> Step<'a> {
        if (self.hosts > 0 || self.facility_word || self.severity_word)
            && self.dated
            && let Some((id, name)) = known(token, self.programs)
            && !self.known_tag_next(rest)
        {
            record.program = name;
            record.program_id = Some(id);
            let rest = skip_blanks(rest);
            return Step::Program(rest.strip_prefix(b": ").unwrap_or(rest));
        }
        if let Some((facility, severity)) = dotted_priority(token) {
            record.facility = facility;
            record.severity = Some(severity);
            return Step::On(rest);
        }
        self.host(token, rest, record)
    }

    /// Whether a known program with its colon stands next, so that the token before it must be a host.
    fn known_tag_next(&self, rest: &'a [u8]) -> bool {
        let tag = Tag::read(skip_blanks(rest));
        matches!(tag.shape, Shape::Pid | Shape::Colon) && known(tag.name, self.programs).is_some()
    }

    #[inline]
    fn host(&mut self, token: &'a [u8], rest: &'a [u8], record: &mut Record<'a>) -> Step<'a> {
        let words = self.facility_word || self.severity_word;
        if token.is_empty()
            || !token.iter().all(|&byte| IN_HOST[usize::from(byte)])
            || (words && self.hosts > 0)
        {
            return Step::Stop;
        }
        let sure = token
            .iter()
            .any(|byte| matches!(byte, b'0'..=b'9' | b'.' | b':'));
        let token = without_double(token);
        if self.hosts == 0 {
            record.host = Some(token);
            self.host_is_sure = true;
            if self.dated {
                self.message = rest;
            }
        } else if junos::is_card(token) {
            return Step::On(rest);
        } else if self.hosts < self.hosts_max || (sure && self.dated) {
            self.nearer_host = Some(token);
            self.host_is_sure = sure;
        } else {
            return Step::Stop;
        }
        self.hosts += 1;
        Step::On(rest)
    }

    /// A token with a colon, bracket or parenthesis that is no known program.
    fn unknown(&mut self, rest: &'a [u8], tag: Tag<'a>, record: &mut Record<'a>) -> Step<'a> {
        if let Some(event) = ontap::torn_bracket(rest) {
            return Step::Program(ontap::set(record, event, self.programs));
        }
        if tag.shape == Shape::Colon && junos::is_kmd_id(tag.name) {
            junos::set_without_process(record, tag.name, self.programs);
            return Step::Program(tag.rest);
        }
        let (token, after) = split_token(rest);
        let address = token
            .strip_suffix(b":")
            .filter(|address| is_address(address))
            .unwrap_or(token);
        if is_address(address) {
            return self.host(address, after, record);
        }
        let plausible = match tag.shape {
            Shape::Pid | Shape::PidWithoutColon => self.dated || self.hosts == 0,
            Shape::Colon => {
                let words = self.facility_word || self.severity_word;
                words
                    || self.hosts == 0
                    || (self.dated && !self.nested && (self.hosts == 1 || self.host_is_sure))
            }
            Shape::Bare | Shape::Glued | Shape::Other => false,
        };
        if !plausible || !is_program_name(tag.name) {
            return Step::Stop;
        }
        if tag.shape == Shape::Colon {
            let next = skip_blanks(tag.rest);
            // A process may stand before ONTAP's bracket.
            if let Some(event) = ontap::bracket(next).filter(|event| event.name.contains(&b'.')) {
                return Step::Program(ontap::set(record, event, self.programs));
            }
            // ONTAP's audit lines say `cluster-01: cluster-01:`, host and tag.
            if next.starts_with(token) && self.hosts == 0 {
                return self.host(tag.name, tag.rest, record);
            }
        }
        record.program = tag.name;
        record.tag = tag.module;
        Step::Program(tag.rest)
    }

    /// The walk ended without a program: what only a program would have made a header is text.
    fn without_program(self, record: &mut Record<'a>) -> &'a [u8] {
        if !self.dated {
            record.host = None;
        }
        if !(self.facility_word && self.severity_word && self.dated) {
            (record.facility, record.severity) = self.before_words;
        }
        self.message
    }
}

/// `- 1131567306 2005.11.09 en14 ` before the real header: a label, seconds since 1970, a date, a node.
fn epoch_prefix(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'-' | b'A'..=b'Z', ..] = text else {
        return None;
    };
    let (_, rest) = split_token(text);
    let (epoch, rest) = split_token(skip_blanks(rest));
    let (date, rest) = split_token(skip_blanks(rest));
    let [_, _, _, _, b'.', _, _, b'.', _, _] = date else {
        return None;
    };
    if epoch.len() != 10 || !epoch.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (_, rest) = split_token(skip_blanks(rest));
    Some((epoch, rest))
}

/// `Local0.Info`, as Kiwi and busybox write the priority.
fn dotted_priority(token: &[u8]) -> Option<(&[u8], Severity)> {
    let at = token.iter().position(|&byte| byte == b'.')?;
    let (facility, severity) = (token.get(..at)?, token.get(at + 1..)?);
    let severity = Severity::parse(severity)?;
    (facility_kind(facility) != FacilityKind::None).then_some((facility, severity))
}

/// `en14/en14` is one host.
fn without_double(token: &[u8]) -> &[u8] {
    match token.split_at_checked(token.len() / 2) {
        Some((half, [b'/', other @ ..])) if half == other && !half.is_empty() => half,
        _ => token,
    }
}

/// An IPv4 or IPv6 address, by its letters.
fn is_address(token: &[u8]) -> bool {
    let colons = token.iter().filter(|&&byte| byte == b':').count();
    let dots = token.iter().filter(|&&byte| byte == b'.').count();
    let (address, _zone) = match token.iter().position(|&byte| byte == b'%') {
        Some(at) => token.split_at(at),
        None => (token, &b""[..]),
    };
    match colons {
        0 => {
            dots == 3
                && address
                    .iter()
                    .all(|byte| byte.is_ascii_digit() || *byte == b'.')
        }
        1 => false,
        _ => address
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
    }
}

fn is_program_name(name: &[u8]) -> bool {
    name.len() <= UNKNOWN_PROGRAM_BYTES_MAX
        && name.iter().any(u8::is_ascii_alphabetic)
        && name
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || b"_-./+@#$,".contains(&byte))
}

const IN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"._-:/%@#";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};
