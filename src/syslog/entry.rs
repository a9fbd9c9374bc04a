//! How a message is kept between the network and the engine: its sender and its text, one line each.
//!
//! `=hsm1<TAB>message<LF>` is a message of the appliance `hsm1`; `?192.0.2.1<TAB>message<LF>` is one whose header names the
//! sender, or else this address does. A line feed in an octet-counted message becomes `#012`, as rsyslog writes it to a file.

use std::net::IpAddr;

use memchr::{memchr, memchr_iter};

use crate::source::{Message, Sender};

/// Bytes of a sender's name; the rest is cut.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// What an entry has beside its message, in bytes.
pub(crate) const OVERHEAD_BYTES_MAX: usize = NAME_BYTES_MAX + 3;

/// A sender as it stands before each of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(Box<[u8]>);

impl Tag {
    /// The messages are of this appliance, whatever their headers say.
    pub(crate) fn named(name: &str) -> Self {
        Tag::new(b'=', name)
    }

    /// They are of the host in the header, else of this address.
    pub(crate) fn by_header(address: IpAddr) -> Self {
        Tag::new(b'?', &address.to_string())
    }

    fn new(mark: u8, name: &str) -> Self {
        let name = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
        let plain = |c: char| if c.is_control() { '_' } else { c };
        let name: String = name.chars().map(plain).collect();
        Tag([&[mark], name.as_bytes(), b"\t"].concat().into())
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
        for (tag, sender, message, text) in [
            (
                Tag::named("hsm 1"),
                Sender::Named("hsm 1"),
                "<13>a\tb",
                "<13>a\tb",
            ),
            (
                Tag::by_header(address),
                Sender::Header("2001:db8::1"),
                "a\nb\n",
                "a#012b#012",
            ),
            (Tag::named("a\tb\nc"), Sender::Named("a_b_c"), "", ""),
            (Tag::named(&long), Sender::Named(&cut), "x", "x"),
        ] {
            let mut entries = Vec::new();
            tag.write(message.as_bytes(), &mut entries);
            let bytes = text.as_bytes();
            let read: Vec<_> = messages(&entries).collect();
            assert_eq!(read, [Some(Message { sender, bytes })]);
        }
        for damaged in ["", "=", "=\tx", "hsm1\tx", "\0\0\0", "=no tab"] {
            assert_eq!(read(damaged.as_bytes()), None, "{damaged:?}");
        }
    }
}
