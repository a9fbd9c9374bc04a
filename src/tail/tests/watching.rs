//! When the kernel tells no more: its queue of events is full, or its limits leave no watch. The limits are real ones: they
//! are set for a user namespace of a process of its own.

use std::process::Command;

use super::*;

/// How many events the kernel keeps for one who does not read them.
fn queue_len() -> usize {
    let text = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn inotify_queue_overflow() {
    let mut scene = Scene::with(Watcher::Inotify, &["*.log", "deep/*.log"]);
    scene.write("followed.log", "1\n");
    scene.write("rotated.log", "1\n");
    scene.look();
    // Events of one kind about one file would be taken together.
    for event in 0..queue_len() / 2 + 100 {
        scene.write("a", "x");
        scene.write("b", if event % 2 == 0 { "x" } else { "y" });
    }
    // Nothing is told of what happens now.
    scene.write("followed.log", "2\n");
    scene.write("new.log", "3\n");
    scene.write("rotated.log", "4\n");
    scene.rename("rotated.log", "rotated.log.1");
    scene.write("rotated.log", "5\n");
    fs::create_dir(scene.path("deep")).unwrap();
    scene.write("deep/new.log", "6\n");
    let watching = |scene: &Scene| scene.tail.as_ref().unwrap().watching().clone();
    assert_eq!(watching(&scene).overflows, 0);
    // No time passes: it is the overflow that leads to a look at everything, not the next rescan.
    scene.look();
    assert_eq!(watching(&scene).overflows, 1);
    assert_eq!(scene.lines("followed.log"), ["1", "2"]);
    assert_eq!(scene.lines("new.log"), ["3"]);
    assert_eq!(scene.lines("rotated.log"), ["1", "4", "5"]);
    assert_eq!(scene.lines("deep/new.log"), ["6"]);
    // From then on events are told again, also of the new directory.
    scene.write("deep/new.log", "7\n");
    scene.look();
    assert_eq!(scene.lines("deep/new.log"), ["6", "7"]);
    assert_eq!(watching(&scene).overflows, 1);
    assert_eq!(watching(&scene).watcher, Watcher::Inotify);
}

/// Runs one test of this file in a user namespace in which a limit of inotify has this value.
fn limited(limit: &str, value: u32, test: &str) {
    let script = format!("echo {value} > /proc/sys/user/max_inotify_{limit} && exec \"$0\" \"$@\"");
    let test = format!("tail::tests::watching::{test}");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env("LIMITED", limit)
        .output()
        .expect("unshare is installed by tests/install-deps.sh");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The calling test was started by [`limited`], for this limit.
pub(super) fn is_limited(limit: &str) -> bool {
    std::env::var("LIMITED").is_ok_and(|limited| limited == limit)
}

/// After the watcher is lost, everything goes on, somewhat later.
fn goes_on_by_polling(scene: &mut Scene, name: &str, before: &[&str]) {
    let watching = scene.tail.as_ref().unwrap().watching();
    assert_eq!(watching.watcher, Watcher::Poll);
    assert!(watching.fallback.is_some(), "no reason is given");
    scene.write(name, "late\n");
    scene.rename(name, &format!("{name}.1"));
    scene.write(name, "next\n");
    scene.later(1);
    assert_eq!(scene.lines(name), [before, &["late", "next"]].concat());
}

#[test]
fn no_inotify_instance_is_left() {
    if !is_limited("instances") {
        return limited("instances", 0, "no_inotify_instance_is_left");
    }
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1"]);
    goes_on_by_polling(&mut scene, "messages", &["1"]);
}

#[test]
fn the_limit_of_inotify_watches_is_reached() {
    if !is_limited("watches") {
        // One for each directory, and one for the directory above: enough until the third appliance comes.
        return limited("watches", 4, "the_limit_of_inotify_watches_is_reached");
    }
    let mut scene = Scene::with(Watcher::Inotify, &["{appliance}/log"]);
    for appliance in ["hsm1", "hsm2"] {
        fs::create_dir(scene.path(appliance)).unwrap();
        scene.write(&format!("{appliance}/log"), "1\n");
    }
    scene.look();
    let watching = scene.tail.as_ref().unwrap().watching();
    assert_eq!(watching.watcher, Watcher::Inotify);
    assert_eq!(watching.fallback, None);
    for appliance in ["hsm3", "hsm4"] {
        fs::create_dir(scene.path(appliance)).unwrap();
        scene.write(&format!("{appliance}/log"), "1\n");
    }
    scene.look();
    for appliance in ["hsm1", "hsm2", "hsm3", "hsm4"] {
        goes_on_by_polling(&mut scene, &format!("{appliance}/log"), &["1"]);
    }
}
