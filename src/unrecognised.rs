//! Unmatched lines, folded by kind and counted: what the status page shows, so that a new wording is noticed.
//!
//! Messages that differ in numbers and addresses only are of one kind. The table is bounded in kinds and in bytes a
//! kind; the rarest kinds are evicted for new ones, so a kind that is frequent stays, whenever it first came.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::record::first_digit;

/// Kinds held at most.
const KINDS_MAX: usize = 1000;
/// Bytes of a message that are looked at.
const MESSAGE_BYTES_MAX: usize = 240;

/// Bytes of a program's name that are kept.
const PROGRAM_BYTES_MAX: usize = 48;
/// Looks cached by a thread or by the table; beyond that they are cleared.
const LOOKS_MAX: usize = 8 * KINDS_MAX;

/// Kinds of messages, with their counts.
#[derive(Clone, Debug, Default)]
pub struct Unrecognised {
    kinds: HashMap<(String, String), Kind>,
    /// By look its kind.
    looks: HashMap<Look, (String, String)>,
}

/// Per-thread counts of messages that were added to the shared table before, so that only a new one is masked and looked
/// up there: every new wording is noticed, and a flood of known ones costs little.
#[derive(Debug, Default)]
pub struct Sampler {
    /// By look, lines that are not in the shared table yet.
    counts: HashMap<Look, u64>,
    counted: Vec<Look>,
}

impl Sampler {
    /// Counts a message if it is known; if not, returns what [`Self::add`] is to be called with.
    pub fn count(&mut self, program: &[u8], message: &[u8]) -> Option<Look> {
        let look = Look::of(program, message);
        let Some(count) = self.counts.get_mut(&look) else {
            return Some(look);
        };
        if *count == 0 {
            self.counted.push(look);
        }
        *count += 1;
        None
    }

    /// Adds a message that is new to this thread to the shared table.
    pub fn add(
        &mut self,
        shared: &mut Unrecognised,
        look: Look,
        appliance: &str,
        program: &[u8],
        message: &[u8],
    ) {
        if self.counts.len() >= LOOKS_MAX {
            self.flush_into(shared);
            self.counts.clear();
        }
        self.counts.insert(look, 0);
        shared.add(look, appliance, program, message);
    }

    /// Whether there is nothing to flush.
    pub fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    /// Flushes the counts into the shared table. What it has evicted meanwhile is new again.
    pub fn flush_into(&mut self, shared: &mut Unrecognised) {
        for look in self.counted.drain(..) {
            let Some(count) = self.counts.get_mut(&look) else {
                continue;
            };
            if !shared.add_lines(look, std::mem::take(count)) {
                self.counts.remove(&look);
            }
        }
    }
}

/// A hash that is the same for messages that differ only in numbers. Two messages of one kind may have several, but two
/// of different kinds do not have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Look(u64);

impl Look {
    fn of(program: &[u8], message: &[u8]) -> Self {
        let mut hash = xxh3_64(&program[..program.len().min(PROGRAM_BYTES_MAX)]);
        let mut rest = &message[..message.len().min(MESSAGE_BYTES_MAX)];
        // Words with a digit are masked; what stands between them is hashed as it is.
        while let Some(digit) = first_digit(rest) {
            let is_outside = |byte: &u8| BYTE_KINDS[usize::from(*byte)] == 0;
            let before = rest[..digit].iter().rposition(is_outside);
            let (text, word) = rest.split_at(before.map_or(0, |at| at + 1));
            let (len, masked) = mask_word(word, xxh3_64_with_seed(text, hash));
            (hash, rest) = (masked, &word[len..]);
        }
        Self(xxh3_64_with_seed(rest, hash))
    }
}

/// Adds the word that a text begins with to a hash: a long one that may be an address or a hexadecimal number as one sign,
/// another one with its numbers masked. Returns the length of the word, too.
fn mask_word(text: &[u8], hash: u64) -> (usize, u64) {
    let kind = |byte: &u8| BYTE_KINDS[usize::from(*byte)];
    let (mut len, mut kinds) = (0, 0);
    for kind in text.iter().map(kind).take_while(|kind| *kind != 0) {
        len += 1;
        kinds |= kind;
    }
    // FNV-1a, which is fast for a few bytes.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    if kinds == DIGIT || (len >= 8 && kinds & LETTER == 0) {
        let sign = if kinds & MARK == 0 { b'#' } else { b'@' };
        return (len, mix(hash, sign));
    }
    let (mut masked, mut before) = (hash, 0);
    for byte in &text[..len] {
        let kind = kind(byte);
        // Digits are one number.
        if kind & before & DIGIT == 0 {
            masked = mix(masked, if kind == DIGIT { b'#' } else { *byte });
        }
        before = kind;
    }
    (len, masked)
}

const DIGIT: u8 = 1;
const MARK: u8 = 2;
const HEXADECIMAL_LETTER: u8 = 4;
/// A letter that is no hexadecimal digit.
const LETTER: u8 = 8;

/// By byte what it is in a word or address; 0 if it belongs to none.
static BYTE_KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        kinds[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'.' | b':' => MARK,
            b'a'..=b'f' | b'A'..=b'F' => HEXADECIMAL_LETTER,
            b'g'..=b'z' | b'G'..=b'Z' => LETTER,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

#[derive(Clone, Debug)]
struct Kind {
    appliance: String,
    count: u64,
}

/// A kind of message, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// The appliance that said it first.
    pub appliance: String,
    /// The program that says it.
    pub program: String,
    /// The message, masked.
    pub message: String,
    /// How many there were, while the kind was held.
    pub count: u64,
}

impl Unrecognised {
    /// Counts a message of a program; `-` stands for none.
    pub fn add(&mut self, look: Look, appliance: &str, program: &[u8], message: &[u8]) {
        let name = match program {
            [] => "-".to_owned(),
            name => fold_program(name),
        };
        let key = (name, fold(message));
        if self.looks.len() >= LOOKS_MAX {
            self.looks.clear();
        }
        self.looks.insert(look, key.clone());
        if let Some(kind) = self.kinds.get_mut(&key) {
            kind.count += 1;
            return;
        }
        if self.kinds.len() >= KINDS_MAX {
            self.evict_the_rarest();
        }
        let kind = Kind {
            appliance: appliance.to_owned(),
            count: 1,
        };
        self.kinds.insert(key, kind);
    }

    /// Counts more lines of a message that was added; false if it was evicted.
    fn add_lines(&mut self, look: Look, lines: u64) -> bool {
        let key = self.looks.get(&look);
        let kind = key.and_then(|key| self.kinds.get_mut(key));
        kind.map(|kind| kind.count += lines).is_some()
    }

    /// Keeps the more frequent half. That is much at once, so it is seldom.
    fn evict_the_rarest(&mut self) {
        let mut kinds: Vec<_> = self.kinds.drain().collect();
        kinds.sort_unstable_by_key(|(_, kind)| Reverse(kind.count));
        kinds.truncate(KINDS_MAX / 2);
        self.kinds.extend(kinds);
    }

    /// Up to `kinds_max` kinds, the most frequent first.
    pub fn most_frequent(&self, kinds_max: usize) -> Vec<Folded> {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_unstable_by(|(a_key, a), (b_key, b)| (b.count, a_key).cmp(&(a.count, b_key)));
        kinds
            .into_iter()
            .take(kinds_max)
            .map(|((program, message), kind)| Folded {
                appliance: kind.appliance.clone(),
                program: program.clone(),
                message: message.clone(),
                count: kind.count,
            })
            .collect()
    }
}

/// The name of a program that no pack knows, which may be anything.
fn fold_program(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(PROGRAM_BYTES_MAX)]).into_owned()
}

/// The message with addresses as `<address>` and numbers as `#`, cut if it is long. It holds no digit any more.
pub fn fold(message: &[u8]) -> String {
    let cut = message.len() > MESSAGE_BYTES_MAX;
    let message = String::from_utf8_lossy(&message[..message.len().min(MESSAGE_BYTES_MAX)]);
    let mut out = String::with_capacity(message.len());
    let mut rest = &*message;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (run, after) = rest.split_at(length);
        // What ends a sentence or a label belongs to no address.
        let word = run.trim_end_matches(['.', ':']);
        fold_word(word, &mut out);
        out.push_str(&run[word.len()..]);
        rest = after;
    }
    if cut {
        out.push('…');
    }
    out
}

/// Everything that an address is made of.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':')
}

fn fold_word(word: &str, out: &mut String) {
    let may_be_address = word.contains(['.', ':']);
    if may_be_address && (word.parse::<IpAddr>().is_ok() || is_mac(word)) {
        out.push_str("<address>");
    } else if may_be_address && word.parse::<SocketAddr>().is_ok() {
        out.push_str("<address>:#");
    } else if is_hexadecimal(word) {
        out.push('#');
    } else {
        // A number with its decimals or a version is one number.
        let mut in_number = false;
        let mut characters = word.chars().peekable();
        while let Some(c) = characters.next() {
            let goes_on = c == '.' && characters.peek().is_some_and(char::is_ascii_digit);
            if c.is_ascii_digit() {
                if !in_number {
                    out.push('#');
                }
                in_number = true;
            } else if !(in_number && goes_on) {
                out.push(c);
                in_number = false;
            }
        }
    }
}

fn is_mac(word: &str) -> bool {
    word.len() == 17
        && word
            .split(':')
            .all(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `0x…`, and long words such as cookies and serial numbers.
fn is_hexadecimal(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let marked = digits.len() < word.len() && !digits.is_empty();
    let long = word.len() >= 8 && word.bytes().any(|b| b.is_ascii_digit());
    (marked || long) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_and_addresses_are_masked() {
        for (message, expected) in [
            ("", ""),
            ("Session 12 took 3.5 ms.", "Session # took # ms."),
            ("from 10.0.0.1 port 22", "from <address> port #"),
            (
                "peer 10.0.0.1:500, 10.0.0.1.",
                "peer <address>:#, <address>.",
            ),
            ("peer fe80::1: gone", "peer <address>: gone"),
            ("[2001:db8::1]:500", "[<address>]:#"),
            ("mac 00:1b:44:11:3a:b7", "mac <address>"),
            (
                "at 12:30:45 Fan1A version 7.2.1",
                "at #:#:# Fan#A version #",
            ),
            ("code 0xc0000711 cookie deadbeef01234567", "code # cookie #"),
            ("defaced decade 0x", "defaced decade #x"),
            ("256.1.1.1 λ 1", "# λ #"),
            ("user=bob, id=00800278", "user=bob, id=#"),
        ] {
            assert_eq!(fold(message.as_bytes()), expected, "{message}");
        }
        assert_eq!(fold(b"\xff 1"), "\u{fffd} #");
        assert_eq!(fold(&[b'x'; 1000]).chars().count(), MESSAGE_BYTES_MAX + 1);
    }

    #[test]
    fn the_frequent_stay_and_the_rare_make_room() {
        let mut seen = Unrecognised::default();
        let add = |seen: &mut Unrecognised, appliance: &str, program: &[u8], message: &[u8]| {
            seen.add(Look::of(program, message), appliance, program, message);
        };
        let word = |number: usize| -> String {
            // Digits would fold together.
            number
                .to_string()
                .bytes()
                .map(|digit| (digit + b'A' - b'0') as char)
                .collect()
        };
        for number in 0..10 * KINDS_MAX {
            add(&mut seen, "hsm1", b"NTLS", word(number).as_bytes());
            let message = format!("took {number} ms");
            add(&mut seen, "hsm2", b"NTLS", message.as_bytes());
        }
        assert!(seen.kinds.len() <= KINDS_MAX);
        for _ in 0..5 {
            add(&mut seen, "hsm3", b"oamp", b"took 5 ms");
        }
        let top = seen.most_frequent(2);
        let expected = [("hsm2", "NTLS", 10 * KINDS_MAX as u64), ("hsm3", "oamp", 5)];
        let expected = expected.map(|(appliance, program, count)| Folded {
            appliance: appliance.into(),
            program: program.into(),
            message: "took # ms".into(),
            count,
        });
        assert_eq!(top, expected);
    }

    #[test]
    fn every_new_wording_is_noticed_whatever_came_before() {
        let (mut sampler, mut shared) = (Sampler::default(), Unrecognised::default());
        let read = |sampler: &mut Sampler, shared: &mut Unrecognised, message: String| {
            let message = message.as_bytes();
            if let Some(look) = sampler.count(b"NTLS", message) {
                sampler.add(shared, look, "hsm1", b"NTLS", message);
            }
        };
        for number in 0..5_000 {
            read(&mut sampler, &mut shared, format!("took {number} ms"));
        }
        read(&mut sampler, &mut shared, "a new wording".into());
        sampler.flush_into(&mut shared);
        let counts: Vec<_> = shared
            .most_frequent(10)
            .into_iter()
            .map(|kind| (kind.message, kind.count))
            .collect();
        let expected = [
            ("took # ms".to_owned(), 5_000),
            ("a new wording".to_owned(), 1),
        ];
        assert_eq!(counts, expected);
        // What the table has evicted is noticed again.
        shared = Unrecognised::default();
        for _ in 0..2 {
            read(&mut sampler, &mut shared, "took 1 ms".into());
            sampler.flush_into(&mut shared);
        }
        assert_eq!(shared.most_frequent(10).len(), 1);
    }

    proptest! {
        #[test]
        fn what_looks_alike_is_of_one_kind(a in "[a-c1-3.: ]{0,12}", b in "[a-c1-3.: ]{0,12}") {
            if Look::of(b"p", a.as_bytes()) == Look::of(b"p", b.as_bytes()) {
                // An address and a number with as many digits and colons look alike.
                let kind = |text: &str| fold(text.as_bytes()).replace("<address>:#", "@").replace("<address>", "@");
                let is_long = |text: &str| text.split(' ').any(|word| word.len() >= 8);
                prop_assert!(is_long(&a) || kind(&a) == kind(&b), "{a:?} {b:?}");
            }
        }

        #[test]
        fn the_first_digit_is_found(text in prop::collection::vec(prop_oneof![any::<u8>(), b'*'..b';'], 0..40)) {
            prop_assert_eq!(first_digit(&text), text.iter().position(u8::is_ascii_digit));
        }

        #[test]
        fn nothing_folds_to_more_than_its_bound(message in prop::collection::vec(any::<u8>(), 0..400)) {
            let folded = fold(&message);
            prop_assert!(!folded.bytes().any(|b| b.is_ascii_digit()));
            // `a::` is the shortest address, `<address>` three times as long; so is a replacement character.
            prop_assert!(folded.len() <= 5 * MESSAGE_BYTES_MAX);
        }

        #[test]
        fn other_numbers_are_the_same_kind(a in any::<u32>(), b in any::<u32>(), ip in any::<[u8; 4]>()) {
            let say = |number: u32, ip: std::net::Ipv4Addr| fold(format!("client {ip}: {number} of {number}").as_bytes());
            prop_assert_eq!(say(a, ip.into()), say(b, [127, 0, 0, 1].into()));
        }
    }
}
