//! Who a sender is: by certificate, by address, by the header of each message, in the order of the settings.

use std::net::IpAddr;

use super::entry::Tag;
use crate::config::{ApplianceFrom, Identify, Source, Syslog};

/// What identifies a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) address: IpAddr,
    /// The name in its certificate, which was verified.
    pub(super) certificate: Option<String>,
}

/// How a source identifies its senders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    fixed: Option<String>,
    settings: Syslog,
}

impl Identity {
    /// `None` if the source does not listen.
    pub(super) fn of(source: &Source) -> Option<Self> {
        let fixed = match &source.appliance {
            ApplianceFrom::Fixed(name) => Some(name.clone()),
            ApplianceFrom::Header | ApplianceFrom::Path | ApplianceFrom::Key => None,
        };
        let settings = source.syslog()?.clone();
        Some(Identity { fixed, settings })
    }

    pub(super) fn settings(&self) -> &Syslog {
        &self.settings
    }

    /// The sender of messages; `None` if nothing identifies it, and nobody wants them then.
    pub(super) fn sender(&self, credentials: &Credentials) -> Option<Tag> {
        let Credentials {
            address,
            certificate,
        } = credentials;
        let mut ways = self.settings.identify.iter();
        let found = ways.find_map(|way| match way {
            Identify::Certificate => certificate.as_deref().map(Tag::named),
            Identify::Address => self.by_address(*address).as_deref().map(Tag::named),
            Identify::Header => Some(Tag::by_header(address.to_canonical())),
        });
        match &self.fixed {
            // The table of addresses says who may send all the same.
            Some(name) => found.map(|_| Tag::named(name)),
            None => found,
        }
    }

    /// The name of the longest network that has the address, or the address if that has none.
    fn by_address(&self, address: IpAddr) -> Option<String> {
        let address = address.to_canonical();
        let Some(addresses) = &self.settings.addresses else {
            return Some(address.to_string());
        };
        let having = addresses
            .iter()
            .filter(|(network, _)| network.contains(address));
        let (_, name) = having.max_by_key(|(network, _)| network.bits())?;
        Some(name.clone().unwrap_or_else(|| address.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_identified() {
        let table = [
            ("192.0.2.0/28", None),
            ("192.0.2.10", Some("hsm-1")),
            ("2001:db8::/32", Some("lab")),
        ];
        let table =
            table.map(|(network, name)| (network.parse().unwrap(), name.map(str::to_owned)));
        use Identify::{Address, Certificate, Header};
        let named = |name: &str| Some(Tag::named(name));
        for (identify, has_table, fixed, address, certificate, expected) in [
            (
                vec![Address],
                false,
                None,
                "192.0.2.10",
                None,
                named("192.0.2.10"),
            ),
            (
                vec![Address],
                false,
                None,
                "::ffff:192.0.2.10",
                None,
                named("192.0.2.10"),
            ),
            (
                vec![Address],
                true,
                None,
                "::ffff:192.0.2.10",
                None,
                named("hsm-1"),
            ),
            (
                vec![Address],
                true,
                None,
                "192.0.2.3",
                None,
                named("192.0.2.3"),
            ),
            (vec![Address], true, None, "2001:db8::7", None, named("lab")),
            (vec![Address], true, None, "203.0.113.1", None, None),
            (
                vec![Certificate, Address],
                true,
                None,
                "192.0.2.10",
                Some("hsm-7"),
                named("hsm-7"),
            ),
            (
                vec![Address, Certificate],
                true,
                None,
                "192.0.2.10",
                Some("hsm-7"),
                named("hsm-1"),
            ),
            (
                vec![Address, Certificate],
                true,
                None,
                "203.0.113.1",
                Some("hsm-7"),
                named("hsm-7"),
            ),
            (vec![Certificate], false, None, "192.0.2.10", None, None),
            (
                vec![Address, Header],
                true,
                None,
                "203.0.113.1",
                None,
                Some(Tag::by_header("203.0.113.1".parse().unwrap())),
            ),
            (
                vec![Address],
                false,
                Some("gw1"),
                "203.0.113.1",
                None,
                named("gw1"),
            ),
            (vec![Address], true, Some("gw1"), "203.0.113.1", None, None),
        ] {
            let identity = Identity {
                fixed: fixed.map(str::to_owned),
                settings: Syslog {
                    identify,
                    addresses: has_table.then(|| table.to_vec()),
                    ..Syslog::default()
                },
            };
            let credentials = Credentials {
                address: address.parse().unwrap(),
                certificate: certificate.map(str::to_owned),
            };
            let sender = identity.sender(&credentials);
            assert_eq!(sender, expected, "{identity:?} {credentials:?}");
        }
    }
}
