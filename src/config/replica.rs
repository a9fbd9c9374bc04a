//! `--shard`: which share of the partitions a process reads.

use std::fmt;
use std::str::FromStr;

/// This process among those that share the partitions of all topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its number, from 0 on.
    pub index: u32,
    /// How many there are; at least one.
    pub count: u32,
}

impl Default for Replica {
    /// The only one.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl Replica {
    /// Whether it reads this partition: its number modulo the replicas.
    pub fn has(self, partition: i32) -> bool {
        u32::try_from(partition).is_ok_and(|partition| partition % self.count == self.index)
    }

    /// `I/N`, or `auto/N` with the number at the end of the host name, as a StatefulSet gives it.
    fn parse(text: &str, host: &str) -> Result<Self, String> {
        const FORM: &str = "must be I/N with I from 0 to N-1, or auto/N";
        let (index, count) = text.split_once('/').ok_or(FORM)?;
        let count: u32 = count.parse().map_err(|_| FORM)?;
        let index = match index {
            "auto" => {
                let digits = host.trim_end_matches(|c: char| c.is_ascii_digit()).len();
                let number = host.get(digits..).unwrap_or_default();
                let number = number.parse();
                number.map_err(|_| format!("the host name `{host}` does not end in a number"))?
            }
            index => index.parse::<u32>().map_err(|_| FORM)?,
        };
        match index < count {
            true => Ok(Self { index, count }),
            false => Err(format!("{FORM}; this is {index} of {count}")),
        }
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Replica {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = rustix::system::uname();
        Self::parse(text, &host.nodename().to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_share() {
        for (text, host, expected) in [
            ("0/1", "", Some((0, 1))),
            ("3/16", "", Some((3, 16))),
            ("auto/16", "exporter-12", Some((12, 16))),
            ("auto/2", "7", None),
            ("auto/16", "exporter", None),
            ("16/16", "", None),
            ("0/0", "", None),
            ("-1/2", "", None),
            ("3", "", None),
            ("", "", None),
            ("auto/4", "a-99999999999", None),
        ] {
            let replica = Replica::parse(text, host).ok();
            let replica = replica.map(|replica| (replica.index, replica.count));
            assert_eq!(replica, expected, "{text} {host}");
        }
        let third = Replica { index: 2, count: 3 };
        let own: Vec<i32> = (-1..9).filter(|partition| third.has(*partition)).collect();
        assert_eq!(own, [2, 5, 8]);
    }
}
