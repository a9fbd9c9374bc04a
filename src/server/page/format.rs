//! Texts, numbers and times as the page shows them.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

/// Text for element content and quoted attributes.
pub(in crate::server) struct Escaped<'t>(pub(in crate::server) &'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // HTML knows no NUL and no other control characters; a log does.
                c if c.is_control() && c != '\n' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// `12 345`, with blanks that do not break.
pub(super) struct Grouped(pub(super) u64);

impl Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

pub(super) struct Bytes(pub(super) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = UNITS[0];
        for next in &UNITS[1..] {
            // What would be shown as 1024.0 belongs to the next unit.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        write!(f, "{value:.1} {unit}")
    }
}

pub(super) struct Rate(pub(super) f64);

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 99.95 {
            Grouped(self.0.round() as u64).fmt(f)
        } else {
            // The sum of no rates is -0.
            write!(f, "{:.1}", self.0 + 0.0)
        }
    }
}

/// The two largest units of a time.
pub(super) struct Age(pub(super) Duration);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, ..) => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (shown, expected) in [
            (Grouped(0).to_string(), "0"),
            (Grouped(999).to_string(), "999"),
            (Grouped(1000).to_string(), "1\u{202f}000"),
            (
                Grouped(u64::MAX).to_string(),
                "18\u{202f}446\u{202f}744\u{202f}073\u{202f}709\u{202f}551\u{202f}615",
            ),
            (Bytes(1023).to_string(), "1023 B"),
            (Bytes(1024).to_string(), "1.0 KiB"),
            (Bytes(1024 * 1024 - 1).to_string(), "1.0 MiB"),
            (Bytes(u64::MAX).to_string(), "16.0 EiB"),
            (Rate(0.04).to_string(), "0.0"),
            (Rate(-0.0).to_string(), "0.0"),
            (Rate(99.96).to_string(), "100"),
            (
                Rate(f64::INFINITY).to_string(),
                &Grouped(u64::MAX).to_string(),
            ),
            (Age(Duration::from_secs(59)).to_string(), "59 s"),
            (Age(Duration::from_secs(61)).to_string(), "1 min 1 s"),
            (
                Age(Duration::from_secs(3 * 3600 + 120)).to_string(),
                "3 h 2 min",
            ),
            (Age(Duration::from_secs(50 * 3600)).to_string(), "2 d 2 h"),
        ] {
            assert_eq!(shown, expected);
        }
    }
}
