//! The schemas for editors accept what is shipped and documented, refuse a wrong key, and have every key that the program
//! has.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use appliance_log_exporter::config::Config;
use appliance_log_exporter::diagnostic::Diagnostic;
use appliance_log_exporter::rules::{self, PackText, Settings};
use serde_json::Value;

use crate::deploy::python_tool;
use crate::exporter::binary;
use crate::support::{root, succeeds};

fn schema(name: &str) -> Value {
    let path = root().join(format!("deploy/schemas/{name}.schema.json"));
    let text = std::fs::read_to_string(path).expect("a schema");
    serde_json::from_str(&text).expect("JSON")
}

fn validate(name: &str) -> Command {
    let mut command = Command::new(python_tool("check-jsonschema"));
    let path = root().join(format!("deploy/schemas/{name}.schema.json"));
    command.arg("--schemafile").arg(path);
    command
}

#[test]
fn they_accept_what_is_shipped_and_refuse_a_wrong_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let packs = std::fs::read_dir(root().join("rules/packs")).expect("packs");
    let packs = packs.map(|entry| entry.expect("an entry").path());
    let log = write("log", "Feb 29 12:05:01 h quorumd[9]: quorum lost: 2 of 5\n");
    let drafts = succeeds(binary().arg("suggest").arg(&log)).out;
    assert!(drafts.starts_with(
        "# yaml-language-server: $schema=/usr/share/appliance-log-exporter/rules.schema.json\n"
    ));
    let drafts = write("drafts.yaml", &drafts);
    succeeds(validate("rules").args(packs).arg(drafts));

    let document =
        std::fs::read_to_string(root().join("docs/configuration.md")).expect("a document");
    let blocks = document
        .split("\n```")
        .filter_map(|part| part.strip_prefix("yaml\n"))
        .enumerate()
        .map(|(index, block)| write(&format!("config{index}.yaml"), block));
    let blocks: Vec<_> = blocks.collect();
    assert!(blocks.len() > 5);
    succeeds(validate("config").args(blocks));

    let wrong = |schema: &str, text: &str| {
        let path = write("wrong.yaml", text);
        let status = validate(schema).arg(path).output().expect("it runs").status;
        assert!(!status.success(), "{text}");
    };
    wrong("rules", "pack: a\nrules: [{event: e, mtach: x}]\n");
    wrong(
        "rules",
        "pack: a\nmetrics: {m: {type: gauge, help: x, labels: {a: []}}}\n",
    );
    wrong("config", "sources: [{name: a, paths: /x}]\n");
    wrong("config", "limits: {files: 0}\n");
}

/// The keys that a message names as known.
fn known(faults: &[Diagnostic]) -> BTreeSet<String> {
    let hint = faults
        .iter()
        .filter_map(|fault| fault.hint.as_deref()?.strip_prefix("known keys: "))
        .next()
        .unwrap_or_else(|| panic!("no key was named: {faults:?}"));
    hint.split(", ").map(str::to_owned).collect()
}

fn keys(schema: &Value) -> BTreeSet<String> {
    let properties = schema["properties"].as_object().expect("properties");
    properties.keys().cloned().collect()
}

#[test]
fn they_have_every_key() {
    let config = schema("config");
    for (text, at) in [
        ("x_y_z: 1", &config),
        (
            "sources: [{x_y_z: 1}]",
            &config["properties"]["sources"]["items"],
        ),
        (
            "sources: [{name: a, syslog: {listen: [], x_y_z: 1}}]",
            &config["properties"]["sources"]["items"]["properties"]["syslog"],
        ),
        ("rules: {x_y_z: 1}", &config["properties"]["rules"]),
        ("limits: {x_y_z: 1}", &config["properties"]["limits"]),
        ("state: {x_y_z: 1}", &config["properties"]["state"]),
        ("labels: {x_y_z: 1}", &config["properties"]["labels"]),
        ("tail: {x_y_z: 1}", &config["properties"]["tail"]),
    ] {
        let mut faults = Vec::new();
        Config::parse("c", text, Path::new("/"), &mut faults);
        // A section of one key is told as such.
        if faults.iter().any(|fault| fault.hint.is_some()) {
            assert_eq!(known(&faults), keys(at), "{text}");
        }
    }
    let rules = schema("rules");
    let definitions = &rules["$defs"];
    for (rest, at) in [
        ("x_y_z: 1", &rules),
        ("metrics: {m: {x_y_z: 1}}", &definitions["metric"]),
        ("formats: [{x_y_z: 1}]", &definitions["format"]),
        ("rules: [{x_y_z: 1}]", &definitions["rule"]),
        (
            "rules: [{event: e, match: x, metrics: [{x_y_z: 1}]}]",
            &definitions["update"],
        ),
        (
            "rules: [{event: e, match: x, examples: [{x_y_z: 1}]}]",
            &definitions["example"],
        ),
        (
            "rules: [{event: e, match: x, let: {a: {x_y_z: 1}}}]",
            &definitions["let"],
        ),
    ] {
        let pack = PackText {
            file: "p".into(),
            text: format!("pack: p\nprograms: {{q: []}}\n{rest}\n"),
        };
        let faults = rules::parse(vec![pack], Settings::default()).expect_err("an unknown key");
        assert_eq!(known(&faults), keys(at), "{rest}");
    }
}
