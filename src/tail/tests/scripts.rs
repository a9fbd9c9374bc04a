//! Random scripts of what is done to a log with dates. Each line counts once.
//!
//! A letter is a step:
//!
//! | Step | What is done |
//! |---|---|
//! | `5`, `m` | 5 or 60 lines are written |
//! | `.`, `-`, `_` | the tail looks: at once, for a second, for 40 seconds |
//! | `r` | the log is renamed to `m.1`, behind all that was rotated before |
//! | `c` | it is copied there and truncated |
//! | `g` | as `c`, with lines between copy and truncation, which are read |
//! | `l` | lines are written to what was renamed last |
//! | `z` | the oldest rotated file that is plain is compressed |
//! | `e` | the log is saved anew, in another inode |
//! | `T`, `S` | the tail stops; it starts |

use super::kinds::Act::{self, Copy, Empty, Renumber, Write};
use super::kinds::{act, line_time, number_of_scripts, numbers};
use super::*;

/// Steps of a tail that runs: lines between copy and truncation are in no file that is left.
const RUNNING: &str = "...--_ggglT";
const STOPPED: &str = "S";
const ANY: &str = "5mmrrcczzee";

fn script(seed: u64) -> String {
    let mut below = numbers(seed);
    // What is there before the first look is history.
    let mut script = String::from("5.");
    let mut runs = true;
    for _ in 0..below(20) + 5 {
        let steps = [ANY, if runs { RUNNING } else { STOPPED }].concat();
        let step = steps
            .chars()
            .nth(below(steps.len() as u64) as usize)
            .unwrap();
        runs = step != 'T' && (runs || step == 'S');
        script.push(step);
    }
    if !runs {
        script.push('S');
    }
    script
}

/// The log `m`, and what was rotated from it.
struct Rotated {
    scene: Scene,
    next: u32,
    /// Whether a rotated file is compressed, by its number less one.
    compressed: Vec<bool>,
    /// What was rotated last was renamed, so that somebody may still write to it.
    was_renamed: bool,
    positions: Option<Positions>,
}

impl Rotated {
    fn new() -> Self {
        let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
        scene.specs[0].line_time = Some(line_time());
        scene.write("m", "");
        Self {
            scene,
            next: 0,
            compressed: Vec::new(),
            was_renamed: false,
            positions: None,
        }
    }

    fn act(&mut self, one: Act) {
        act(&mut self.scene, &mut self.next, one);
    }

    /// Every rotated file gets the next number.
    fn shift(&mut self) {
        for (at, is_compressed) in self.compressed.iter().enumerate().rev() {
            let end = if *is_compressed { ".gz" } else { "" };
            let name = |number: usize| format!("m.{number}{end}");
            self.scene.rename(&name(at + 1), &name(at + 2));
        }
        self.compressed.insert(0, false);
    }

    fn copy_and_truncate(&mut self, between: u32) {
        self.shift();
        self.act(Copy("m", "m.1"));
        if between > 0 {
            self.act(Write("m", between));
            self.scene.look().later(1);
        }
        self.act(Empty("m"));
        self.was_renamed = false;
    }

    fn step(&mut self, step: char) {
        match step {
            '5' => self.act(Write("m", 5)),
            'm' => self.act(Write("m", 60)),
            '.' => drop(self.scene.look()),
            '-' => drop(self.scene.look().later(1)),
            '_' => drop(self.scene.look().later(40)),
            'r' => {
                self.shift();
                self.scene.rename("m", "m.1");
                self.scene.write("m", "");
                self.was_renamed = true;
            }
            'c' => self.copy_and_truncate(0),
            'g' => self.copy_and_truncate(20),
            'l' => {
                if self.was_renamed && self.compressed.first() == Some(&false) {
                    self.act(Write("m.1", 7));
                }
            }
            'z' => {
                if let Some(at) = self.compressed.iter().rposition(|is_so| !is_so) {
                    self.scene.compress(&format!("m.{}", at + 1));
                    self.compressed[at] = true;
                }
            }
            'e' => self.act(Renumber("m")),
            'T' => self.positions = Some(self.scene.stop()),
            'S' => self.scene.restart(self.positions.take().unwrap()),
            _ => panic!("no step {step}"),
        }
    }
}

#[test]
fn whatever_is_done_to_a_log_with_dates_each_line_counts_once() {
    let known = ["5.me", "5.g5emg", "5.g5e5-TSc", "5m.-me-emmrl5rcg"];
    let known = known.map(str::to_owned).into_iter();
    for script in known.chain((0..number_of_scripts()).map(script)) {
        let mut rotated = Rotated::new();
        script.chars().for_each(|step| rotated.step(step));
        rotated.scene.look().later(40);
        let lines = rotated.scene.log.lines.values().flatten();
        let mut counted: Vec<u32> = lines
            .filter_map(|line| line.strip_prefix("line ")?.split(' ').next()?.parse().ok())
            .collect();
        counted.sort_unstable();
        let want: Vec<u32> = (0..rotated.next).collect();
        let differs = counted.iter().zip(&want).find(|(is, want)| is != want);
        assert!(
            counted == want,
            "{script}: {} of {} lines, the first that differs is {differs:?}: {:?}",
            counted.len(),
            want.len(),
            rotated.scene.log.events
        );
    }
}
