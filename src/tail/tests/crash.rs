//! Processes that are killed: at every step of writing the snapshot, and at any time. Each is a process of its own, with
//! a tail, a table of counts and a state directory. `CRASHES=1000 cargo test counts_are_exact` kills more of them.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::state::{Loaded, Snapshot, State};

/// How often each line was counted.
type Counts = BTreeMap<String, u32>;

fn load(state: &State) -> (Option<Positions>, Counts) {
    match state.load().unwrap() {
        Loaded::Nothing => (None, Counts::new()),
        Loaded::Snapshot(snapshot) => (
            Some(snapshot.positions.files),
            serde_json::from_slice(&snapshot.table).unwrap(),
        ),
        Loaded::Unusable(unusable) => panic!("{unusable}"),
    }
}

/// The process that is killed. Does nothing unless it is told to by the environment.
#[test]
fn victim() {
    let Ok(dir) = std::env::var("CRASH_DIR") else {
        return;
    };
    let dir = PathBuf::from(dir);
    let mut steps: u64 = std::env::var("CRASH_STEPS").unwrap().parse().unwrap();
    let last = steps == u64::MAX;
    // The one before may not be quite dead.
    let mut state = loop {
        match State::open(dir.join("state")) {
            Ok(state) => break state,
            Err(crate::state::OpenError::InUse(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    state.inject(move |_| {
        steps -= 1;
        if steps == 0 {
            let this = rustix::process::getpid();
            rustix::process::kill_process(this, rustix::process::Signal::KILL).unwrap();
        }
        Ok(())
    });
    let (positions, mut counts) = load(&state);
    let pattern = Pattern::parse(dir.join("messages").to_str().unwrap()).unwrap();
    let mut tail = Tail::new(
        vec![SourceSpec::new("test", [pattern])],
        Options::default(),
        positions,
    )
    .unwrap();
    let mut now = Instant::now();
    let mut log = Log::default();
    for round in 0.. {
        while tail.read(now, &mut log).more {}
        for line in log.lines.drain().flat_map(|(_, lines)| lines) {
            *counts.entry(line).or_default() += 1;
        }
        let positions = tail.positions(|file| log.buffers[&file].0.held_bytes());
        state
            .save(
                &Snapshot {
                    positions: crate::source::Positions {
                        files: positions,
                        ..Default::default()
                    },
                    table: serde_json::to_vec(&counts).unwrap(),
                }
                .encode()
                .unwrap(),
            )
            .unwrap();
        if last && round == 10 {
            return;
        }
        now += Duration::from_secs(10);
    }
}

fn spawn(dir: &Path, steps: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tail::tests::crash::victim"])
        .env("CRASH_DIR", dir)
        .env("CRASH_STEPS", steps.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn counts_are_exact_whenever_the_process_is_killed() {
    let crashes: u64 = std::env::var("CRASHES")
        .ok()
        .and_then(|crashes| crashes.parse().ok())
        .unwrap_or(50);
    let scene = Scene::new();
    let mut written = 0u32;
    // What is rotated before a path is seen for the first time is history.
    scene.write("messages", "0, begun, and done\n");
    written += 1;
    assert!(spawn(scene.dir.path(), u64::MAX).wait().unwrap().success());
    for crash in 0..crashes {
        // Steps in turn; a snapshot of this size has five, so that each is met in the first and in later snapshots.
        let at_step = crash % 2 == 0;
        let steps = if at_step {
            1 + crash / 2 % 23
        } else {
            u64::MAX - 1
        };
        let mut child = spawn(scene.dir.path(), steps);
        for part in 0..3 {
            if part == 1 && crash % 3 == 0 {
                for old in (1..=crash)
                    .rev()
                    .filter(|old| scene.path(&format!("messages.{old}")).exists())
                {
                    scene.rename(&format!("messages.{old}"), &format!("messages.{}", old + 1));
                }
                if scene.path("messages").exists() {
                    scene.rename("messages", "messages.1");
                }
            }
            for _ in 0..20 {
                // In two pieces, so that it may be seen half written.
                scene.write("messages", &format!("{written}, begun, "));
                scene.write("messages", "and done\n");
                written += 1;
            }
        }
        if !at_step {
            std::thread::sleep(Duration::from_micros(crash * 7919 % 30_000));
            child.kill().unwrap();
        }
        child.wait().unwrap();
    }
    assert!(spawn(scene.dir.path(), u64::MAX).wait().unwrap().success());
    let (_, counts) = load(&State::open(scene.path("state")).unwrap());
    let want = (0..written)
        .map(|id| (format!("{id}, begun, and done"), 1))
        .collect::<Counts>();
    let wrong: Vec<_> = want
        .keys()
        .filter(|line| counts.get(*line) != Some(&1))
        .collect();
    assert_eq!(wrong, [""; 0], "lost or counted more than once");
    assert_eq!(counts, want);
}
