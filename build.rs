//! Puts the rule packs in `rules/packs` into the program, so that a new pack needs no line of Rust: as they are written,
//! for `check` and the tests, and in a compact form that a start reads fast. The compact form is the same values as JSON,
//! what stands before the rules and each rule apart, without the examples, which only `check` and the tests run. The
//! runbooks are put there too.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use serde_yaml::Value;

fn main() {
    revision();
    let folder =
        PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("rules/packs");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("rules/packs is part of the source")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    let mut list = String::from("static BUILT_IN: &[BuiltIn] = &[\n");
    for path in files {
        match entry(&path) {
            Ok(entry) => list.push_str(&entry),
            Err(message) => {
                println!("cargo::error={}: {message}", path.display());
                process::exit(1);
            }
        }
    }
    list.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("built_in_packs.rs");
    fs::write(out, list).expect("OUT_DIR is writable");
    runbooks();
}

/// Puts the runbooks of `docs/runbooks` into the program, which serves them, sorted by name.
fn runbooks() {
    let folder =
        PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("docs/runbooks");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut list: Vec<String> = fs::read_dir(&folder)
        .expect("docs/runbooks is part of the source")
        .map(|entry| entry.expect("a readable folder").path())
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?;
            name.starts_with("Appliance")
                .then(|| format!("({name:?}, include_str!({path:?})),\n"))
        })
        .collect();
    list.sort();
    let text = format!(
        "static RUNBOOKS: &[(&str, &str)] = &[\n{}];\n",
        list.concat()
    );
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("runbooks.rs");
    fs::write(out, text).expect("OUT_DIR is writable");
}

/// What `--version` and `build_info` say of the build: the commit, the target and the compiler.
///
/// The commit is that of `GIT_REVISION`, of the file `REVISION` that a source archive has, or of git. A debug build says
/// `development`: it would have to be built again with each commit to be right.
fn revision() {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    println!("cargo::rerun-if-env-changed=GIT_REVISION");
    let run = |program: &str, arguments: &[&str]| {
        let output = process::Command::new(program)
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let mut revision = variable("GIT_REVISION");
    if revision.is_none() && Path::new("REVISION").exists() {
        println!("cargo::rerun-if-changed=REVISION");
        revision = fs::read_to_string("REVISION")
            .ok()
            .map(|text| text.trim().to_owned());
    }
    if revision.is_none() && variable("PROFILE").as_deref() == Some("release") {
        revision = run("git", &["rev-parse", "--short=12", "HEAD"]);
        if let Some(log) = run("git", &["rev-parse", "--git-path", "logs/HEAD"])
            && Path::new(&log).exists()
        {
            println!("cargo::rerun-if-changed={log}");
        }
        revision = revision.or(Some("unknown".to_owned()));
    }
    let revision = revision.unwrap_or_else(|| "development".to_owned());
    println!("cargo::rustc-env=BUILD_REVISION={revision}");
    let target = variable("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=BUILD_TARGET={target}");
    let compiler = run(&variable("RUSTC").unwrap_or_default(), &["--version"]);
    let compiler = compiler.unwrap_or_default();
    let version = compiler.split(' ').nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=BUILD_RUSTC={version}");
}

/// A pack as an item of the list. Whether it makes sense is not looked at here: tests run `check` over the packs.
fn entry(path: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut head: Value = serde_yaml::from_str(&fs::read_to_string(path)?)?;
    let mut rules = Vec::new();
    if let Some(Value::Sequence(written)) = head
        .as_mapping_mut()
        .and_then(|pack| pack.shift_remove("rules"))
    {
        rules = written;
    }
    let mut out = format!(
        "BuiltIn {{ file: {:?}, text: include_str!({:?}), head: {:?}, rules: &[\n",
        path.file_name().unwrap_or_default().to_string_lossy(),
        path.display().to_string(),
        serde_json::to_string(&head)?,
    );
    for mut rule in rules {
        without_examples(&mut rule);
        if let Some(members) = rule.get_mut("events").and_then(Value::as_mapping_mut) {
            members.values_mut().for_each(without_examples);
        }
        writeln!(out, "{:?},", serde_json::to_string(&rule)?)?;
    }
    out.push_str("]},\n");
    Ok(out)
}

fn without_examples(rule: &mut Value) {
    if let Some(rule) = rule.as_mapping_mut() {
        rule.shift_remove("examples");
    }
}
