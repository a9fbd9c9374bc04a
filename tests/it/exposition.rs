//! What the exposition writes is read by the programs that it is for.

use std::sync::Arc;

use appliance_log_exporter::exposition::{Format, encode};
use appliance_log_exporter::metric::{Family, Kind, Series, Snapshot};

use crate::exporter::accepted_by_promtool;

fn series(values: &[&str], value: f64) -> Series {
    Series {
        values: values.iter().map(|&value| value.into()).collect(),
        test: false,
        created: 0,
        value,
    }
}

#[test]
fn promtool_accepts_the_classic_text() {
    let family = |name: &str, help: &str, kind, labels: &[&str]| {
        Arc::new(Family {
            name: name.into(),
            help: help.into(),
            kind,
            labels: labels.iter().map(|&label| label.into()).collect(),
        })
    };
    let snapshot = Snapshot {
        families: vec![
            (
                family(
                    "ntls_handshake_failures_total",
                    "Failed handshakes.\n# TYPE ntls_handshake_failures_total gauge\n\"C:\\n\"",
                    Kind::Counter,
                    &["appliance", "reason"],
                ),
                vec![
                    series(&["hsm", "a\n# EOF\n\"}\\ 1"], 3.0),
                    series(&["hsm\\", ""], 1e300),
                ],
            ),
            (
                family(
                    "ipmi_sensor_reading",
                    "Reading.",
                    Kind::Gauge,
                    &["appliance"],
                ),
                vec![series(&["λ"], f64::NAN), series(&["b"], f64::INFINITY)],
            ),
        ],
    };
    let text = encode(snapshot, Format::Classic);
    accepted_by_promtool(&String::from_utf8(text).expect("text"));
}
