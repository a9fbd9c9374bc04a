use super::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the faults are looked at")]
struct Rule {
    event: String,
    #[serde(rename = "match", default)]
    pattern: Option<String>,
    #[serde(default)]
    count: u32,
}

fn check(text: &str) -> Vec<String> {
    let document = match Document::parse("rules.yaml", text) {
        Ok(document) => document,
        Err(fault) => return vec![fault.to_string()],
    };
    let mut problems = Problems::new(&document);
    let rules = document.value["rules"].as_sequence().unwrap();
    for (index, rule) in rules.iter().enumerate() {
        let path = Path::root().then("rules").then(index);
        problems.decode::<Rule>(rule, &path);
    }
    problems
        .into_diagnostics()
        .iter()
        .map(Diagnostic::to_string)
        .collect()
}

#[test]
fn every_unknown_key_is_found_where_it_stands() {
    let found =
        check("rules:\n  - event: a\n    mtach: 'x'\n    contu: 1\n  - {event: b, count: two}\n");
    assert_eq!(
        found,
        [
            "rules.yaml:3:5: unknown key: `mtach`\n  hint: did you mean `match`?",
            "rules.yaml:4:5: unknown key: `contu`\n  hint: did you mean `count`?",
            "rules.yaml:5:23: must be a whole number, 0 or more: `two`",
        ]
    );
}

#[test]
fn what_the_parser_would_misplace_is_found_first() {
    let deep = format!("rules: {}", "[".repeat(100_000));
    for (text, expected) in [
        (
            "rules:\n  - {event: a}\nrules: []\n",
            "rules.yaml:3:1: this key is there twice: `rules`",
        ),
        (
            "\u{feff}rules:\n  - {event: a, count: -1}\n",
            "rules.yaml:2:23: must be a whole number, 0 or more: `-1`",
        ),
        (
            "rules: [{event: \"\\e[2J\", count: \"\\e[2J\"}]",
            "rules.yaml:1:33: must be a whole number, 0 or more: `\\u{1b}[2J`",
        ),
    ] {
        assert_eq!(check(text), [expected], "{text}");
    }
    let found = check(&deep);
    assert!(found[0].contains(": nested too deep: "), "{found:?}");
}

#[test]
fn a_text_that_is_no_yaml_says_where() {
    let found = check("rules:\n  - event: \"\\d\"\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("rules.yaml:2:"), "{found:?}");
    assert!(found[0].contains("single quotes"), "{found:?}");
}
