//! How long certificates are valid. rustls leaves that to the clients of a server, and tells nobody.
//!
//! Source: RFC 5280, section 4.1; the encoding is DER, ITU-T X.690.

use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::der::element;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The time in which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Validity {
    /// That of a certificate in DER; nothing if it cannot be read.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut rest, _) = element(certificate, SEQUENCE)?;
        // Certificates of version 1 do not say so.
        if let Some((_, after)) = element(rest, VERSION) {
            rest = after;
        }
        // Serial number, algorithm, issuer.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            (_, rest) = element(rest, tag)?;
        }
        let (validity, _) = element(rest, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Validity {
            not_before,
            not_after,
        })
    }

    /// Why the certificate is not valid now.
    pub(crate) fn fault(&self, now: Timestamp) -> Option<String> {
        let Self {
            not_before,
            not_after,
        } = self;
        if now > *not_after {
            Some(format!(
                "the certificate has expired: not valid after {not_after}"
            ))
        } else if now < *not_before {
            Some(format!(
                "the certificate is not yet valid: not before {not_before}"
            ))
        } else {
            None
        }
    }
}

/// Of all certificates in a PEM text; what cannot be read is left out.
pub(crate) fn validities(pem: &[u8]) -> impl Iterator<Item = Validity> {
    CertificateDer::pem_slice_iter(pem)
        .flatten()
        .filter_map(|certificate| Validity::of(&certificate))
}

/// `YYMMDDhhmmssZ`, where 50 is 1950, or `YYYYMMDDhhmmssZ`.
fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (digits, year_digits, rest) = match element(der, UTC_TIME) {
        Some((text, rest)) => (text, 2, rest),
        None => {
            let (text, rest) = element(der, GENERALIZED_TIME)?;
            (text, 4, rest)
        }
    };
    let digits = std::str::from_utf8(digits.strip_suffix(b"Z")?).ok()?;
    let (year, others) = digits.split_at_checked(year_digits)?;
    let mut year: i16 = year.parse().ok()?;
    if year_digits == 2 {
        year += if year < 50 { 2000 } else { 1900 };
    }
    let part = |at: usize| others.get(at..at + 2)?.parse::<i8>().ok();
    if others.len() != 10 {
        return None;
    }
    let day = date(1970, 1, 1)
        .with()
        .year(year)
        .month(part(0)?)
        .day(part(2)?)
        .build()
        .ok()?;
    let time = jiff::civil::Time::new(part(4)?, part(6)?, part(8)?, 0).ok()?;
    // The last day of 9999 says that there is no end, and is beyond the largest time that there is here.
    let zoned = day.to_datetime(time).to_zoned(TimeZone::UTC);
    Some((zoned.map_or(Timestamp::MAX, |time| time.timestamp()), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made by OpenSSL.
    const PEM: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBbDCCAROgAwIBAgIUcWzNTZybkst1aMv3M4mXvutS/yIwCgYIKoZIzj0EAwIw\n\
DDEKMAgGA1UEAwwBdDAeFw0yNjExMjgxNzI3MTlaFw0yNjExMzAxNzI3MTlaMAwx\n\
CjAIBgNVBAMMAXQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQPWgWVHQ72N4pE\n\
gZblYRey7YVG5rWtQ22DnTWU7bgbzsGQQXDnKUd4/SwQtv2VpHMlFfMOzfyde+wX\n\
t6zAbKjmo1MwUTAdBgNVHQ4EFgQUdtZO3KrDfNpiFsPU7HoaQtmroLEwHwYDVR0j\n\
BBgwFoAUdtZO3KrDfNpiFsPU7HoaQtmroLEwDwYDVR0TAQH/BAUwAwEB/zAKBggq\n\
hkjOPQQDAgNHADBEAiAryUffSV3RxI7x3j+R1Yq8s+RQhsWcQPgYdYapaOmLMQIg\n\
NpLx2/YFGULuj01vTIG4JRXNn7liPJbkCGy0YahS3Sw=\n\
-----END CERTIFICATE-----\n";

    #[test]
    fn the_validity_of_a_certificate() {
        let [one] = validities(PEM.as_bytes()).collect::<Vec<_>>()[..] else {
            panic!("not one certificate")
        };
        let ends = [one.not_before, one.not_after].map(|time| time.to_string());
        assert_eq!(ends, ["2026-11-28T17:27:19Z", "2026-11-30T17:27:19Z"]);
        let second = jiff::SignedDuration::from_secs(1);
        for (now, expected) in [
            (
                one.not_before - second,
                Some("the certificate is not yet valid: not before 2026-11-28T17:27:19Z"),
            ),
            (one.not_before, None),
            (one.not_after, None),
            (
                one.not_after + second,
                Some("the certificate has expired: not valid after 2026-11-30T17:27:19Z"),
            ),
        ] {
            assert_eq!(one.fault(now).as_deref(), expected);
        }
    }

    #[test]
    fn times() {
        for (der, expected) in [
            (&b"\x17\x0d260101000000Z"[..], Some("2026-01-01T00:00:00Z")),
            (b"\x17\x0d491231235959Z", Some("2049-12-31T23:59:59Z")),
            (b"\x17\x0d500101000000Z", Some("1950-01-01T00:00:00Z")),
            (b"\x18\x0f20991231235959Z", Some("2099-12-31T23:59:59Z")),
            (
                b"\x18\x0f99991231235959Z",
                Some("9999-12-30T22:00:00.999999999Z"),
            ),
            (b"\x17\x0d260230000000Z", None),
            (b"\x17\x0d2601010000000", None),
            (b"\x17\x0b2601010000Z", None),
            (b"\x17\x20260101000000Z", None),
            (b"", None),
        ] {
            let read = time(der).map(|(time, _)| time.to_string());
            assert_eq!(read.as_deref(), expected, "{der:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Validity::of(&bytes);
            Validity::of(&[&[SEQUENCE, 0x81, 0xc8, SEQUENCE, 0x81, 0xc0], &bytes[..]].concat());
        }
    }
}
