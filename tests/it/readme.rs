//! What README promises: its commands exist, its links lead somewhere, its figures and its rule are true.

use std::path::Path;
use std::process::Command;

use crate::exporter::binary;
use crate::support::{program, root, succeeds};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    text.split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(&format!("{language}\n")))
        .map(str::to_owned)
        .collect()
}

#[test]
fn its_commands_are_in_the_makefile() {
    let readme = read("README.md");
    let makefile = read("Makefile");
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("make "))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    assert_eq!(commands, ["demo", "test", "install"]);
    for target in commands {
        assert!(
            makefile.lines().any(
                |line| line == format!("{target}:") || line.starts_with(&format!("{target}: "))
            ),
            "no {target}"
        );
        // make knows it and could run it, down to the last command.
        succeeds(
            Command::new(program("make"))
                .args(["--dry-run", target])
                .current_dir(root()),
        );
    }
    assert!(read(".ci/run").lines().any(|line| line == "exec make test"));
}

#[test]
fn links_in_the_documents_lead_to_files() {
    let mut documents: Vec<String> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
    ]
    .map(String::from)
    .to_vec();
    for entry in std::fs::read_dir(root().join("docs")).expect("docs") {
        let name = entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".md") {
            documents.push(format!("docs/{name}"));
        }
    }
    let mut dead = Vec::new();
    for document in documents {
        let text = read(&document);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let directory = Path::new(&document).parent().unwrap_or(Path::new(""));
            if !root().join(directory).join(path).exists() {
                dead.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn its_rule_passes_and_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let packs = blocks(&read("README.md"), "yaml");
    assert_eq!(packs.len(), 1);
    std::fs::write(directory.path().join("site.yaml"), &packs[0]).expect("it can be written");
    succeeds(
        binary()
            .arg("check")
            .arg("--rules.dir")
            .arg(directory.path()),
    );
}

#[test]
fn rsyslog_takes_the_template_of_who_collects_already() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("rsyslog.conf");
    let snippets = blocks(&read("docs/deploying.md"), "");
    let template = snippets
        .iter()
        .find(|block| block.contains("template("))
        .expect("rsyslog's part");
    let action = r#"action(type="omfile" file="/dev/null" template="line")"#;
    std::fs::write(&config, format!("{template}{action}\n")).expect("it can be written");
    let said = succeeds(
        Command::new(program("rsyslogd"))
            .args(["-N1", "-f"])
            .arg(config),
    );
    assert!(!said.err.contains("error"), "{}", said.err);
}

/// The whole way is walked by hand, with tests/walk.sh. Here: what it copies is there, and the processor overheats and cools down.
#[test]
fn its_way_to_paging_has_what_it_names() {
    let readme = read("README.md");
    let walk = readme
        .split("\n## ")
        .find(|section| section.starts_with("From clone to paging"))
        .expect("the section");
    let script = blocks(walk, "sh").concat();
    let files: Vec<&str> = script
        .split_whitespace()
        .filter(|word| word.starts_with("deploy/") || word.starts_with("rules/"))
        .map(|word| word.trim_end_matches("/*.yaml"))
        .collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        assert!(root().join(file).exists(), "{file}");
    }

    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("hsm1.log");
    let said: Vec<&str> = script
        .lines()
        .filter_map(|line| line.strip_prefix("say '")?.strip_suffix('\''))
        .collect();
    assert_eq!(said.len(), 2);
    let mut text = String::new();
    for (line, state) in said.iter().zip([2, 0]) {
        text += &format!("<165>2026-11-20T12:00:00+00:00 hsm1 ipmievd: {line}\n");
        std::fs::write(&log, &text).expect("it can be written");
        let shown = succeeds(binary().arg("replay").arg(&log));
        let wanted = format!(
            r#"ipmi_sensor_state{{appliance="hsm1",name="CPU",type="Temperature"}} {state}"#
        );
        assert!(shown.out.contains(&wanted), "no {wanted} in\n{}", shown.out);
    }
}

#[test]
fn its_figures_are_true() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 120, "README is a newcomer's page");
    let lines: usize = ["luna", "kmd", "clavister", "ktls"]
        .map(|name| {
            read(&format!("tests/fixtures/catalogue/{name}.log"))
                .lines()
                .count()
        })
        .iter()
        .sum();
    let alerts = crate::alerts::alerts().len();
    for claim in [format!("{lines} of {lines}"), format!("{alerts} alerts")] {
        assert!(readme.contains(&claim), "README does not say `{claim}`");
    }
}
