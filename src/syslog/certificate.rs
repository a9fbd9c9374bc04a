//! The name in a certificate: the first DNS name of its subject alternative names, else their first URI, else the common
//! name of its subject.
//!
//! Source: RFC 5280, sections 4.1 and 4.2.1.6. The certificate was verified before; what cannot be read has no name.

use crate::der::{Elements, element};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
/// `[3] extensions` of a certificate.
const EXTENSIONS: u8 = 0xa3;
/// `[2] dNSName` and `[6] uniformResourceIdentifier` of a general name.
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
/// 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// See the module.
pub(super) fn name_of(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (fields, _) = element(certificate, SEQUENCE)?;
    let fields: Vec<(u8, &[u8])> = Elements(fields).collect();
    let extensions = fields.iter().find(|(tag, _)| *tag == EXTENSIONS);
    let names = extensions.and_then(|(_, content)| alternative_names(content));
    let names = names.unwrap_or_default();
    let name = |kind: u8| names.iter().find(|(tag, _)| *tag == kind);
    let text = match name(DNS_NAME).or_else(|| name(URI)) {
        Some((_, text)) => text,
        None => common_name(&fields)?,
    };
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let (extensions, _) = element(extensions, SEQUENCE)?;
    let mut each = Elements(extensions);
    let value = each.find_map(|(_, extension)| {
        let (id, _) = element(extension, OBJECT_ID)?;
        // Whether it is critical may stand between.
        let value = Elements(extension).find(|(tag, _)| *tag == OCTET_STRING);
        (id == SUBJECT_ALT_NAME).then_some(value?.1)
    })?;
    let (names, _) = element(value, SEQUENCE)?;
    Some(Elements(names).collect())
}

/// Issuer, validity and subject are sequences, in this order, behind that of the algorithm.
fn common_name<'c>(fields: &[(u8, &'c [u8])]) -> Option<&'c [u8]> {
    let mut sequences = fields.iter().filter(|(tag, _)| *tag == SEQUENCE);
    let (_, subject) = sequences.nth(3)?;
    let sets = Elements(subject).filter(|(tag, _)| *tag == SET);
    let attributes = sets.flat_map(|(_, set)| Elements(set));
    attributes
        .filter_map(|(_, attribute)| {
            let (id, rest) = element(attribute, OBJECT_ID)?;
            let (_, text) = Elements(rest).next()?;
            (id == COMMON_NAME).then_some(text)
        })
        .last()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_names: &[&str], names: &[(char, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        for (kind, name) in names {
            params.subject_alt_names.push(match kind {
                'd' => SanType::DnsName((*name).try_into().unwrap()),
                'u' => SanType::URI((*name).try_into().unwrap()),
                _ => SanType::IpAddress(name.parse().unwrap()),
            });
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_alternative_names_come_before_the_common_name() {
        let urn = "urn:dev:7";
        for (common_names, names, expected) in [
            (&["hsm-1"][..], &[][..], Some("hsm-1")),
            (&["hsm é"], &[], Some("hsm é")),
            (&["hsm-1"], &[('i', "192.0.2.1")], Some("hsm-1")),
            (&["hsm-1"], &[('u', urn)], Some(urn)),
            (
                &["hsm-1"],
                &[
                    ('i', "::1"),
                    ('u', urn),
                    ('d', "a.example"),
                    ('d', "b.example"),
                ],
                Some("a.example"),
            ),
            (&[], &[('d', "a.example")], Some("a.example")),
            (&[""], &[], None),
            (&[], &[], None),
        ] {
            let certificate = certificate(common_names, names);
            assert_eq!(name_of(&certificate).as_deref(), expected);
            // Whatever is cut off or changed is read or not, and nothing more.
            for end in 0..certificate.len() {
                let _ = name_of(&certificate[..end]);
                let mut changed = certificate.clone();
                changed[end] ^= 0xff;
                let _ = name_of(&changed);
            }
        }
    }
}
