//! How a message is kept between the network and the engine: its speaker and its text, one line each.
//!
//! `=hsm1<TAB>message<LF>` is a message of the appliance `hsm1`; `?192.0.2.1<TAB>message<LF>` is one whose header says who
//! speaks, or else this address. A line feed in an octet-counted message becomes `#012`, as rsyslog writes it to a file.

use std::net::IpAddr;

use memchr::{memchr, memchr_iter};

use crate::source::{Message, Sender};

/// Bytes of a speaker's name; the rest is cut.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// What an entry has beside its message, in bytes.
pub(crate) const OVERHEAD_BYTES_MAX: usize = NAME_BYTES_MAX + 3;

/// Whose messages they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// This appliance's, whatever their headers say.
    Named(String),
    /// Those of the host in the header, else of this address.
    Header(IpAddr),
}

/// A speaker as it stands before each of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(Box<[u8]>);

impl From<&Speaker> for Tag {
    fn from(speaker: &Speaker) -> Self {
        let (mark, name) = match speaker {
            Speaker::Named(name) => (b'=', name.clone()),
            Speaker::Header(address) => (b'?', address.to_string()),
        };
        let mut end = name.len().min(NAME_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let mut tag = vec![mark];
        let plain = |c: char| if c.is_control() { '_' } else { c };
        tag.extend_from_slice(
            name[..end]
                .chars()
                .map(plain)
                .collect::<String>()
                .as_bytes(),
        );
        tag.push(b'\t');
        Tag(tag.into())
    }
}

impl Tag {
    /// Appends a message as an entry.
    pub(crate) fn write(&self, message: &[u8], entries: &mut Vec<u8>) {
        entries.extend_from_slice(&self.0);
        let mut start = 0;
        for end in memchr_iter(b'\n', message) {
            entries.extend_from_slice(&message[start..end]);
            entries.extend_from_slice(b"#012");
            start = end + 1;
        }
        entries.extend_from_slice(&message[start..]);
        entries.push(b'\n');
    }
}

/// The messages of whole entries; `None` for what is no entry, which a machine that lost its power may leave.
pub(crate) fn messages(entries: &[u8]) -> impl Iterator<Item = Option<Message<'_>>> {
    let mut start = 0;
    memchr_iter(b'\n', entries).map(move |end| {
        let entry = entries.get(start..end)?;
        start = end + 1;
        read(entry)
    })
}

/// The message of an entry without its line feed.
fn read(entry: &[u8]) -> Option<Message<'_>> {
    let end = memchr(b'\t', entry.get(..OVERHEAD_BYTES_MAX.min(entry.len()))?)?;
    let (mark, name) = entry.get(..end)?.split_first()?;
    let name = std::str::from_utf8(name).ok()?;
    let sender = match mark {
        _ if name.is_empty() => return None,
        b'=' => Sender::Named(name),
        b'?' => Sender::Header(name),
        _ => return None,
    };
    let bytes = entry.get(end + 1..)?;
    Some(Message { sender, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let long = "é".repeat(200);
        let cut = "é".repeat(127);
        let address = "2001:db8::1".parse().unwrap();
        for (speaker, message, name, text) in [
            (
                Speaker::Named("hsm 1".into()),
                "<13>a\tb",
                "hsm 1",
                "<13>a\tb",
            ),
            (
                Speaker::Header(address),
                "a\nb\n",
                "2001:db8::1",
                "a#012b#012",
            ),
            (Speaker::Named("a\tb\nc".into()), "", "a_b_c", ""),
            (Speaker::Named(long), "x", cut.as_str(), "x"),
        ] {
            let mut entries = Vec::new();
            Tag::from(&speaker).write(message.as_bytes(), &mut entries);
            let sender = match &speaker {
                Speaker::Named(_) => Sender::Named(name),
                Speaker::Header(_) => Sender::Header(name),
            };
            let bytes = text.as_bytes();
            let read: Vec<_> = messages(&entries).collect();
            assert_eq!(read, [Some(Message { sender, bytes })]);
        }
        for damaged in ["", "=", "=\tx", "hsm1\tx", "\0\0\0", "=no tab"] {
            assert_eq!(read(damaged.as_bytes()), None, "{damaged:?}");
        }
    }
}
