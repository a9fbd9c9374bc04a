//! Where the commands in the runbooks come from: README.md there has the source of each, or says that it has none.

use crate::support::root;

/// What the vendors' commands begin with.
const VERBS: &[&str] = &[
    "clear", "client", "cluster", "event", "hsm", "ike", "ipsec", "memory", "network", "ntls",
    "restart", "routes", "rules", "security", "service", "show", "status", "sysconf", "syslog",
    "user",
];

/// What a text has in backquotes, in one line each.
fn code(text: &str) -> Vec<String> {
    let mut blocks = text.split("\n```");
    let mut prose = blocks.next().unwrap_or_default().to_owned();
    while let (Some(_), Some(between)) = (blocks.next(), blocks.next()) {
        prose += between;
    }
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn every_command_has_a_source_or_is_said_to_have_none() {
    let directory = root().join("docs/runbooks");
    let index = std::fs::read_to_string(directory.join("README.md")).expect("an index");
    let (commands, _) = index.split_once("\n## access").expect("sections");
    // What is left open there is filled in by the runbooks.
    let known: Vec<String> = code(commands)
        .into_iter()
        .map(|command| command.split(" …").next().unwrap_or_default().to_owned())
        .map(|command| {
            command
                .split(" -logname")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    for entry in std::fs::read_dir(&directory).expect("runbooks") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let (_, after) = text.split_once("\n## Check\n").unwrap_or_default();
        let (body, _) = after.split_once("\n## Escalate\n").unwrap_or_default();
        for command in code(body) {
            let mut words = command.split(' ');
            let is_vendors = words.next().is_some_and(|verb| VERBS.contains(&verb));
            assert!(
                !is_vendors
                    || known
                        .iter()
                        .any(|known| command.starts_with(known.as_str())),
                "{}: README.md has neither a source of `{command}`, nor that it has none",
                path.display()
            );
        }
    }
}
