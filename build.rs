//! Lists the rule packs in `rules/packs`, so that a new pack needs no line of Rust.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let folder =
        PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("rules/packs");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("rules/packs is part of the source")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    let mut list = String::from(
        "/// File name and text of every built-in pack, in the order of their names.\npub const BUILT_IN: &[(&str, &str)] = &[\n",
    );
    for path in files {
        let name = path
            .file_name()
            .expect("a file has a name")
            .to_string_lossy();
        list.push_str(&format!(
            "    ({name:?}, include_str!({:?})),\n",
            path.display().to_string()
        ));
    }
    list.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("built_in_packs.rs");
    fs::write(out, list).expect("OUT_DIR is writable");
}
