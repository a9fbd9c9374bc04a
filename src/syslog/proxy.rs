//! The PROXY protocol, versions 1 and 2: a balancer says whose connection it passes on, before anything else.
//!
//! Source: "The PROXY protocol Versions 1 & 2", haproxy.org.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The longest line of version 1.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const HEAD_BYTES: usize = 16;
/// The longest of version 2 that is read; addresses take 36 bytes, the rest is for extensions.
const BODY_BYTES_MAX: usize = 2048;

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads the header, and no byte behind it. Returns whose connection it is; nothing if it is the balancer's own.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut header = vec![stream.read_u8().await?];
    if header == b"P" {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LINE_BYTES_MAX {
                return Err(invalid("the line does not end"));
            }
            header.push(stream.read_u8().await?);
        }
        return version_1(&header);
    }
    header.resize(HEAD_BYTES, 0);
    stream.read_exact(&mut header[1..]).await?;
    let length = version_2_length(&header)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    version_2(&header, &body)
}

fn version_1(line: &[u8]) -> io::Result<Option<IpAddr>> {
    let line = std::str::from_utf8(line).map_err(|_| invalid("no text"))?;
    let mut words = line.trim_end_matches("\r\n").split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some("PROXY"), Some("UNKNOWN"), _) => Ok(None),
        (Some("PROXY"), Some("TCP4" | "TCP6"), Some(source)) => {
            let source = source.parse().map_err(|_| invalid("no address"))?;
            Ok(Some(source))
        }
        _ => Err(invalid("no PROXY header")),
    }
}

fn version_2_length(head: &[u8]) -> io::Result<usize> {
    let rest = head
        .strip_prefix(SIGNATURE)
        .ok_or(invalid("no PROXY header"))?;
    let [version, _, high, low] = rest else {
        return Err(invalid("no PROXY header"));
    };
    if version >> 4 != 2 {
        return Err(invalid("neither version 1 nor 2"));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    match length <= BODY_BYTES_MAX {
        true => Ok(length),
        false => Err(invalid("the header is too long")),
    }
}

fn version_2(head: &[u8], body: &[u8]) -> io::Result<Option<IpAddr>> {
    const LOCAL: u8 = 0;
    const TCP_4: u8 = 0x11;
    const TCP_6: u8 = 0x21;
    let (Some(command), Some(family)) = (head.get(12), head.get(13)) else {
        return Err(invalid("no PROXY header"));
    };
    if command & 0x0f == LOCAL {
        return Ok(None);
    }
    let short = || invalid("the header is too short");
    match *family {
        TCP_4 => {
            let source: &[u8; 4] = body.first_chunk().ok_or_else(short)?;
            Ok(Some(Ipv4Addr::from(*source).into()))
        }
        TCP_6 => {
            let source: &[u8; 16] = body.first_chunk().ok_or_else(short)?;
            Ok(Some(Ipv6Addr::from(*source).into()))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_lines() {
        for (line, expected) in [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.9 5000 514\r\n",
                Some(Some("192.0.2.1")),
            ),
            (
                "PROXY TCP6 2001:db8::1 2001:db8::2 5000 514\r\n",
                Some(Some("2001:db8::1")),
            ),
            ("PROXY UNKNOWN\r\n", Some(None)),
            ("PROXY TCP4 hsm1 x 1 2\r\n", None),
            ("PING\r\n", None),
        ] {
            let read = version_1(line.as_bytes()).ok();
            let expected = expected.map(|address| address.map(|address| address.parse().unwrap()));
            assert_eq!(read, expected, "{line}");
        }
    }

    #[test]
    fn version_2_headers() {
        let head = |command: u8, family: u8, length: u8| {
            [&SIGNATURE[..], &[command, family, 0, length]].concat()
        };
        let body4 = [192, 0, 2, 1, 192, 0, 2, 9, 1, 2, 3, 4];
        let read = version_2(&head(0x21, 0x11, 12), &body4).unwrap();
        assert_eq!(read, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(version_2(&head(0x20, 0, 0), &[]).unwrap(), None);
        assert!(version_2(&head(0x21, 0x21, 12), &body4).is_err());
        assert_eq!(version_2_length(&head(0x21, 0x11, 12)).unwrap(), 12);
        assert!(version_2_length(&head(0x11, 0x11, 12)).is_err());
        assert!(version_2_length(b"<13>a message...").is_err());
    }
}
