//! `syslog:` of a source, as written and as meant: what is listened on, and how senders are identified.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde_yaml::Value;

use super::value::{choice, size, unless_empty, whole_number};
use crate::diagnostic::{Path, Problems};

/// The settings of a source that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// What is listened on; at least one.
    pub listen: Vec<ListenAddress>,
    /// Certificates, if something listens by TLS.
    pub tls: Option<Tls>,
    /// How to identify a sender, in this order. One that is not identified is refused.
    pub identify: Vec<Identify>,
    /// Names by address. Without a table every sender is named by its address.
    pub addresses: Option<Vec<(Network, Option<String>)>>,
    /// Connections that are open at the same time.
    pub max_connections: usize,
    /// The same, of one address.
    pub max_connections_per_address: usize,
    /// What the kernel is asked to keep of datagrams that are not read yet, in bytes.
    pub receive_buffer: usize,
    /// Balancers whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<Network>,
    /// What is kept on disk at most, in bytes, if there is a state directory.
    pub spool_bytes: u64,
}

/// The files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Our chain, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Who signs the certificates of senders. With it a sender needs one.
    pub client_ca_file: Option<PathBuf>,
    /// Certificates that were revoked, PEM.
    pub client_crl_file: Option<PathBuf>,
}

/// One way to identify a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identify {
    /// By the name in the certificate.
    Certificate,
    /// By the address.
    Address,
    /// By the header of each message.
    Header,
}

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// RFC 5426.
    Udp,
    /// RFC 6587.
    Tcp,
    /// RFC 5425.
    Tls,
}

impl Transport {
    const ALL: [(&'static str, Transport); 3] = [
        ("udp", Transport::Udp),
        ("tcp", Transport::Tcp),
        ("tls", Transport::Tls),
    ];

    /// As in an address and in the label `transport`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

impl FromStr for Transport {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Transport::ALL.iter().find(|(name, _)| *name == text);
        Ok(found.ok_or("must be udp, tcp or tls")?.1)
    }
}

/// `udp://:514` or `udp://systemd/NAME`: a transport, and where its socket comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenAddress {
    /// How messages come.
    pub transport: Transport,
    /// Where the socket comes from.
    pub socket: ListenSocket,
}

/// Where a socket comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenSocket {
    /// It is opened here.
    Bind {
        /// A name, an address, an IPv6 address in brackets, or nothing for all interfaces.
        host: String,
        /// 0 for any free one.
        port: u16,
    },
    /// systemd passes it under this name: `FileDescriptorName=` of the socket unit.
    Passed(String),
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "must be udp://, tcp:// or tls:// with HOST:PORT, [IPv6]:PORT, :PORT or systemd/NAME";
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let transport = scheme.parse().map_err(|_| FORM)?;
        if let Some(name) = rest.strip_prefix("systemd/") {
            let socket = ListenSocket::Passed(name.to_owned());
            // What systemd allows, see FileDescriptorName= in systemd.socket(5).
            let is_name = !name.is_empty() && !name.contains(|c: char| c == ':' || c.is_control());
            return is_name
                .then_some(ListenAddress { transport, socket })
                .ok_or(FORM);
        }
        let (host, port) = rest.rsplit_once(':').ok_or(FORM)?;
        let is_open = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if is_open || host.contains('/') {
            return Err(FORM);
        }
        let (host, port) = (host.to_owned(), port.parse().map_err(|_| FORM)?);
        let socket = ListenSocket::Bind { host, port };
        Ok(ListenAddress { transport, socket })
    }
}

impl ListenAddress {
    /// Whether both cannot be had at the same time.
    pub(super) fn is_same_socket(&self, other: &ListenAddress) -> bool {
        if (self.transport == Transport::Udp) != (other.transport == Transport::Udp) {
            return false;
        }
        match (&self.socket, &other.socket) {
            (
                ListenSocket::Bind { host, port },
                ListenSocket::Bind {
                    host: other_host,
                    port: other_port,
                },
            ) => {
                let is_same_host = host == other_host || host.is_empty() || other_host.is_empty();
                port == other_port && *port != 0 && is_same_host
            }
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.transport.as_str())?;
        match &self.socket {
            ListenSocket::Bind { host, port } => write!(f, "{host}:{port}"),
            ListenSocket::Passed(name) => write!(f, "systemd/{name}"),
        }
    }
}

/// An address, or all that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address is in it. IPv4 addresses in IPv6 are IPv4 addresses.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = u32::from(network) ^ u32::from(address);
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = u128::from(network) ^ u128::from(address);
                differ.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }

    /// How many bits are the same in all addresses.
    pub fn bits(&self) -> u8 {
        self.bits
    }
}

impl From<std::net::Ipv4Addr> for Network {
    fn from(address: std::net::Ipv4Addr) -> Self {
        let (address, bits) = (address.into(), 32);
        Network { address, bits }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be an address or a network, as 192.0.2.1 or 192.0.2.0/24";
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| FORM)?;
        let (max, value) = match address {
            IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
            IpAddr::V6(address) => (128, u128::from(address)),
        };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= max).ok_or(FORM)?,
            None => max,
        };
        if value.checked_shl(u32::from(bits)).unwrap_or(0) != 0 {
            return Err("has bits behind the length of the network");
        }
        Ok(Network { address, bits })
    }
}

impl Default for Syslog {
    fn default() -> Self {
        Syslog {
            listen: Vec::new(),
            tls: None,
            identify: vec![Identify::Address],
            addresses: None,
            max_connections: 1_000,
            max_connections_per_address: 32,
            receive_buffer: 8 << 20,
            proxy_protocol_from: Vec::new(),
            spool_bytes: 1 << 30,
        }
    }
}

impl Syslog {
    /// What `--syslog.listen` asks for: senders are known by their certificate, if they need one, and by their address.
    pub fn of_flags(listen: Vec<ListenAddress>, tls: Option<Tls>) -> Self {
        Syslog {
            listen,
            identify: default_identify(tls.as_ref()),
            tls,
            ..Syslog::default()
        }
    }

    /// The appliances that the table of addresses names.
    pub fn appliances(&self) -> impl Iterator<Item = &String> {
        let addresses = self.addresses.iter().flatten();
        addresses.filter_map(|(_, name)| name.as_ref())
    }

    /// The transports that it listens by, each once.
    pub fn transports(&self) -> BTreeSet<Transport> {
        self.listen
            .iter()
            .map(|address| address.transport)
            .collect()
    }
}

fn default_identify(tls: Option<&Tls>) -> Vec<Identify> {
    match tls.is_some_and(|tls| tls.client_ca_file.is_some()) {
        true => vec![Identify::Certificate, Identify::Address],
        false => vec![Identify::Address],
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSyslog {
    listen: Vec<String>,
    tls: Option<TypedTls>,
    addresses: Option<BTreeMap<String, Option<String>>>,
    max_connections: Option<Value>,
    max_connections_per_address: Option<Value>,
    receive_buffer: Option<Value>,
    proxy_protocol_from: Option<Vec<String>>,
    spool: Option<TypedSpool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedTls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    client_crl_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSpool {
    bytes: Option<Value>,
}

/// `appliance:` of a source that listens: one way to identify a sender, several in order, or a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum TypedAppliance {
    One(String),
    Several(Vec<String>),
}

/// The ways that `appliance` names; `None` if it is the name of an appliance, or nothing.
pub(super) fn read_identify(
    appliance: Option<&TypedAppliance>,
    at: &Path,
    problems: &mut Problems<'_>,
) -> Option<Vec<Identify>> {
    let choices = [
        ("certificate", Identify::Certificate),
        ("address", Identify::Address),
        ("header", Identify::Header),
    ];
    match appliance? {
        TypedAppliance::One(word) => {
            let found = choices.iter().find(|(name, _)| name == word);
            found.map(|(_, one)| vec![*one])
        }
        TypedAppliance::Several(words) => {
            if words.is_empty() {
                problems.key(at, "there is nothing in it", None);
            }
            let each = words.iter().enumerate();
            let found =
                each.filter_map(|(index, word)| choice(word, &choices, &at.then(index), problems));
            Some(found.collect())
        }
    }
}

/// Everything but `identify`, which stands beside it.
pub(super) fn read_syslog(
    value: &Value,
    identify: Option<Vec<Identify>>,
    directory: &FilePath,
    at: &Path,
    problems: &mut Problems<'_>,
) -> Option<Syslog> {
    let typed = problems.decode_rest::<TypedSyslog>(value, at)?;
    let default = Syslog::default();
    if typed.listen.is_empty() {
        problems.key(&at.then("listen"), "there is no address to listen on", None);
    }
    let listen = each(&typed.listen, &at.then("listen"), problems);
    let tls = typed.tls.map(|typed| Tls {
        cert_file: directory.join(typed.cert_file),
        key_file: directory.join(typed.key_file),
        client_ca_file: typed.client_ca_file.map(|file| directory.join(file)),
        client_crl_file: typed.client_crl_file.map(|file| directory.join(file)),
    });
    let addresses = typed.addresses.map(|table| {
        let mut addresses = Vec::new();
        for (network, name) in table {
            let at = at.then("addresses").then(network.as_str());
            if let Some(name) = &name {
                unless_empty(name, &at, problems);
            }
            match network.parse() {
                Ok(network) => addresses.push((network, name)),
                Err(message) => problems.key(&at, message, None),
            }
        }
        addresses
    });
    let proxies = typed.proxy_protocol_from.unwrap_or_default();
    let mut number = |key: &str, typed: &Option<Value>, default: usize, max: u64| {
        whole_number(typed.as_ref(), 1..=max, &at.then(key), problems)
            .map_or(default, |value| value as usize)
    };
    let max_connections = number(
        "max_connections",
        &typed.max_connections,
        default.max_connections,
        100_000,
    );
    let max_connections_per_address = number(
        "max_connections_per_address",
        &typed.max_connections_per_address,
        default.max_connections_per_address,
        100_000,
    );
    let receive_buffer = typed.receive_buffer.as_ref().and_then(|typed| {
        let at = at.then("receive_buffer");
        size(typed, 64 << 10..=1 << 30, "64KiB to 1GiB", &at, problems)
    });
    let spool = typed.spool.and_then(|spool| spool.bytes);
    let spool_bytes = spool.as_ref().and_then(|typed| {
        let at = at.then("spool").then("bytes");
        size(typed, 64 << 20..=1 << 40, "64MiB to 1TiB", &at, problems)
    });
    let syslog = Syslog {
        listen,
        identify: identify.unwrap_or_else(|| default_identify(tls.as_ref())),
        tls,
        addresses,
        max_connections,
        max_connections_per_address,
        receive_buffer: receive_buffer.map_or(default.receive_buffer, |bytes| bytes as usize),
        proxy_protocol_from: each(&proxies, &at.then("proxy_protocol_from"), problems),
        spool_bytes: spool_bytes.unwrap_or(default.spool_bytes),
    };
    contradictions(&syslog, at, problems);
    Some(syslog)
}

fn each<T: FromStr<Err = &'static str>>(
    texts: &[String],
    at: &Path,
    problems: &mut Problems<'_>,
) -> Vec<T> {
    let mut all = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(one) => all.push(one),
            Err(message) => problems.value(&at.then(index), message, None),
        }
    }
    all
}

fn contradictions(syslog: &Syslog, at: &Path, problems: &mut Problems<'_>) {
    let transports = syslog.transports();
    let has_tls = transports.contains(&Transport::Tls);
    match &syslog.tls {
        None if has_tls => problems.key(
            &at.then("listen"),
            "tls:// needs a certificate",
            Some("tls: {cert_file: …, key_file: …}".into()),
        ),
        Some(_) if !has_tls => {
            problems.key(&at.then("tls"), "nothing listens by tls://", None);
        }
        Some(tls) if tls.client_crl_file.is_some() && tls.client_ca_file.is_none() => problems.key(
            &at.then("tls").then("client_crl_file"),
            "has no effect without client_ca_file",
            None,
        ),
        _ => {}
    }
    let has_ca = (syslog.tls.as_ref()).is_some_and(|tls| tls.client_ca_file.is_some());
    let by = |way| syslog.identify.contains(&way);
    if by(Identify::Certificate) && !has_ca {
        problems.key(
            at,
            "`appliance: certificate` needs tls.client_ca_file, who signs the certificates of senders",
            None,
        );
    }
    if syslog.identify == [Identify::Certificate]
        && transports.iter().any(|one| *one != Transport::Tls)
    {
        problems.key(
            &at.then("listen"),
            "only senders over tls:// have a certificate",
            Some("appliance: [certificate, address]".into()),
        );
    }
    if syslog.addresses.is_some() && !by(Identify::Address) {
        problems.key(
            &at.then("addresses"),
            "has no effect, since `appliance` does not name `address`",
            None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_an_address() {
        for (text, good) in [
            ("udp://:514", true),
            ("tcp://127.0.0.1:0", true),
            ("tls://[::1]:6514", true),
            ("tls://collector.example.org:6514", true),
            ("relp://:20514", false),
            (":514", false),
            ("udp://:514/", false),
            ("udp://::1:514", false),
            ("udp://host", false),
            ("udp://systemd/syslog", true),
            ("udp://systemd:514", true),
            ("udp://systemd/", false),
            ("udp://systemd/a:b", false),
            ("udp://:99999", false),
        ] {
            let read = text.parse::<ListenAddress>();
            assert_eq!(
                read.map(|address| address.to_string()).ok(),
                good.then(|| text.to_owned())
            );
        }
    }

    #[test]
    fn networks() {
        for (network, address, is_in) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.0/28", "192.0.2.15", true),
            ("192.0.2.0/28", "192.0.2.16", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                is_in,
                "{network:?} {address}"
            );
        }
        for wrong in [
            "",
            "hsm1",
            "192.0.2.1/28",
            "192.0.2.0/33",
            "192.0.2.0/x",
            "2001:db8::/129",
            "::1/64",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
