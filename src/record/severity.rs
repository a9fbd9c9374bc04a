//! The words of syslog's priority: severities in all their spellings, and facilities.

use super::bytes::{key, short_key};

/// Syslog severity, RFC 5424 section 6.2.1, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Severity {
    /// System is unusable.
    Emerg,
    /// Action must be taken immediately.
    Alert,
    /// Critical conditions.
    Crit,
    /// Error conditions.
    Err,
    /// Warning conditions.
    Warning,
    /// Normal but significant.
    Notice,
    /// Informational.
    Info,
    /// Debug-level.
    Debug,
}

impl Severity {
    const ALL: [Severity; 8] = [
        Severity::Emerg,
        Severity::Alert,
        Severity::Crit,
        Severity::Err,
        Severity::Warning,
        Severity::Notice,
        Severity::Info,
        Severity::Debug,
    ];

    /// The label value: one of emerg alert crit err warning notice info debug.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Emerg => "emerg",
            Severity::Alert => "alert",
            Severity::Crit => "crit",
            Severity::Err => "err",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
            Severity::Info => "info",
            Severity::Debug => "debug",
        }
    }

    /// Reads a severity word in any case: syslog's own, its older synonyms, and the spellings that appliances use
    /// (`critical`, `notify`, `informational`). `None` for anything else.
    #[inline]
    pub fn parse(word: &[u8]) -> Option<Severity> {
        let Some(short) = short_key(word) else {
            return if word.eq_ignore_ascii_case(b"informational") {
                Some(Severity::Info)
            } else if word.eq_ignore_ascii_case(b"emergency") {
                Some(Severity::Emerg)
            } else if word.eq_ignore_ascii_case(b"notification") {
                Some(Severity::Notice)
            } else {
                None
            };
        };
        Severity::from_key(short)
    }

    /// The severity of a word's [`key`].
    #[inline]
    pub(super) fn from_key(word: u64) -> Option<Severity> {
        const EMERG: u64 = key("emerg");
        const PANIC: u64 = key("panic");
        const ALERT: u64 = key("alert");
        const CRIT: u64 = key("crit");
        const CRITICAL: u64 = key("critical");
        const ERR: u64 = key("err");
        const ERROR: u64 = key("error");
        const WARN: u64 = key("warn");
        const WARNING: u64 = key("warning");
        const NOTICE: u64 = key("notice");
        const NOTIFY: u64 = key("notify");
        const INFO: u64 = key("info");
        const DEBUG: u64 = key("debug");
        match word {
            EMERG | PANIC => Some(Severity::Emerg),
            ALERT => Some(Severity::Alert),
            CRIT | CRITICAL => Some(Severity::Crit),
            ERR | ERROR => Some(Severity::Err),
            WARN | WARNING => Some(Severity::Warning),
            NOTICE | NOTIFY => Some(Severity::Notice),
            INFO => Some(Severity::Info),
            DEBUG => Some(Severity::Debug),
            _ => None,
        }
    }

    /// The severity of a syslog number, 0 (emerg) to 7 (debug).
    pub(super) fn from_number(number: u64) -> Option<Severity> {
        Severity::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// The facility words by their number, as rsyslog writes them.
const FACILITIES: [&[u8]; 24] = [
    b"kern",
    b"user",
    b"mail",
    b"daemon",
    b"auth",
    b"syslog",
    b"lpr",
    b"news",
    b"uucp",
    b"cron",
    b"authpriv",
    b"ftp",
    b"ntp",
    b"audit",
    b"alert",
    b"clock",
    b"local0",
    b"local1",
    b"local2",
    b"local3",
    b"local4",
    b"local5",
    b"local6",
    b"local7",
];

/// The word of a facility number.
pub(super) fn facility_name(number: u64) -> &'static [u8] {
    usize::try_from(number)
        .ok()
        .and_then(|index| FACILITIES.get(index).copied())
        .unwrap_or_default()
}

/// The number of a facility word.
pub(super) fn facility_number(word: &[u8]) -> Option<u64> {
    let at = FACILITIES
        .iter()
        .position(|name| name.eq_ignore_ascii_case(word))?;
    u64::try_from(at).ok()
}

const LOCAL: u64 = key("local0") & !(0xff << 40);
const AUTHPRIV: u64 = key("authpriv");
const DAEMON: u64 = key("daemon");
const KERN: u64 = key("kern");
const AUTH: u64 = key("auth");
const USER: u64 = key("user");
const SYSLOG: u64 = key("syslog");
const CRON: u64 = key("cron");
const MAIL: u64 = key("mail");
const LPR: u64 = key("lpr");
const NEWS: u64 = key("news");
const UUCP: u64 = key("uucp");
const FTP: u64 = key("ftp");
const NTP: u64 = key("ntp");
const AUDIT: u64 = key("audit");
const SECURITY: u64 = key("security");
const CONSOLE: u64 = key("console");

/// Whether the word names a facility, and how sure that is.
#[inline]
pub(super) fn facility_kind(word: &[u8]) -> FacilityKind {
    let Some(short) = short_key(word) else {
        return FacilityKind::None;
    };
    if short & !(0xff << 40) == LOCAL && matches!((short >> 40) as u8, b'0'..=b'7') {
        return FacilityKind::Plain;
    }
    match short {
        AUTHPRIV | DAEMON | KERN | AUTH => FacilityKind::Plain,
        USER | SYSLOG | CRON | MAIL | LPR | NEWS | UUCP | FTP | NTP | AUDIT | SECURITY
        | CONSOLE => FacilityKind::AlsoHostName,
        _ => FacilityKind::None,
    }
}

/// What [`facility_kind`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FacilityKind {
    /// No facility.
    None,
    /// A facility that nobody calls a host.
    Plain,
    /// A facility that hosts are called by, too: `mail`, `console`.
    AlsoHostName,
}
