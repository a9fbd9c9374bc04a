//! docs/rules.md does not lie: every YAML block in it is a whole pack that loads, and whose examples come out as
//! written; and no transform or update that it names goes without one.

use std::sync::Arc;

use appliance_log_exporter::check::check;
use appliance_log_exporter::rules::{self, PackText, Settings};

use crate::support::root;

const MANUAL: &str = "docs/rules.md";

fn manual() -> String {
    std::fs::read_to_string(root().join(MANUAL)).expect("the manual is part of the source")
}

/// The YAML blocks, each with as many empty lines before it as put it at its place in the file.
fn blocks(manual: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for (number, line) in manual.lines().enumerate() {
        match (&mut block, line) {
            (None, "```yaml") => block = Some("\n".repeat(number + 1)),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

#[test]
fn every_pack_in_the_manual_is_sound() {
    let blocks = blocks(&manual());
    assert!(!blocks.is_empty());
    let mut faults = Vec::new();
    for text in blocks {
        match rules::parse(
            vec![PackText {
                file: MANUAL.to_owned(),
                text,
            }],
            Settings::default(),
        ) {
            Ok(rules) => faults.extend(check(&Arc::new(rules)).expect("the rules compile")),
            Err(more) => faults.extend(more),
        }
    }
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_transform_and_update_has_an_example() {
    let manual = manual();
    let packs = blocks(&manual).concat();
    let mut without = Vec::new();
    for (section, use_of) in [("## Transforms", "|"), ("## Updates", "")] {
        let start = manual.find(section).expect("the section is there");
        let rows = manual[start..]
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1);
        for row in rows.take_while(|line| line.starts_with('|')) {
            for name in row
                .split('|')
                .nth(1)
                .unwrap_or_default()
                .split('`')
                .skip(1)
                .step_by(2)
            {
                let name = name.split(':').next().unwrap_or_default();
                // `{a|name}` and `{a|name:text}`, or `name: METRIC`.
                let used = match use_of {
                    "" => packs.contains(&format!("{name}: ")),
                    mark => [":", "|", "}"]
                        .iter()
                        .any(|end| packs.contains(&format!("{mark}{name}{end}"))),
                };
                if !used {
                    without.push(name.to_owned());
                }
            }
        }
    }
    assert!(
        without.is_empty(),
        "no pack in {MANUAL} uses {}",
        without.join(", ")
    );
}
