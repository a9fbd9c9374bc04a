//! Every message that the vendors document is recognised by a rule that was written for it. What each of them means is
//! on record: `explained.txt` beside the fixtures for reviewers, `docs/coverage.md` for users.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use appliance_log_exporter::rules;
use serde_json::Value;

use crate::exporter::binary;
use crate::generated::{cell, code, compare};
use crate::support::{root, succeeds};

/// How many messages the documents hold.
const DOCUMENTED: usize = 888;

const DOCUMENTS: [(&str, &str); 4] = [
    ("luna", "Thales Luna Network HSM"),
    ("kmd", "Juniper Junos key management"),
    ("clavister", "Clavister cOS Stream, IPsec"),
    ("ktls", "NetApp ONTAP, kernel TLS"),
];

/// Where the vendors' documents and what devices or program sources really say differ.
const DIFFERENCES: &str = "\
Where a document and a device, or the program's source, say different things, the rules read both, and the device is\n\
believed:\n\n\
- Thales: severities of NTLS and smartd lines (a failed handshake is `info`; `reached limit` is INFO in every smartd),\n  \
  `pam_unix(sshd[1234]:auth)` for what PAM writes as `pam_unix(sshd:auth)`, `.lt` and `.gt` of trap tests, the words\n  \
  Asserted and Deasserted that ipmievd writes since 1.8.13, and numbers with three decimals that no ipmievd writes.\n\
- Juniper: of its 91 messages two were seen in public logs, and those with a longer tail than the reference has. What\n  \
  devices write besides (`KMD_PM_SA_ESTABLISHED`, `IKE negotiation failed …`, `IKE_…`) is in no chapter and is read, too.\n\
- Clavister: the reference is cOS Stream's, of which no line is public. cOS Core has ids of its own, with and without\n  \
  the zero at the beginning, and InControl's export has another header.\n\
- NetApp: no `ktls.*` line is public. Event names are accepted in any case, IPspaces as numbers and names.\n";

fn lines_of(document: &str) -> Vec<String> {
    let path = root().join(format!("tests/fixtures/catalogue/{document}.log"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(str::to_owned).collect()
}

/// What `explain` says about one line.
struct Explained {
    line: String,
    message: String,
    rule: Option<String>,
    /// Metrics, without repetition, in the order of their names.
    metrics: BTreeSet<String>,
    /// `inc metric{label="value"} 1`, in the order of the rule.
    updates: Vec<String>,
}

fn explain(lines: Vec<String>) -> Vec<Explained> {
    let mut input = tempfile::NamedTempFile::new().expect("a temporary file");
    for line in &lines {
        writeln!(input, "{line}").expect("room for it");
    }
    let output = succeeds(
        binary()
            .args(["explain", "--format", "json"])
            .arg(input.path()),
    )
    .out;
    assert_eq!(
        output.lines().count(),
        lines.len(),
        "one answer for each line"
    );
    let answers = output
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object"));
    lines
        .into_iter()
        .zip(answers)
        .map(|(line, answer)| Explained::read(line, &answer))
        .collect()
}

impl Explained {
    fn read(line: String, answer: &Value) -> Self {
        let updates = answer["updates"].as_array().expect("a list of updates");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Self {
            line,
            message: text(&answer["record"]["message"]),
            rule: answer["rule"].as_str().map(str::to_owned),
            metrics: updates
                .iter()
                .map(|update| text(&update["metric"]))
                .collect(),
            updates: updates.iter().map(update).collect(),
        }
    }
}

fn update(update: &Value) -> String {
    let labels: BTreeMap<&str, &str> = update["labels"]
        .as_object()
        .expect("a map of labels")
        .iter()
        .map(|(label, value)| (label.as_str(), value.as_str().expect("a text")))
        .collect();
    let labels: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}={value:?}"))
        .collect();
    format!(
        "{} {}{{{}}} {}",
        update["op"].as_str().expect("an operation"),
        update["metric"].as_str().expect("a metric"),
        labels.join(","),
        update["value"],
    )
}

#[test]
fn every_documented_message_is_recognised() {
    let mut documented = 0;
    let mut missing = Vec::new();
    for (document, _) in DOCUMENTS {
        for explained in explain(lines_of(document)) {
            documented += 1;
            if explained.rule.is_none() {
                missing.push(explained.line);
            }
        }
    }
    println!(
        "{} of {documented} documented messages are recognised",
        documented - missing.len()
    );
    assert_eq!(
        documented, DOCUMENTED,
        "a message has gone from the fixtures"
    );
    assert!(
        missing.is_empty(),
        "no rule recognises\n{}",
        missing.join("\n")
    );
}

/// A rule that also takes nonsense from the same program was not written for the message.
#[test]
fn no_documented_message_is_left_to_a_catch_all() {
    let mut guilty = Vec::new();
    for (document, _) in DOCUMENTS {
        let explained = explain(lines_of(document));
        let nonsense = explained
            .iter()
            .map(|explained| nonsense_like(document, explained))
            .collect();
        for (explained, nonsense) in explained.iter().zip(explain(nonsense)) {
            if explained.rule.is_some() && explained.rule == nonsense.rule {
                guilty.push(format!(
                    "{:?} takes both\n  {}\n  {}",
                    explained.rule, explained.line, nonsense.line
                ));
            }
        }
    }
    assert!(guilty.is_empty(), "{}", guilty.join("\n"));
}

/// The same header with a message, and where messages have ids an id, that no vendor has.
fn nonsense_like(document: &str, explained: &Explained) -> String {
    let at = explained
        .line
        .rfind(explained.message.as_str())
        .expect("the message is the line's end");
    let header = &explained.line[..at];
    let header = match document {
        "kmd" => header.replace("KMD_", "KMD_ZZQX_"),
        "ktls" => header.replace("ktls.", "ktls.zzqx"),
        _ => header.to_owned(),
    };
    let message = match document {
        "clavister" => "id=99999 severity=Notice action=None msg=\"Zzqx is nonsense.\"",
        _ => "zzqx is nonsense",
    };
    format!("{header}{message}")
}

#[test]
fn what_the_documented_messages_mean_is_on_record() {
    let mut text = String::from(
        "What the rules make of every line of the catalogue: the rule, then the updates in their order.\n\
         Made by a test: UPDATE=1 cargo test --test it catalogue\n",
    );
    for (document, title) in DOCUMENTS {
        _ = writeln!(text, "\n## {title}");
        for explained in explain(lines_of(document)) {
            _ = writeln!(
                text,
                "\n{}\n  {}",
                explained.line,
                explained.rule.as_deref().unwrap_or("no rule")
            );
            for update in &explained.updates {
                _ = writeln!(text, "  {update}");
            }
        }
    }
    compare("tests/fixtures/catalogue/explained.txt", &text);
}

#[test]
fn the_coverage_page_is_up_to_date() {
    let rules = rules::load(&[], rules::Settings::default()).expect("the built-in packs are sound");
    let seen: BTreeMap<&str, bool> = rules
        .rules
        .iter()
        .map(|rule| (&*rule.id, rule.seen))
        .collect();
    let mut sections = String::new();
    let mut totals = String::new();
    for (document, title) in DOCUMENTS {
        let explained = explain(lines_of(document));
        let recognised = explained
            .iter()
            .filter(|explained| explained.rule.is_some())
            .count();
        let in_field = explained
            .iter()
            .filter(|explained| explained.rule.as_deref().is_some_and(|rule| seen[rule]))
            .count();
        _ = writeln!(
            totals,
            "| {title} | {} | {recognised} | {in_field} |",
            explained.len()
        );
        _ = writeln!(
            sections,
            "\n## {title}\n\n| message | event | metrics | layout |\n|---|---|---|---|"
        );
        for explained in &explained {
            let (event, layout) = match &explained.rule {
                Some(rule) => (
                    code(rule),
                    if seen[rule.as_str()] {
                        "seen"
                    } else {
                        "documented"
                    },
                ),
                None => ("none".to_owned(), ""),
            };
            let metrics: Vec<String> = explained
                .metrics
                .iter()
                .map(|metric| code(metric))
                .collect();
            _ = writeln!(
                sections,
                "| {} | {event} | {} | {layout} |",
                code(&shortened(&explained.message)),
                cell(&metrics.join(" ")),
            );
        }
    }
    let text = format!(
        "# Coverage of the documented messages\n\n\
         Made from the rule packs and the catalogue by a test; change those, then run\n\
         `UPDATE=1 cargo test --test it catalogue`.\n\n\
         Every message counts in `log_messages_total` and, by its event, in `log_events_total`; the table names the\n\
         metrics besides. The layout is *seen* where a line of this kind from a real device, or the program's source,\n\
         was at hand when the rule was written, and *documented* where only the vendor's manual was: most of them.\n\n\
         {DIFFERENCES}\n\
         | document | messages | recognised | layout seen |\n|---|---|---|---|\n{totals}{sections}"
    );
    compare("docs/coverage.md", &text);
}

/// Long messages do not fit into a table.
fn shortened(message: &str) -> String {
    const CHARACTERS_MAX: usize = 120;
    match message.char_indices().nth(CHARACTERS_MAX) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}
