//! The real logrotate, in the modes that people use.

use std::process::Command;

use super::*;

/// Rotates `messages` once, as this mode does it.
fn rotate(scene: &Scene, mode: &str) {
    let config = scene.path("logrotate.conf");
    let text = format!(
        "{} {{\n rotate 20\n missingok\n {mode}\n}}\n",
        scene.path("messages").display()
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let output = Command::new("logrotate")
        .args(["--force", "--state"])
        .args([scene.path("logrotate.state"), config])
        .output()
        .expect("logrotate is installed by tests/install-deps.sh");
    assert!(output.status.success(), "{mode}: {output:?}");
}

const MODES: [&str; 8] = [
    "create",
    "nocreate",
    "copytruncate",
    "create\n compress",
    "create\n compress\n delaycompress",
    "copytruncate\n compress",
    "create\n dateext\n dateformat -%Y%m%d-%s",
    "create\n dateext\n dateformat -%Y%m%d-%s\n compress\n delaycompress",
];

#[test]
fn logrotate_while_we_look() {
    for mode in MODES {
        for pattern in ["messages", "messages*"] {
            let mut scene = Scene::with(Watcher::Inotify, &[pattern]);
            let mut want = Vec::new();
            for round in 0..5 {
                for line in [format!("{round}, seen"), format!("{round}, not yet seen")] {
                    scene.write("messages", &format!("{line}\n"));
                    want.push(line.clone());
                    if line.ends_with(", seen") {
                        scene.look();
                    }
                }
                rotate(&scene, mode);
                if mode.contains("%s") {
                    rename_back_in_time(&scene, round);
                }
                if round % 2 == 0 {
                    scene.look().later(2);
                }
            }
            scene.write("messages", "end\n");
            want.push("end".to_owned());
            scene.look().later(10);
            assert_eq!(scene.lines("messages"), want, "{mode}, {pattern}");
            assert_eq!(
                scene.log.lines.len(),
                1,
                "{mode}, {pattern}: {:?}",
                scene.log.lines
            );
        }
    }
}

#[test]
fn logrotate_while_we_are_stopped() {
    for mode in MODES {
        let mut scene = Scene::new();
        let mut want = vec!["first".to_owned()];
        scene.write("messages", "first\n");
        scene.look();
        for round in 0..4 {
            let positions = scene.stop();
            for generation in 0..3 {
                let line = format!("{round}, {generation}");
                scene.write("messages", &format!("{line}\n"));
                want.push(line);
                rotate(&scene, mode);
                if mode.contains("%s") {
                    rename_back_in_time(&scene, round * 3 + generation);
                }
            }
            scene.restart(positions);
            scene.look();
            if round % 2 == 0 {
                scene.later(4);
            }
        }
        scene.write("messages", "end\n");
        want.push("end".to_owned());
        scene.look().later(10);
        assert_eq!(scene.lines("messages"), want, "{mode}");
    }
}

/// Dated names count seconds; so that rotations need not be a second apart, what was just rotated gets an earlier one.
fn rename_back_in_time(scene: &Scene, round: u32) {
    for entry in scene.dir.path().read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some((base, seconds)) = name.trim_end_matches(".gz").rsplit_once('-') else {
            continue;
        };
        if seconds
            .parse::<u64>()
            .is_ok_and(|seconds| seconds > 1_000_000_000)
        {
            let ending = if name.ends_with(".gz") { ".gz" } else { "" };
            scene.rename(&name, &format!("{base}-{}{ending}", 900_000_000 + round));
        }
    }
}
