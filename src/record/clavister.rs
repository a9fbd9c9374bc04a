//! Clavister: what is particular in the headers of cOS Core, and of InControl that exports them.

use super::bytes::{skip_blanks, split_token};
use super::stamp::clock_len;
use super::{Programs, Record};

/// Whether a message is one of cOS Core 15 as InControl exports it: `id=1802022 event=ike_sa_failed …`.
pub(super) fn is_export(message: &[u8]) -> bool {
    let (id, rest) = split_token(message);
    let is_id = id
        .strip_prefix(b"id=")
        .is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    is_id && skip_blanks(rest).starts_with(b"event=")
}

/// Enters the program of cOS Core, `EFW`.
pub(super) fn set_program(record: &mut Record<'_>, programs: &Programs) {
    record.program = b"EFW";
    record.program_id = programs.lookup(b"EFW");
}

/// Skips `13:04:11] `: a relay took the first half of the bracketed date for a tag and dropped it.
pub(super) fn torn_stamp(text: &[u8]) -> Option<&[u8]> {
    match clock_len(text) {
        0 => None,
        len => text.get(len..)?.strip_prefix(b"]"),
    }
}
