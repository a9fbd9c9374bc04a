//! What the command line asks of an exporter that runs.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// For connecting, and for the answer.
const TIMEOUT: Duration = Duration::from_secs(35);
/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Why nothing came of a request.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// It is no `http://[USER:PASSWORD@]HOST[:PORT][/PREFIX]`.
    Url,
    /// It is `https://`, which curl speaks.
    Tls,
    /// The exporter cannot be reached.
    Io(io::Error),
    /// It answered with this status and text.
    Refused(u16, String),
}

impl fmt::Display for RequestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Url => out.write_str("not of the form http://HOST:PORT"),
            RequestError::Tls => out.write_str(
                "https is not supported; use curl -X POST 'https://HOST:PORT/-/forget?appliance=NAME'",
            ),
            RequestError::Io(error) => error.fmt(out),
            RequestError::Refused(status, text) => {
                write!(out, "the exporter answered {status}: {}", text.trim_end())
            }
        }
    }
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        RequestError::Io(error)
    }
}

/// Has the exporter at `url` forget an appliance, and returns what it says.
///
/// # Errors
/// It cannot be asked, does not know the appliance, or refuses.
pub(crate) fn forget(url: &str, appliance: &str) -> Result<String, RequestError> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => return Err(RequestError::Tls),
        Some(_) => return Err(RequestError::Url),
        None => url,
    };
    let rest = rest.trim_end_matches('/');
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if host.is_empty() || rest.contains(['?', '#', '\r', '\n', ' ']) {
        return Err(RequestError::Url);
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = match has_port {
        true => host.to_owned(),
        false => format!("{host}:80"),
    };
    let address = address.to_socket_addrs()?.next().ok_or(RequestError::Url)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let authorization = user.map_or_else(String::new, |user| {
        format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(user))
    });
    let request = format!(
        "POST {prefix}/-/forget?appliance={} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n",
        percent_encode(appliance)
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    match status.unwrap_or(0) {
        200 => Ok(text.to_owned()),
        status => Err(RequestError::Refused(status, text.to_owned())),
    }
}

fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "",
            "http://",
            "ftp://x",
            "http:///y",
            "http://x?y",
            "http://a b",
        ] {
            assert!(
                matches!(forget(url, "hsm1"), Err(RequestError::Url)),
                "{url}"
            );
        }
        assert!(matches!(
            forget("https://x", "hsm1"),
            Err(RequestError::Tls)
        ));
        assert_eq!(percent_encode("hsm 1/é"), "hsm%201%2F%C3%A9");
    }
}
