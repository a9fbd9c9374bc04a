//! Holds the source against the map in ARCHITECTURE.md: which module may know which, how long files and functions may be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines of a file without its tests, and of a function.
const FILE_LINES_MAX: usize = 560;
const FUNCTION_LINES_MAX: usize = 120;

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Modules, and those that they may know.
type Row = (BTreeSet<String>, BTreeSet<String>);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `src`, with their paths from the root and their text without tests.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut open = vec![root().join("src")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory of sources can be read");
            open.extend(entries.map(|entry| entry.expect("it has entries").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
            let text = std::fs::read_to_string(&path).expect("a source can be read");
            let text = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            let path = path.strip_prefix(root()).expect("it is below the root");
            files.push((path.display().to_string(), text.to_owned()));
        }
    }
    files.sort();
    files
}

/// `tests.rs`, and what is below `tests`.
fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| PathBuf::from(part.as_os_str()).with_extension("") == Path::new("tests"))
        && path.strip_prefix(root().join("src")).is_ok_and(|path| {
            path.components()
                .any(|part| Path::new(part.as_os_str()).with_extension("") == Path::new("tests"))
        })
}

/// The names that stand right behind `prefix` in code: one, or those of a group in braces.
fn named<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let name = |text: &'t str| {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        &text[..end.unwrap_or(text.len())]
    };
    let mut names = BTreeSet::new();
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    for (at, _) in code.flat_map(|line| {
        let start = line.as_ptr() as usize - text.as_ptr() as usize;
        line.match_indices(prefix)
            .map(move |(at, found)| (start + at, found))
    }) {
        let rest = &text[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut is_start = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                c if is_start && (c.is_alphanumeric() || c == '_') => {
                    names.insert(name(&group[at..]));
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// The module of a file below `src`: its first directory, or its name.
fn module(path: &str) -> &str {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    path.split('/').next().unwrap_or_default()
}

fn backticked(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .map(|name| name.trim_end_matches('/').trim_end_matches(".rs"))
        .collect()
}

/// The table: by module those that it may know, and the rows that name them, each of which one of the row has to know.
fn allowed(modules: &BTreeSet<&str>) -> (Arrows, Vec<Row>) {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is a map");
    let (mut rows, mut needed) = (Arrows::new(), Vec::new());
    for row in map
        .lines()
        .skip_while(|line| !line.contains("| may know |"))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, names, _, known, _] = cells.as_slice() else {
            if rows.is_empty() { continue } else { break }
        };
        let owned = |names: BTreeSet<&str>| -> BTreeSet<String> {
            names.into_iter().map(str::to_owned).collect()
        };
        let all_but = known.strip_prefix("all");
        let names = owned(backticked(names));
        let known = owned(match all_but {
            Some(but) => modules.difference(&backticked(but)).copied().collect(),
            None => backticked(known),
        });
        for name in &names {
            let row = rows.entry(name.clone()).or_default();
            row.extend(known.iter().cloned());
        }
        if all_but.is_none() {
            needed.push((names, known));
        }
    }
    (rows, needed)
}

/// A way through the arrows that leads back to where it began.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn walk(arrows: &Arrows, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let here = path.last().cloned().unwrap_or_default();
        if let Some(first) = path[..path.len() - 1]
            .iter()
            .position(|before| *before == here)
        {
            path.drain(..first);
            return true;
        }
        if !done.insert(here.clone()) {
            return false;
        }
        for next in arrows.get(&here).into_iter().flatten() {
            path.push(next.clone());
            if walk(arrows, path, done) {
                return true;
            }
            path.pop();
        }
        false
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|start| {
        let mut path = vec![start.clone()];
        walk(arrows, &mut path, &mut done).then_some(path)
    })
}

#[test]
fn modules_know_what_the_map_allows_and_no_circle_is_among_them() {
    let sources = sources();
    let modules: BTreeSet<&str> = sources.iter().map(|(path, _)| module(path)).collect();
    let (allowed, needed) = allowed(&modules);
    let mut faults = Vec::new();
    let mut arrows = Arrows::new();
    for (path, text) in &sources {
        let own = module(path);
        let mut others = named(text, "crate::");
        // As the program names the library.
        others.extend(named(text, "appliance_log_exporter::"));
        for other in others {
            let is_module = modules.contains(other) && other != own;
            if !is_module {
                continue;
            }
            arrows
                .entry(own.to_owned())
                .or_default()
                .insert(other.to_owned());
            if !allowed.get(own).is_some_and(|known| known.contains(other)) {
                faults.push(format!("{path}: `{own}` may not know `{other}`"));
            }
        }
    }
    for (own, known) in &needed {
        let known_by_one = |other: &&String| {
            let mut known = own.iter().filter_map(|own| arrows.get(own));
            known.any(|known| known.contains(*other))
        };
        for other in known.iter().filter(|other| !known_by_one(other)) {
            faults.push(format!("{own:?} may know `{other}` and does not"));
        }
    }
    for module in &modules {
        if !allowed.contains_key(*module) {
            faults.push(format!("`{module}` is not in the map"));
        }
    }
    for row in allowed.keys().filter(|row| !modules.contains(row.as_str())) {
        faults.push(format!("`{row}` is in the map, and no module"));
    }
    if let Some(circle) = circle(&arrows) {
        faults.push(format!("a circle: {}", circle.join(" → ")));
    }
    assert!(
        faults.is_empty(),
        "see ARCHITECTURE.md:\n{}",
        faults.join("\n")
    );
}

#[test]
fn no_circle_is_among_the_files_of_a_module() {
    let sources = sources();
    let mut by_directory: BTreeMap<&str, Arrows> = BTreeMap::new();
    for (path, text) in &sources {
        let Some((directory, name)) = path.rsplit_once('/') else {
            continue;
        };
        let name = name.trim_end_matches(".rs");
        if name == "mod" || directory == "src" {
            continue;
        }
        let is_sibling = |other: &&str| {
            let file = |end: &str| format!("{directory}/{other}{end}");
            let is_there = |path: String| sources.iter().any(|(known, _)| *known == path);
            *other != name && (is_there(file(".rs")) || is_there(file("/mod.rs")))
        };
        let others = named(text, "super::").into_iter().filter(is_sibling);
        by_directory
            .entry(directory)
            .or_default()
            .entry(name.to_owned())
            .or_default()
            .extend(others.map(str::to_owned));
    }
    for (directory, arrows) in &by_directory {
        let circle = circle(arrows).map(|circle| circle.join(" → "));
        assert!(circle.is_none(), "in {directory}: {circle:?}");
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut faults = Vec::new();
    for (path, text) in &sources() {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            faults.push(format!(
                "{path} has {} lines, {FILE_LINES_MAX} may be",
                lines.len()
            ));
        }
        for (at, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let Some((before, rest)) = code.split_once("fn ") else {
                continue;
            };
            let is_function = !code.starts_with("//")
                && before.split_whitespace().all(|word| {
                    word.starts_with("pub")
                        || matches!(word, "const" | "async" | "unsafe" | "extern")
                });
            let end = format!("{}}}", &line[..line.len() - code.len()]);
            let Some(len) = lines[at..].iter().position(|line| *line == end) else {
                continue;
            };
            if is_function && len + 1 > FUNCTION_LINES_MAX {
                let name: String = (rest.chars())
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                faults.push(format!(
                    "{path}: `{name}` has {} lines, {FUNCTION_LINES_MAX} may be",
                    len + 1
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_dependency_is_used() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("there is a manifest");
    let mut code = String::new();
    let mut open: Vec<PathBuf> = (["src", "tests/it", "benches", "build.rs"].iter())
        .map(|name| root().join(name))
        .collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory of sources can be read");
            open.extend(entries.map(|entry| entry.expect("it has entries").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code += &std::fs::read_to_string(&path).expect("a source can be read");
        }
    }
    let mut is_dependency = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_dependency = line.ends_with("dependencies]");
        } else if is_dependency && let Some((name, _)) = line.split_once(" = ") {
            let name = name.replace('-', "_");
            let is_used =
                code.contains(&format!("{name}::")) || code.contains(&format!("use {name};"));
            assert!(is_used, "nothing uses `{name}`");
        }
    }
}

/// Tests that a document names, in the last column of a table whose heading there says so: `name`, `name` in `FILE`;
/// without a file they are in `default`.
#[test]
fn documents_name_tests_that_exist() {
    for (document, heading, default) in [
        ("docs/tailing.md", "Test", "src/tail/tests.rs"),
        ("SECURITY.md", "held by", ""),
    ] {
        let text = std::fs::read_to_string(root().join(document)).expect("a document");
        let mut is_wanted = false;
        let mut seen = 0;
        for line in text.lines().filter(|line| !line.starts_with("|---")) {
            let Some((_, last)) = line.trim_end_matches(" |").rsplit_once(" | ") else {
                is_wanted = false;
                continue;
            };
            is_wanted |= last == heading;
            for group in last.split(';').filter(|_| is_wanted) {
                let words: Vec<&str> = group.split('`').skip(1).step_by(2).collect();
                let is_file = |word: &&&str| word.ends_with(".rs");
                let files: Vec<&str> = words.iter().filter(is_file).copied().collect();
                let is_name = |word: &&&str| {
                    word.chars().all(|letter| {
                        letter.is_ascii_lowercase() || matches!(letter, '_' | '0'..='9')
                    })
                };
                for name in words.iter().filter(is_name) {
                    seen += 1;
                    let places = files.iter().chain(std::iter::once(&default));
                    let mut texts = places
                        .filter(|path| !path.is_empty())
                        .map(|path| std::fs::read_to_string(root().join(path)).unwrap_or_default());
                    assert!(
                        texts.any(|text| text.contains(&format!("fn {name}("))),
                        "{document}: {name} is not in {files:?} {default}"
                    );
                }
            }
        }
        assert!(seen > 5, "{document}: {seen} tests are named");
    }
}
