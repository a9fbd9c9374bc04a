//! Prometheus' protobuf format: `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! The only format of Prometheus 0.0.4's family in which a counter has a start timestamp. A family needs five kinds of
//! fields, so it is written by hand: prost would bring its messages as allocated trees of the whole family, and the
//! protobuf feature of prometheus-client needs `protoc` for a build and gives counters no start timestamp.
//!
//! Source: `metrics.proto` of <https://github.com/prometheus/client_model>, and the encoding of
//! <https://protobuf.dev/programming-guides/encoding/>.

use crate::metric::{Family, Kind, Series, Snapshot};

/// The wire type of a varint.
const VARINT: u64 = 0;
/// The wire type of eight bytes, little endian.
const FIXED64: u64 = 1;
/// The wire type of bytes behind their length.
const BYTES: u64 = 2;

pub(super) fn delimited(snapshot: &Snapshot, sink: &mut impl FnMut(&[u8])) {
    let mut message = Vec::new();
    let mut metric = Vec::new();
    let mut length = Vec::new();
    for (family, series) in &snapshot.families {
        message.clear();
        bytes(&mut message, 1, family.name.as_bytes());
        bytes(&mut message, 2, family.help.as_bytes());
        // `type`: COUNTER is 0, GAUGE is 1.
        tag(&mut message, 3, VARINT);
        varint(&mut message, u64::from(family.kind == Kind::Gauge));
        for one in series {
            metric.clear();
            write_metric(&mut metric, family, one);
            bytes(&mut message, 4, &metric);
        }
        length.clear();
        varint(&mut length, message.len() as u64);
        sink(&length);
        sink(&message);
    }
}

fn write_metric(out: &mut Vec<u8>, family: &Family, series: &Series) {
    let label = |out: &mut Vec<u8>, name: &str, value: &str| {
        let mut pair = Vec::with_capacity(name.len() + value.len() + 8);
        bytes(&mut pair, 1, name.as_bytes());
        bytes(&mut pair, 2, value.as_bytes());
        bytes(out, 1, &pair);
    };
    for (name, value) in family.labels.iter().zip(series.values.iter()) {
        label(out, name, value);
    }
    if series.test {
        label(out, "test", "true");
    }
    let mut value = Vec::with_capacity(32);
    tag(&mut value, 1, FIXED64);
    value.extend_from_slice(&series.value.to_le_bytes());
    if family.kind == Kind::Counter && series.created > 0 {
        let mut timestamp = Vec::with_capacity(8);
        tag(&mut timestamp, 1, VARINT);
        varint(&mut timestamp, series.created.into());
        bytes(&mut value, 3, &timestamp);
    }
    let field = match family.kind {
        Kind::Gauge => 2,
        Kind::Counter => 3,
    };
    bytes(out, field, &value);
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    tag(out, field, BYTES);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn tag(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

/// Seven bits a byte, the lowest first; a set high bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::exposition::{Format, encode};

    /// A decoder that knows the wire format alone: fields of a message in order.
    fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
        let mut found = Vec::new();
        while !message.is_empty() {
            let tag = take_varint(&mut message);
            let field = match tag & 7 {
                0 => Field::Varint(take_varint(&mut message)),
                1 => {
                    let (number, rest) = message.split_first_chunk().unwrap();
                    message = rest;
                    Field::Double(f64::from_le_bytes(*number))
                }
                2 => Field::Bytes(take_bytes(&mut message)),
                other => panic!("wire type {other}"),
            };
            found.push((tag >> 3, field));
        }
        found
    }

    #[derive(Debug, PartialEq)]
    enum Field<'m> {
        Varint(u64),
        Double(f64),
        Bytes(&'m [u8]),
    }

    impl<'m> Field<'m> {
        fn bytes(&self) -> &'m [u8] {
            match self {
                Field::Bytes(bytes) => bytes,
                other => panic!("{other:?}"),
            }
        }

        fn text(&self) -> String {
            String::from_utf8(self.bytes().to_vec()).unwrap()
        }
    }

    fn take_varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = message.split_first().unwrap();
            *message = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    fn take_bytes<'m>(message: &mut &'m [u8]) -> &'m [u8] {
        let length = take_varint(message) as usize;
        let (bytes, rest) = message.split_at(length);
        *message = rest;
        bytes
    }

    /// As samples of the classic format, with the start timestamp behind them.
    fn decode(mut messages: &[u8]) -> Vec<String> {
        let mut samples = Vec::new();
        while !messages.is_empty() {
            let family = fields(take_bytes(&mut messages));
            let name = family[0].1.text();
            assert_eq!(family[2].0, 3);
            samples.push(format!("{name} {} {:?}", family[1].1.text(), family[2].1));
            for (number, metric) in &family[3..] {
                assert_eq!(*number, 4);
                let mut labels = Vec::new();
                for (number, field) in fields(metric.bytes()) {
                    if number == 1 {
                        let pair = fields(field.bytes());
                        labels.push(format!("{}={:?}", pair[0].1.text(), pair[1].1.text()));
                        continue;
                    }
                    let value = fields(field.bytes());
                    let Field::Double(sample) = value[0].1 else {
                        panic!("{value:?}")
                    };
                    let created = value.get(1).map(|(number, timestamp)| {
                        assert_eq!(*number, 3);
                        fields(timestamp.bytes())
                    });
                    samples.push(format!(
                        "{number} {{{}}} {sample} {created:?}",
                        labels.join(",")
                    ));
                }
            }
        }
        samples
    }

    fn family(name: &str, kind: Kind, labels: &[&str]) -> Arc<Family> {
        Arc::new(Family {
            name: name.into(),
            help: "Help \"me\".".into(),
            kind,
            labels: labels.iter().map(|&label| label.into()).collect(),
        })
    }

    fn series(values: &[&str], test: bool, created: u32, value: f64) -> Series {
        Series {
            values: values.iter().map(|&value| value.into()).collect(),
            test,
            created,
            value,
        }
    }

    #[test]
    fn counters_have_their_start_timestamp_and_gauges_have_none() {
        let families = vec![
            (
                family("drops_total", Kind::Counter, &["appliance", "id"]),
                vec![
                    series(&["gw", "278"], false, 1_800_000_000, 3.0),
                    series(&["gw", "9"], true, 0, 0.5),
                ],
            ),
            (
                family("up", Kind::Gauge, &[]),
                vec![series(&[], false, 7, -4.25)],
            ),
        ];
        assert_eq!(
            decode(&encode(Snapshot { families }, Format::Protobuf)),
            [
                r#"drops_total Help "me". Varint(0)"#,
                r#"3 {appliance="gw",id="278"} 3 Some([(1, Varint(1800000000))])"#,
                r#"3 {appliance="gw",id="9",test="true"} 0.5 None"#,
                r#"up Help "me". Varint(1)"#,
                "2 {} -4.25 None",
            ]
        );
        assert_eq!(encode(Snapshot::default(), Format::Protobuf), b"");
    }

    proptest! {
        #[test]
        fn any_label_and_value_comes_back(value in "\\PC{0,300}", number in any::<f64>()) {
            let families = vec![(
                family("a_total", Kind::Counter, &["label"]),
                vec![series(&[&value], false, 1, number)],
            )];
            let expected = format!("3 {{label={value:?}}} {number} Some([(1, Varint(1))])");
            prop_assert_eq!(&decode(&encode(Snapshot { families }, Format::Protobuf))[1], &expected);
        }
    }
}
