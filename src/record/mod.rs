//! A line becomes a record: the fields of its header, and the message that is left. It never fails.

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

/// A program that some rule pack knows, as an index into [`Programs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(pub u16);

/// The programs that the loaded packs know, with all their spellings; case is ignored.
#[derive(Clone, Debug, Default)]
pub struct Programs {}

/// What was read from one line. All slices borrow from the line.
#[derive(Clone, Debug, Default)]
pub struct Record<'a> {
    /// The host or, for ONTAP, the node that the header names, the one nearest to the program.
    pub host: Option<&'a [u8]>,
    /// The program as read, without pid; empty if the header has none.
    pub program: &'a [u8],
    /// The program, if a pack knows it.
    pub program_id: Option<ProgramId>,
    /// From the message's own field where it has one, else from the header words, else from the PRI.
    pub severity: Option<Severity>,
    /// Facility word or the PRI's facility as its word (`local5`); empty if there is none.
    pub facility: &'a [u8],
    /// The time as written; parsed only when somebody asks, by [`Record::timestamp`].
    pub stamp: &'a [u8],
    /// Junos message id (`KMD_VPN_UP_ALARM_USER`), ONTAP event name (`ktls.badAuth`), RFC 5424 MSGID, or the module in
    /// `sshd(pam_unix)[1]:`; empty if there is none.
    pub tag: &'a [u8],
    /// RFC 5424 structured data with its brackets, or empty.
    pub structured: &'a [u8],
    /// Luna's second severity, the word as written (`critical`), or empty.
    pub app_severity: &'a [u8],
    /// Luna's error code as written (`0`, `0xc0000711`), or empty.
    pub code: &'a [u8],
    /// How often the line stands for: 5 for `message repeated 5 times: [ … ]`, otherwise 1.
    pub repeat: u32,
    /// For `last message repeated N times`: N; the record has no message of its own.
    pub repeat_last: u32,
    /// The line carries the appliance's test marker.
    pub test: bool,
    /// What is left, blanks trimmed at both ends.
    pub message: &'a [u8],
}
