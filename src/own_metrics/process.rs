//! What the kernel says about this process, as all exporters name it.

use std::sync::Arc;

use super::FamilyBuilder;
use crate::metric::{Family, Kind, Series};

/// What the kernel says about this process. Only Linux tells it in a file; elsewhere there is nothing to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    cpu_seconds: Option<f64>,
    resident_memory_bytes: Option<f64>,
    virtual_memory_bytes: Option<f64>,
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
        // Linux reports times to user space in hundredths of a second on every architecture that Rust's std supports.
        let seconds = |ticks: f64| ticks / 100.0;
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
                "Memory that is in RAM.",
                Gauge,
                self.resident_memory_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space in use.",
                Gauge,
                self.virtual_memory_bytes,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_awkward_name() {
        let process = Process::parse(
            "42 (a) b (c) S 1 1 1 0 -1 4194304 10 0 0 0 250 50 0 0 20 0 1 0 1000 8192000 300 18446744073709551615\n",
            "Name:\tx\nVmRSS:\t     300 kB\n",
            "Limit   Soft   Hard   Units\nMax open files            1024                 524288               files\n",
        );
        assert_eq!(
            process,
            Process {
                cpu_seconds: Some(3.0),
                resident_memory_bytes: Some(307_200.0),
                virtual_memory_bytes: Some(8_192_000.0),
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
    fn this_process_can_be_read() {
        let families = Process::read().families();
        assert_eq!(families.len(), 5);
        for (family, series) in families {
            assert!(series[0].value >= 0.0, "{}", family.name);
        }
    }
}
