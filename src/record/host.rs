//! What may name a host in a header.

use super::bytes::split_digits;

/// The host that a token names: `en14` for `en14/en14`, and for `local@en14`, as syslog-ng writes it with
/// `chain_hostnames`.
pub(super) fn name(token: &[u8]) -> &[u8] {
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
    is_address(address).then_some(address)
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
