//! A snapshot of the series table becomes the text that a scraper asked for.
//!
//! prometheus-client writes OpenMetrics 1.0: the snapshot is exposed to it as a [`Collector`], beside the registry of
//! the exporter's own metrics. The classic text format 0.0.4 is derived from what it wrote. What that encoder leaves to
//! its caller is done here: help texts are escaped, and the `_total` that it appends is taken off first. Families and
//! series keep the order in which they come, so two scrapes without a change between them are equal byte for byte.
//!
//! Here is no I/O. Names must be valid metric and label names; whoever loads the rules checks that.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use memchr::memmem;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
    text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::metric::{Family, Kind, Series, Snapshot};

/// A format that a scraper can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header prefers: the one with the higher quality, at equal quality the one named
    /// first. The classic format if nothing is asked, or nothing that we have: a scraper is better served by a format
    /// that it did not name than by an error.
    pub fn negotiate(accept: &str) -> Self {
        // Quality and place of the best range for each format, as thousandths so that they compare exactly.
        let mut open_metrics = 0;
        let mut classic = 0;
        let mut open_metrics_first = false;
        for range in ranges(accept) {
            let version = range.parameter("version");
            match range.name {
                name if name.eq_ignore_ascii_case("application/openmetrics-text")
                    && matches!(version, None | Some("1.0.0"))
                    && range.quality > open_metrics =>
                {
                    open_metrics = range.quality;
                    open_metrics_first = classic < open_metrics;
                }
                name if name.eq_ignore_ascii_case("text/plain")
                    && matches!(version, None | Some("0.0.4")) =>
                {
                    classic = classic.max(range.quality);
                }
                // A wildcard names no format, so it gets the one that everybody reads.
                "text/*" | "*/*" => classic = classic.max(range.quality),
                _ => {}
            }
        }
        if open_metrics > classic || (open_metrics == classic && open_metrics_first) {
            Format::OpenMetrics
        } else {
            Format::Classic
        }
    }

    /// The value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Whether an `Accept-Encoding` header prefers gzip to plain text, or takes both alike.
pub fn gzip_accepted(accept_encoding: &str) -> bool {
    let mut gzip = None;
    let mut identity = None;
    let mut any = None;
    for range in ranges(accept_encoding) {
        let quality = Some(range.quality);
        match range.name {
            name if name.eq_ignore_ascii_case("gzip") => gzip = gzip.max(quality),
            name if name.eq_ignore_ascii_case("identity") => identity = identity.max(quality),
            "*" => any = any.max(quality),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// A scrape's body in the making, compressed as it grows if it is to be: fast rather than small, it crosses one network
/// once.
#[derive(Debug)]
pub struct Body(Coding);

#[derive(Debug)]
enum Coding {
    Plain(Vec<u8>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Body {
    /// An empty one.
    pub fn new(gzip: bool) -> Self {
        Self(match gzip {
            true => Coding::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast()))),
            false => Coding::Plain(Vec::new()),
        })
    }

    /// Makes room for the text of a snapshot, if it is not compressed.
    pub fn expect(&mut self, snapshot: &Snapshot) {
        if let Coding::Plain(body) = &mut self.0 {
            let families = snapshot.families.iter();
            let series: usize = families.map(|(_, series)| series.len()).sum();
            body.reserve(4096 + 96 * series);
        }
    }

    /// Appends a text.
    #[expect(clippy::unreachable, reason = "a Vec takes every write")]
    pub fn push(&mut self, text: &str) {
        match &mut self.0 {
            Coding::Plain(body) => body.extend_from_slice(text.as_bytes()),
            Coding::Gzip(encoder) => {
                if let Err(error) = encoder.write_all(text.as_bytes()) {
                    unreachable!("writing to memory failed: {error}");
                }
            }
        }
    }

    /// The bytes to be sent.
    #[expect(clippy::unreachable, reason = "a Vec takes every write")]
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            Coding::Plain(body) => body,
            Coding::Gzip(encoder) => match encoder.finish() {
                Ok(compressed) => compressed,
                Err(error) => unreachable!("writing to memory failed: {error}"),
            },
        }
    }
}

/// The exporter's own metrics, then the snapshot, as one text: about 100 bytes a series.
pub fn encode(own: &Registry, snapshot: Snapshot, format: Format) -> String {
    let mut out = String::new();
    write(own, snapshot, format, |text| out.push_str(text));
    out
}

/// Writes the exporter's own metrics, then the snapshot: tells `each` the text family by family, and holds no more of it
/// at a time.
#[expect(
    clippy::unreachable,
    reason = "a String takes every write, and our collector fails with nothing else"
)]
pub fn write(own: &Registry, snapshot: Snapshot, format: Format, mut each: impl FnMut(&str)) {
    let mut text = String::new();
    let mut write = |registry: &Registry| {
        text.clear();
        text::encode_registry(&mut text, registry)?;
        match format {
            Format::OpenMetrics => each(&text),
            Format::Classic => classic(&text, &mut each),
        }
        Ok(())
    };
    let mut written = write(own);
    for (family, series) in snapshot.families {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposed(family, series)));
        written = written.and_then(|()| write(&registry));
    }
    if format == Format::OpenMetrics {
        text.clear();
        written = written.and_then(|()| text::encode_eof(&mut text));
        each(&text);
    }
    if written.is_err() {
        unreachable!("writing to memory failed");
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

/// A family and its series as prometheus-client wants to see them.
#[derive(Debug)]
struct Exposed(Arc<Family>, Vec<Series>);

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Exposed(family, series) = self;
        let help = escape_help(&family.help);
        let (name, kind) = match family.kind {
            Kind::Counter => (
                family.name.strip_suffix("_total").unwrap_or(&family.name),
                MetricType::Counter,
            ),
            Kind::Gauge => (&*family.name, MetricType::Gauge),
        };
        let mut metric = encoder.encode_descriptor(name, &help, None, kind)?;
        for one in series {
            let labels = Labels {
                names: &family.labels,
                series: one,
            };
            if labels.is_empty() {
                encode_value(&mut metric, family, one.value)?;
            } else {
                encode_value(&mut metric.encode_family(&labels)?, family, one.value)?;
            }
        }
        Ok(())
    }
}

/// The greatest integer up to which every integer has its own `f64`.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Whole numbers are written without a point: shorter, and faster to write and to read.
fn encode_value(metric: &mut MetricEncoder, family: &Family, value: f64) -> fmt::Result {
    let whole = value.abs() <= INTEGER_MAX && value.fract() == 0.0;
    match family.kind {
        Kind::Counter if whole && value >= 0.0 => {
            metric.encode_counter::<NoLabelSet, _, f64>(&(value as u64), None)
        }
        Kind::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge if whole => metric.encode_gauge(&(value as i64)),
        Kind::Gauge => metric.encode_gauge(&value),
    }
}

struct Labels<'s> {
    names: &'s [Arc<str>],
    series: &'s Series,
}

impl Labels<'_> {
    fn is_empty(&self) -> bool {
        !self.series.test && (self.names.is_empty() || self.series.values.is_empty())
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.names.iter().zip(self.series.values.iter()) {
            (&**name, &**value).encode(encoder.encode_label())?;
        }
        if self.series.test {
            ("test", "true").encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// One raw newline in a help text would cost the whole scrape.
fn escape_help(help: &str) -> String {
    let mut escaped = String::with_capacity(help.len());
    for character in help.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    escaped
}

/// OpenMetrics text as the classic format has it: a counter's family is called as its samples are, an info is a gauge,
/// units and the end are not told, and quotes in help texts stand for themselves. Told to `each` piece by piece.
///
/// Samples are the same in both formats, so only the lines that begin with `# ` are looked at. No other line can look
/// like one: newlines in label values and help texts are escaped.
fn classic(open_metrics: &str, each: &mut impl FnMut(&str)) {
    let comment = memmem::Finder::new("\n# ");
    let mut rest = open_metrics;
    let mut help = None;
    while !rest.is_empty() {
        if let Some(line) = rest.strip_prefix("# ") {
            let (line, after) = line.split_once('\n').unwrap_or((line, ""));
            rest = after;
            match line.split_once(' ') {
                Some(("HELP", text)) => help = text.split_once(' '),
                Some(("TYPE", text)) => {
                    let (name, kind) = text.split_once(' ').unwrap_or((text, "untyped"));
                    let (suffix, kind) = match kind {
                        "counter" => ("_total", "counter"),
                        "info" => ("_info", "gauge"),
                        "unknown" => ("", "untyped"),
                        kind => ("", kind),
                    };
                    if let Some((_, help)) = help.take() {
                        let help = help.replace("\\\"", "\"");
                        each(&format!("# HELP {name}{suffix} {help}\n"));
                    }
                    each(&format!("# TYPE {name}{suffix} {kind}\n"));
                }
                _ => {}
            }
        } else {
            let end = comment
                .find(rest.as_bytes())
                .map_or(rest.len(), |newline| newline + 1);
            let (samples, after) = rest.split_at(end);
            each(samples);
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Unit;
    use proptest::prelude::*;

    use super::*;

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
            value,
        }
    }

    fn sample() -> (Registry, Snapshot) {
        let mut own = Registry::default();
        own.register(
            "own_build",
            "How it was built",
            Info::new(vec![("version", "1.2.3")]),
        );
        own.register_with_unit("own_cpu", "Time", Unit::Seconds, Counter::<u64>::default());
        let snapshot = Snapshot {
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
        };
        (own, snapshot)
    }

    #[test]
    fn open_metrics() {
        let (own, snapshot) = sample();
        assert_eq!(
            encode(&own, snapshot, Format::OpenMetrics),
            r##"# HELP own_build How it was built.
# TYPE own_build info
own_build_info{version="1.2.3"} 1
# HELP own_cpu_seconds Time.
# TYPE own_cpu_seconds counter
# UNIT own_cpu_seconds seconds
own_cpu_seconds_total 0
# HELP drops A \"dropped\"\npacket, C:\\ and all
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
    fn classic_is_told_by_its_own_names() {
        let (own, snapshot) = sample();
        assert_eq!(
            encode(&own, snapshot, Format::Classic),
            r##"# HELP own_build_info How it was built.
# TYPE own_build_info gauge
own_build_info{version="1.2.3"} 1
# HELP own_cpu_seconds_total Time.
# TYPE own_cpu_seconds_total counter
own_cpu_seconds_total 0
# HELP drops_total A "dropped"\npacket, C:\\ and all
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
        let text = |format| encode(&Registry::default(), Snapshot::default(), format);
        assert_eq!(text(Format::Classic), "");
        assert_eq!(text(Format::OpenMetrics), "# EOF\n");
    }

    #[test]
    fn negotiation() {
        use Format::{Classic, OpenMetrics};
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
                OpenMetrics,
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

    #[test]
    fn gzip_when_it_is_wanted() {
        for (accept, expected) in [
            ("", false),
            ("gzip", true),
            ("deflate, GZIP;q=1.0, *;q=0.5", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("gzip;q=0.000", false),
            ("identity, gzip;q=0.5", false),
            ("identity;q=0.5, gzip;q=1.0", true),
            ("br", false),
        ] {
            assert_eq!(gzip_accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn gzip_gives_back_what_it_took() {
        let text = "reading{appliance=\"hsm\"} 1\n".repeat(1000);
        let mut body = Body::new(true);
        text.split_inclusive('\n').for_each(|line| body.push(line));
        let compressed = body.finish();
        assert!(compressed.len() < text.len() / 10);
        let mut back = String::new();
        flate2::read::GzDecoder::new(&compressed[..])
            .read_to_string(&mut back)
            .unwrap();
        assert_eq!(back, text);
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
                let text = encode(&Registry::default(), snapshot, format);
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
            gzip_accepted(&header);
        }
    }
}
