//! A snapshot of the metrics becomes the text or the protobuf messages that a scraper asks for.
//!
//! Families and series keep the order in which they come, so two scrapes without a change between them are equal byte
//! for byte. Names must be valid metric and label names; whoever loads the rules checks that.

mod coding;
mod protobuf;
mod text;

use crate::metric::Snapshot;
pub use coding::{Body, Coding};

/// A format that a scraper can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
    /// Delimited `io.prometheus.client.MetricFamily` messages, with the start timestamps of counters.
    Protobuf,
}

impl Format {
    /// The format that an `Accept` header prefers: the one with the highest quality, at equal quality the one named
    /// first. The classic format if nothing is asked, or nothing that we have: a scraper is better served by a format
    /// that it did not name than by an error.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (0, Format::Classic);
        for range in ranges(accept) {
            if let Some(format) = range.format()
                && range.quality > best.0
            {
                best = (range.quality, format);
            }
        }
        best.1
    }

    /// The value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// A snapshot in one piece: about 100 bytes a series.
pub fn encode(snapshot: Snapshot, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    write(snapshot, format, |bytes| out.extend_from_slice(bytes));
    out
}

/// Encodes a snapshot family by family, and passes each to `sink`: no more than one is in memory at a time.
pub fn write(snapshot: Snapshot, format: Format, mut sink: impl FnMut(&[u8])) {
    match format {
        Format::Classic => text::classic(snapshot, &mut sink),
        Format::OpenMetrics => text::open_metrics(snapshot, &mut sink),
        Format::Protobuf => protobuf::delimited(&snapshot, &mut sink),
    }
}

/// One item of an `Accept…` header.
struct Range<'h> {
    name: &'h str,
    parameters: &'h str,
    /// In thousandths; 0 means "not this one".
    quality: u16,
}

impl<'h> Range<'h> {
    /// The format that it names. A wildcard names none, so it gets the one that everybody reads.
    fn format(&self) -> Option<Format> {
        let version = self.parameter("version");
        match self.name.to_ascii_lowercase().as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                Some(Format::OpenMetrics)
            }
            "text/plain" if matches!(version, None | Some("0.0.4")) => Some(Format::Classic),
            "text/*" | "*/*" => Some(Format::Classic),
            "application/vnd.google.protobuf"
                if self.parameter("proto") == Some("io.prometheus.client.MetricFamily")
                    && self.parameter("encoding") == Some("delimited") =>
            {
                Some(Format::Protobuf)
            }
            _ => None,
        }
    }

    fn parameter(&self, name: &str) -> Option<&'h str> {
        parameters(self.parameters)
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// The items of an `Accept…` header whose quality makes sense; the others are skipped, as if never sent.
fn ranges(header: &str) -> impl Iterator<Item = Range<'_>> {
    header.split(',').filter_map(|item| {
        let (name, rest) = item.split_once(';').unwrap_or((item, ""));
        let quality = match parameters(rest).find(|(key, _)| key.eq_ignore_ascii_case("q")) {
            None => 1000,
            Some((_, value)) => {
                let value: f32 = value.parse().ok()?;
                (0.0..=1.0)
                    .contains(&value)
                    .then_some((value * 1000.0) as u16)?
            }
        };
        Some(Range {
            name: name.trim(),
            parameters: rest,
            quality,
        })
    })
}

fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(';').filter_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        Some((key.trim(), value.trim().trim_matches('"')))
    })
}

#[cfg(test)]
mod tests {

    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::metric::{Family, Kind, Series};

    fn text(snapshot: Snapshot, format: Format) -> String {
        String::from_utf8(encode(snapshot, format)).unwrap()
    }

    fn family(name: &str, help: &str, kind: Kind, labels: &[&str]) -> Arc<Family> {
        Arc::new(Family {
            name: name.into(),
            help: help.into(),
            kind,
            labels: labels.iter().map(|&label| label.into()).collect(),
        })
    }

    fn series(values: &[&str], test: bool, value: f64) -> Series {
        Series {
            values: values.iter().map(|&value| value.into()).collect(),
            test,
            created: 0,
            value,
        }
    }

    fn sample() -> Snapshot {
        Snapshot {
            families: vec![
                (
                    family(
                        "drops_total",
                        "A \"dropped\"\npacket, C:\\ and all",
                        Kind::Counter,
                        &["appliance", "id"],
                    ),
                    vec![
                        series(&["gw", "278"], false, 3.0),
                        series(&["gw", "278"], true, 0.5),
                        series(&["a\"b\\c\nd", ""], false, 1e300),
                    ],
                ),
                (
                    family("reading", "Reading", Kind::Gauge, &["appliance"]),
                    vec![
                        series(&["hsm"], false, -4.25),
                        series(&["hsm2"], false, f64::NAN),
                        series(&["hsm3"], false, f64::NEG_INFINITY),
                        series(&["hsm4"], false, 1_700_000_000.0),
                    ],
                ),
                (
                    family("bare", "No labels", Kind::Gauge, &[]),
                    vec![series(&[], false, 1.0)],
                ),
            ],
        }
    }

    #[test]
    fn open_metrics() {
        assert_eq!(
            text(sample(), Format::OpenMetrics),
            r##"# HELP drops A \"dropped\"\npacket, C:\\ and all
# TYPE drops counter
drops_total{appliance="gw",id="278"} 3
drops_total{appliance="gw",id="278",test="true"} 0.5
drops_total{appliance="a\"b\\c\nd",id=""} 1e300
# HELP reading Reading
# TYPE reading gauge
reading{appliance="hsm"} -4.25
reading{appliance="hsm2"} NaN
reading{appliance="hsm3"} -inf
reading{appliance="hsm4"} 1700000000
# HELP bare No labels
# TYPE bare gauge
bare 1
# EOF
"##
        );
    }

    #[test]
    fn a_unit_is_said_where_a_name_ends_with_one() {
        let units = [
            ("start_time_seconds", Kind::Gauge, Some("seconds")),
            ("read_bytes_total", Kind::Counter, Some("bytes")),
            ("fill_ratio", Kind::Gauge, Some("ratio")),
            ("cpu_celsius", Kind::Gauge, Some("celsius")),
            ("drops_total", Kind::Counter, None),
            ("seconds", Kind::Gauge, None),
        ];
        for (name, kind, unit) in units {
            let families = vec![(
                family(name, "Help", kind, &[]),
                vec![series(&[], false, 1.0)],
            )];
            let stem = name.trim_end_matches("_total");
            let shown = text(
                Snapshot {
                    families: families.clone(),
                },
                Format::OpenMetrics,
            );
            let said = shown.lines().find_map(|line| line.strip_prefix("# UNIT "));
            let expected = unit.map(|unit| format!("{stem} {unit}"));
            assert_eq!(said, expected.as_deref(), "{shown}");
            assert!(shown.contains(&format!("\n{name} 1\n")), "{shown}");
            // The classic format has no units.
            let classic = text(Snapshot { families }, Format::Classic);
            assert!(!classic.contains("UNIT") && classic.ends_with(&format!("\n{name} 1\n")));
        }
    }

    #[test]
    fn classic_is_told_by_its_own_names() {
        assert_eq!(
            text(sample(), Format::Classic),
            r##"# HELP drops_total A "dropped"\npacket, C:\\ and all
# TYPE drops_total counter
drops_total{appliance="gw",id="278"} 3
drops_total{appliance="gw",id="278",test="true"} 0.5
drops_total{appliance="a\"b\\c\nd",id=""} 1e300
# HELP reading Reading
# TYPE reading gauge
reading{appliance="hsm"} -4.25
reading{appliance="hsm2"} NaN
reading{appliance="hsm3"} -inf
reading{appliance="hsm4"} 1700000000
# HELP bare No labels
# TYPE bare gauge
bare 1
"##
        );
    }

    #[test]
    fn an_empty_snapshot_is_an_empty_text() {
        assert_eq!(text(Snapshot::default(), Format::Classic), "");
        assert_eq!(text(Snapshot::default(), Format::OpenMetrics), "# EOF\n");
    }

    #[test]
    fn negotiation() {
        use Format::{Classic, OpenMetrics, Protobuf};
        for (accept, expected) in [
            ("", Classic),
            ("*/*", Classic),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Classic),
            ("application/json", Classic),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=1.0.0", OpenMetrics),
            ("application/openmetrics-text; version=2.0.0", Classic),
            (
                "application/openmetrics-text;version=\"1.0.0\"",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                 application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Protobuf,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.4,\
                 application/openmetrics-text;version=1.0.0;q=0.5",
                OpenMetrics,
            ),
            ("application/vnd.google.protobuf", Classic),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Classic,
            ),
            (
                "application/openmetrics-text;q=0.4,text/plain;q=0.5",
                Classic,
            ),
            (
                "text/plain;q=0.5,application/openmetrics-text;q=0.5",
                Classic,
            ),
            (
                "application/openmetrics-text;q=0.5,text/plain;q=0.5",
                OpenMetrics,
            ),
            ("application/openmetrics-text;q=0", Classic),
            (
                "application/openmetrics-text;q=0.501,text/plain;q=0.5",
                OpenMetrics,
            ),
            ("application/openmetrics-text;q=two", Classic),
            ("application/openmetrics-text;q=NaN,*/*;q=0.1", Classic),
            (",;,q=1;=,", Classic),
        ] {
            assert_eq!(Format::negotiate(accept), expected, "{accept}");
        }
    }

    /// The label values of a sample line, read as the format's documentation says.
    fn label_values(line: &str) -> Vec<String> {
        let mut values = Vec::new();
        let mut rest = line.split_once('{').unwrap().1.chars();
        while rest.by_ref().find(|&c| c == '"' || c == '}') == Some('"') {
            let mut value = String::new();
            loop {
                match rest.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(match rest.next().unwrap() {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("`\\{other}` is no escape"),
                    }),
                    other => value.push(other),
                }
            }
            values.push(value);
        }
        values
    }

    proptest! {
        #[test]
        fn nasty_label_values_and_helps_come_back(
            values in prop::collection::vec("[\\PC\n\r\\\\\"#{}=, \u{0}]{0,20}", 2),
            help in "[\\PC\n\r\\\\\"# ]{0,20}",
            number in any::<f64>(),
        ) {
            let family = family("m_total", &help, Kind::Counter, &["a", "b"]);
            let series = series(&[&values[0], &values[1]], false, number);
            for format in [Format::Classic, Format::OpenMetrics] {
                let snapshot = Snapshot { families: vec![(family.clone(), vec![series.clone()])] };
                let text = text(snapshot, format);
                let lines: Vec<_> = text.split_terminator('\n').collect();
                prop_assert_eq!(lines.len(), if format == Format::Classic { 3 } else { 4 });
                prop_assert_eq!(&label_values(lines[2]), &values);
                let value: f64 = lines[2].rsplit_once(' ').unwrap().1.parse().unwrap();
                prop_assert!(value == number || value.is_nan() && number.is_nan());
            }
        }

        #[test]
        fn no_header_makes_negotiation_panic(header in "[a-z/*;=,.0-9q \"-]{0,60}") {
            Format::negotiate(&header);
        }
    }
}
