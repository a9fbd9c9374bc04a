//! What the kernel says about this process, as all exporters name it.

use std::sync::Arc;

use super::FamilyBuilder;
use crate::metric::{Family, Kind, Series};

/// Linux reports times to user space in hundredths of a second on every architecture that Rust's std supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel says about this process. Only Linux tells it in a file; elsewhere there is nothing to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    cpu_seconds: Option<f64>,
    resident_memory_bytes: Option<f64>,
    virtual_memory_bytes: Option<f64>,
    virtual_memory_max_bytes: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

impl Process {
    /// Reads `/proc/self`; what cannot be read is left out.
    pub fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &read("/proc/self/stat"),
            &read("/proc/self/status"),
            &read("/proc/self/limits"),
        );
        // The directory handle that lists them is one of them.
        process.open_fds = std::fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| entries.count().saturating_sub(1) as f64);
        process
    }

    fn parse(stat: &str, status: &str, limits: &str) -> Self {
        // The program's name, in parentheses, may hold blanks and parentheses itself.
        let fields: Vec<f64> = stat
            .rsplit_once(')')
            .map(|(_, fields)| fields)
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(|field| field.parse().unwrap_or(f64::NAN))
            .collect();
        // Numbered as in proc(5), where the field after the name is the third.
        let field = |number: usize| {
            fields
                .get(number - 3)
                .copied()
                .filter(|value| !value.is_nan())
        };
        let seconds = |ticks: f64| ticks / TICKS_PER_SECOND;
        let number_after = |text: &str, key: &str| -> Option<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| seconds(user + system)),
            resident_memory_bytes: number_after(status, "VmRSS:")
                .map(|kilobytes| kilobytes * 1024.0),
            virtual_memory_bytes: field(23),
            // Without a limit the largest number that it could be, as client_golang has it.
            virtual_memory_max_bytes: limits
                .contains("Max address space")
                .then(|| number_after(limits, "Max address space").unwrap_or(u64::MAX as f64)),
            open_fds: None,
            max_fds: number_after(limits, "Max open files"),
        }
    }

    /// As families of a snapshot, named as all exporters name them.
    pub fn families(&self) -> Vec<(Arc<Family>, Vec<Series>)> {
        use Kind::{Counter, Gauge};
        [
            (
                "process_cpu_seconds_total",
                "Processor time used, user and system.",
                Counter,
                self.cpu_seconds,
            ),
            (
                "process_max_fds",
                "File descriptors that may be open.",
                Gauge,
                self.max_fds,
            ),
            (
                "process_open_fds",
                "File descriptors that are open.",
                Gauge,
                self.open_fds,
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory size.",
                Gauge,
                self.resident_memory_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space in use.",
                Gauge,
                self.virtual_memory_bytes,
            ),
            (
                "process_virtual_memory_max_bytes",
                "Address space that may be in use; 2^64 without a limit.",
                Gauge,
                self.virtual_memory_max_bytes,
            ),
        ]
        .into_iter()
        .filter(|(.., value)| value.is_some())
        .map(|(name, help, kind, value)| {
            FamilyBuilder {
                name: name.into(),
                help,
                kind,
            }
            .alone(value)
        })
        .collect()
    }
}

/// A thread of this process.
#[derive(Debug)]
pub struct Thread {
    /// At most 15 bytes.
    pub name: String,
    /// As in proc(5): R runs, S sleeps, D waits for a disk.
    pub state: char,
    /// Processor time used, user and system.
    pub cpu_seconds: f64,
}

/// The threads of this process, the busiest first; none where the kernel has no file for them.
pub fn threads() -> Vec<Thread> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let thread = |task: std::io::Result<std::fs::DirEntry>| {
        // It may have ended meanwhile.
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (head, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let ticks = fields.skip(10).take(2).map(str::parse::<f64>);
        Some(Thread {
            name: head.split_once('(')?.1.to_owned(),
            state,
            cpu_seconds: ticks.sum::<Result<f64, _>>().ok()? / TICKS_PER_SECOND,
        })
    };
    let mut threads: Vec<_> = tasks.filter_map(thread).collect();
    threads.sort_by(|a, b| b.cpu_seconds.total_cmp(&a.cpu_seconds));
    threads
}

/// The labels of `build_info`.
pub(super) fn build(version: &str, revision: &str) -> [(&'static str, Arc<str>); 4] {
    [
        ("version", version.into()),
        ("revision", revision.into()),
        ("target", env!("BUILD_TARGET").into()),
        ("rustc", env!("BUILD_RUSTC").into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_awkward_name() {
        let process = Process::parse(
            "42 (a) b (c) S 1 1 1 0 -1 4194304 10 0 0 0 250 50 0 0 20 0 1 0 1000 8192000 300 18446744073709551615\n",
            "Name:\tx\nVmRSS:\t     300 kB\n",
            "Limit   Soft   Hard   Units\nMax open files            1024                 524288               files\n\
             Max address space         unlimited            unlimited            bytes\n",
        );
        assert_eq!(
            process,
            Process {
                cpu_seconds: Some(3.0),
                resident_memory_bytes: Some(307_200.0),
                virtual_memory_bytes: Some(8_192_000.0),
                virtual_memory_max_bytes: Some(u64::MAX as f64),
                open_fds: None,
                max_fds: Some(1024.0),
            }
        );
        assert_eq!(
            Process::parse("1 (", "VmRSS:", "Max open files"),
            Process::default()
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_thread_is_among_the_threads() {
        let named = std::thread::Builder::new().name("a (thread)".into());
        let threads = named.spawn(threads).unwrap().join().unwrap();
        let this = threads.iter().find(|thread| thread.name == "a (thread)");
        assert_eq!(this.unwrap().state, 'R', "{threads:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_read() {
        let families = Process::read().families();
        assert_eq!(families.len(), 6);
        for (family, series) in families {
            assert!(series[0].value >= 0.0, "{}", family.name);
        }
    }
}
