//! What templates consist of. Few kinds, since two engines must agree on each.

/// A set of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `0-9`
    Digit,
    /// `0-9 A-F a-f`
    Hex,
    /// `0-9 A-F a-f : .`, what an IPv6 address is written with
    Ip6,
    /// `0-9 A-Z a-z _ . -`
    Name,
    /// All but blank and tab.
    Word,
    /// All but `"`.
    Unquoted,
    /// `+` and `-`
    Sign,
    /// `/` and `:`, between an address and a port
    PortMark,
    /// `x` and `X`
    X,
}

impl Class {
    /// The class as a bracket expression.
    pub(super) fn regex(self) -> &'static str {
        match self {
            Class::Digit => "[0-9]",
            Class::Hex => "[0-9A-Fa-f]",
            Class::Ip6 => "[0-9A-Fa-f:.]",
            Class::Name => "[0-9A-Za-z_.-]",
            Class::Word => "[^ \\t]",
            Class::Unquoted => "[^\"]",
            Class::Sign => "[+-]",
            Class::PortMark => "[/:]",
            Class::X => "[xX]",
        }
    }

    /// Whether the class holds the byte.
    pub const fn holds(self, byte: u8) -> bool {
        match self {
            Class::Digit => byte.is_ascii_digit(),
            Class::Hex => byte.is_ascii_hexdigit(),
            Class::Ip6 => byte.is_ascii_hexdigit() || byte == b':' || byte == b'.',
            Class::Name => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'),
            Class::Word => !matches!(byte, b' ' | b'\t'),
            Class::Unquoted => byte != b'"',
            Class::Sign => matches!(byte, b'+' | b'-'),
            Class::PortMark => matches!(byte, b'/' | b':'),
            Class::X => matches!(byte, b'x' | b'X'),
        }
    }
}

/// One part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Text(Vec<u8>),
    /// A run of blanks, tabs and no-break spaces (UTF-8), as long as it is: at least one, or also none. Nothing that may follow starts with one.
    Blanks {
        /// One blank must be there.
        required: bool,
    },
    /// As many bytes of the class as there are, within the limits, fewer if the rest does not match otherwise.
    Run {
        /// Which bytes.
        class: Class,
        /// At least so many.
        min: usize,
        /// At most so many.
        max: usize,
    },
    /// Four numbers of at most three digits with dots between them. Stands alone in an option of a [`Piece::Choice`], and
    /// no other option there matches a text that begins so.
    Quad,
    /// A byte that is not a blank, then anything, as little as the rest allows.
    Lazy,
    /// Anything up to the end of the message.
    Rest,
    /// The first of these that fits.
    Choice(Vec<Vec<Piece>>),
    /// What is inside is captured under this number, an index into the template's captures.
    Capture(usize, Vec<Piece>),
}
