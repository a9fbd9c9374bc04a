//! What each event that ipmitool knows says of its sensor, in the forms in which ipmievd writes them.

use crate::exporter::{Samples, binary};
use crate::support::{root, succeeds};

/// A sensor of a full record, a compact one, a compact one before 1.8.13.
const FORMS: [(&str, &str); 3] = [
    ("full", ". TEXT Asserted"),
    ("compact", "- TEXT Asserted"),
    ("old", "- TEXT"),
];

#[test]
fn every_event_text_sets_the_state_that_it_means() {
    let events = root().join("tests/fixtures/ipmi_events.txt");
    let events = std::fs::read_to_string(events).expect("a fixture");
    let lines = events.lines().filter(|line| !line.starts_with('#'));
    let events: Vec<_> = lines.filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(events.len(), 392);
    let mut log = String::new();
    for (number, (_, text)) in events.iter().enumerate() {
        for (form, words) in FORMS {
            let words = words.replace("TEXT", text);
            log +=
                &format!("Feb 29 12:05:01 h1 ipmievd: Power Unit sensor {form}{number} {words}\n");
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("messages");
    std::fs::write(&path, log).expect("it can be written");
    let said = succeeds(binary().arg("replay").arg(&path));
    let samples = Samples::parse(&said.out);
    let mut wrong = Vec::new();
    for (number, (state, text)) in events.iter().enumerate() {
        for (form, _) in FORMS {
            let found = samples.value(&format!(
                r#"ipmi_sensor_state{{appliance="h1",name="{form}{number}",type="Power Unit"}}"#
            ));
            let found = found.map_or("-".to_owned(), |found| found.to_string());
            if found != *state {
                wrong.push(format!("{text}, {form}: {found}, not {state}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
