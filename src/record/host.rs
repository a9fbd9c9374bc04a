//! What may name a host in a header.

use super::bytes::split_digits;

/// The host that a token names: `en14` for `en14/en14`, and for `local@en14`, as syslog-ng writes it with
/// `chain_hostnames`; an address without its port, which may be another for each connection.
pub(super) fn name(token: &[u8]) -> &[u8] {
    if let Some(address) = without_port(token) {
        return address;
    }
    let token = match token.iter().rposition(|&byte| byte == b'@') {
        Some(at) if at + 1 < token.len() => token.get(at + 1..).unwrap_or(token),
        _ => token,
    };
    without_double(token)
}

/// Whether all bytes may stand in the name of a host.
pub(super) fn is_plausible(token: &[u8]) -> bool {
    !token.is_empty() && token.iter().all(|&byte| IN_HOST[usize::from(byte)]) && !is_date(token)
}

/// Whether a token is a date in a form that is not read: `02/29/2024`, `29-Feb-2024`.
fn is_date(token: &[u8]) -> bool {
    let [b'0'..=b'9', .., b'0'..=b'9'] = token else {
        return false;
    };
    let mut parts = token.split(|byte| matches!(byte, b'/' | b'-'));
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    let digits = |part: Option<&[u8]>, lengths: &[usize]| {
        part.is_some_and(|part| {
            lengths.contains(&part.len()) && part.iter().all(u8::is_ascii_digit)
        })
    };
    digits(first, &[1, 2])
        && second.is_some_and(|part| matches!(part.len(), 1..=3))
        && digits(third, &[2, 4])
        && parts.next().is_none()
}

/// Whether a token is a number, with a fraction or not.
pub(super) fn is_number(token: &[u8]) -> bool {
    let (_, rest) = split_digits(token);
    let fraction = rest.strip_prefix(b".").unwrap_or(rest);
    fraction.iter().all(u8::is_ascii_digit)
}

/// Whether a token names a host rather than a word or a number: it has a digit, a dot or a colon, and something else.
pub(super) fn is_sure(token: &[u8]) -> bool {
    token
        .iter()
        .any(|byte| matches!(byte, b'0'..=b'9' | b'.' | b':'))
        && !token.iter().all(u8::is_ascii_digit)
}

/// The token without the colon that some senders put behind the host, if an address is left; `2001:db8::` ends in two
/// colons of its own.
pub(super) fn address(token: &[u8]) -> Option<&[u8]> {
    if token.ends_with(b"::") && !token.ends_with(b":::") && is_address(token) {
        return Some(token);
    }
    let address = token.strip_suffix(b":").unwrap_or(token);
    if is_address(address) {
        return Some(address);
    }
    without_port(address)
}

/// The address of `192.0.2.1:514`, `[192.0.2.1]:514` or `[2001:db8::1]:514`.
fn without_port(token: &[u8]) -> Option<&[u8]> {
    let [.., b'0'..=b'9'] = token else {
        return None;
    };
    let colon = token.iter().rposition(|&byte| byte == b':')?;
    let (address, port) = token.split_at_checked(colon)?;
    let is_port = matches!(port.len(), 2..=6) && port.iter().skip(1).all(u8::is_ascii_digit);
    match address {
        _ if !is_port => None,
        [b'[', address @ .., b']'] => is_address(address).then_some(address),
        // With two colons or more it is an address itself.
        _ => (!address.contains(&b':') && is_address(address)).then_some(address),
    }
}

/// The address of a token in brackets or parentheses, `(192.0.2.1)`, with a port or not.
pub(super) fn enclosed_address(token: &[u8]) -> Option<&[u8]> {
    let token = token.strip_suffix(b":").unwrap_or(token);
    match token {
        [b'[', inner @ .., b']'] | [b'(', inner @ .., b')'] => address(inner),
        [b'[', ..] => without_port(token),
        _ => None,
    }
}

/// The name of `hsm1(192.0.2.1)` or `hsm1[192.0.2.1]:`.
pub(super) fn with_address<'a>(token: &'a [u8], name: &'a [u8]) -> Option<&'a [u8]> {
    let enclosed = token.get(name.len()..)?;
    (is_plausible(name) && enclosed_address(enclosed).is_some()).then_some(name)
}

fn without_double(token: &[u8]) -> &[u8] {
    match token.split_at_checked(token.len() / 2) {
        Some((half, [b'/', other @ ..])) if half == other && !half.is_empty() => half,
        _ => token,
    }
}

/// An IPv4 or IPv6 address, by its letters.
pub(super) fn is_address(token: &[u8]) -> bool {
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
        // A time has two as well.
        2 if !address.windows(2).any(|two| two == b"::") => false,
        _ => address
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
    }
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
