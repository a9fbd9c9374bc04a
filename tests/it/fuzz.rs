//! The corpora that fuzzing left behind, through the same functions.

#[path = "../fuzz/targets.rs"]
mod targets;

fn corpus(target: &str, run: fn(&[u8])) {
    let folder = format!("{}/tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{folder} is empty");
}

#[test]
fn corpus_of_line() {
    corpus("line", targets::line);
}

#[test]
fn corpus_of_frame() {
    corpus("frame", targets::frame);
}

#[test]
fn corpus_of_record() {
    corpus("record", targets::record);
}

#[test]
fn corpus_of_pack() {
    corpus("pack", targets::pack);
}

#[test]
fn corpus_of_snapshot() {
    corpus("snapshot", targets::snapshot);
}

#[test]
fn corpus_of_lines() {
    corpus("lines", targets::lines);
}

#[test]
fn corpus_of_cost() {
    corpus("cost", targets::cost);
}
