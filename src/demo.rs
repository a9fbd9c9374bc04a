//! A small fleet that logs as real devices do, so that one can look at the exporter without owning an HSM.
//!
//! Two Luna HSMs, a Juniper gateway, a Clavister firewall and an ONTAP node write to files in a temporary directory;
//! the exporter follows them as it follows any file. Traffic is healthy, and in a cycle of four minutes a fan stops and
//! recovers, a disk warms up, handshakes fail, a tunnel drops and returns, and packets are dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Zoned;
use tempfile::TempDir;

use crate::config::{ApplianceFrom, Source};

/// How often the devices have something to say.
const TICK: Duration = Duration::from_millis(250);
/// Length of the cycle of mishaps, in seconds.
const CYCLE_SECONDS: u64 = 240;
/// A log that grows beyond this is rotated, so that a forgotten demo does not fill the disk.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Devices that write logs until they are dropped.
pub struct Demo {
    directory: TempDir,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Demo {
    /// Makes the directory and starts to write.
    ///
    /// # Errors
    /// The temporary directory cannot be written.
    pub fn start() -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("appliance_log_exporter-demo-")
            .tempdir()?;
        let mut fleet = Fleet::new(directory.path())?;
        fleet.boot()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let writer = std::thread::Builder::new()
            .name("demo".into())
            .spawn(move || {
                let started = Instant::now();
                let mut tick = 0u32;
                while !stopped.load(Ordering::SeqCst) {
                    // A disk that is full ends the demo's lines, not the exporter.
                    if fleet.tick(started.elapsed().as_secs()).is_err() {
                        break;
                    }
                    tick += 1;
                    let next = started + TICK * tick;
                    std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
                }
            })?;
        Ok(Self {
            directory,
            stop,
            writer: Some(writer),
        })
    }

    /// Where the logs are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The settings that follow them.
    pub fn sources(&self) -> Vec<Source> {
        let pattern = self.directory.path().join("{appliance}/*.log");
        let mut source = Source::of_flag(vec![pattern.display().to_string()]);
        source.name = "demo".to_owned();
        source.appliance = ApplianceFrom::Path;
        vec![source]
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(writer) = self.writer.take() {
            writer.thread().unpark();
            // The directory must not go before its writer.
            let _ = writer.join();
        }
    }
}

/// One log file of one device.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn new(directory: &Path, device: &str, name: &str) -> io::Result<Self> {
        let directory = directory.join(device);
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{name}.log"));
        Ok(Self {
            file: OpenOptions::new().create(true).append(true).open(&path)?,
            path,
            bytes: 0,
        })
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.bytes > FILE_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?;
            self.bytes = 0;
        }
        self.bytes += line.len() as u64 + 1;
        writeln!(self.file, "{line}")
    }
}

/// A Luna HSM's three files.
struct Luna {
    name: &'static str,
    messages: Log,
    lunalog: Log,
    secure: Log,
}

struct Fleet {
    lunas: [Luna; 2],
    junos: Log,
    clavister: Log,
    ontap: Log,
    /// A linear congruential generator: the demo need not be random, only lively.
    random: u64,
    /// The second of the cycle that was last acted upon.
    last: Option<u64>,
    sequence: u64,
}

impl Fleet {
    fn new(directory: &Path) -> io::Result<Self> {
        let luna = |name: &'static str| -> io::Result<Luna> {
            Ok(Luna {
                name,
                messages: Log::new(directory, name, "messages")?,
                lunalog: Log::new(directory, name, "lunalog")?,
                secure: Log::new(directory, name, "secure")?,
            })
        };
        Ok(Self {
            lunas: [luna("hsm1")?, luna("hsm2")?],
            junos: Log::new(directory, "srx1", "messages")?,
            clavister: Log::new(directory, "cos1", "messages")?,
            ontap: Log::new(directory, "ontap1", "messages")?,
            random: 0x9E37_79B9_7F4A_7C15,
            last: None,
            sequence: 99_000,
        })
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound.max(1)
    }

    /// What devices say when they start, so that their state is known at once.
    fn boot(&mut self) -> io::Result<()> {
        for luna in 0..self.lunas.len() {
            self.ntls(luna, "info", "info : 0 : NTLS is online and operational.")?;
            self.lunalog(
                luna,
                "info",
                "certmonitord[2101]",
                "info : 0 : New NTLS certificate detected and the expiry date of this new certificate is Jul 26 16:32:48 2033 GMT",
            )?;
            for fan in ["Fan1A", "Fan1B", "Fan2A", "Fan2B", "Fan3A", "Fan3B"] {
                let speed = 7_000 + self.below(900);
                self.threshold(
                    luna,
                    "Fan",
                    fan,
                    "Lower Critical going low ",
                    speed,
                    '<',
                    2_000,
                    "RPM",
                    "Deasserted",
                )?;
            }
            for (sensor, limit) in [("CPU", 72), ("PCH", 90), ("VRD", 90), ("Inlet", 39)] {
                let degrees = 28 + self.below(8);
                self.threshold(
                    luna,
                    "Temperature",
                    sensor,
                    "Upper Critical going high",
                    degrees,
                    '>',
                    limit,
                    "degrees C",
                    "Deasserted",
                )?;
            }
            for supply in ["PSU1_Status", "PSU2_Status"] {
                let text =
                    format!("Power Supply sensor {supply:<15}. - Presence detected Asserted");
                self.messages(luna, "local4", "notice", "ipmievd", &text)?;
            }
            self.smart(
                luna,
                "Device: /dev/sda [SAT], initial Temperature is 31 Celsius (Min/Max 24/39)",
            )?;
            self.smart(luna, "Device: /dev/sda [SAT], SMART Prefailure Attribute: 1 Raw_Read_Error_Rate changed from 199 to 200")?;
        }
        for vpn in ["branch-17", "branch-42", "dc-north"] {
            self.vpn(vpn, true)?;
        }
        self.late_packet()
    }

    fn tick(&mut self, seconds: u64) -> io::Result<()> {
        for _ in 0..=self.below(4) {
            self.traffic()?;
        }
        if self.last != Some(seconds) {
            self.last = Some(seconds);
            self.mishap(seconds % CYCLE_SECONDS)?;
        }
        Ok(())
    }

    /// Everyday lines.
    fn traffic(&mut self) -> io::Result<()> {
        let luna = self.below(2) as usize;
        let client = format!("192.168.0.{}", 100 + self.below(12));
        let port = 30_000 + self.below(20_000);
        let peer = format!("{client}/{port}");
        match self.below(11) {
            0..=3 => {
                self.ntls(
                    luna,
                    "info",
                    &format!("info : 0 : Incoming connection request... : {peer}"),
                )?;
                self.ntls(
                    luna,
                    "info",
                    &format!("info : 0xc0000002 : Connection accepted from: {peer}"),
                )?;
                self.ntls(luna, "info", &format!("info : 0xc0000002 : NTLS Client \"{client}\" connected and authenticated : {peer}."))?;
            }
            4 | 5 => self.ntls(
                luna,
                "info",
                &format!("info : 0 : NTLS Client \"{client}\" has disconnected: {peer}"),
            )?,
            6 => {
                let command = [
                    "hsm show",
                    "partition list",
                    "ntls show",
                    "syslog tail -logname messages",
                ][self.below(4) as usize];
                self.lunalog(
                    luna,
                    "info",
                    "lunash [4711]",
                    &format!("info : 0 : Command: {command} : admin : {peer}"),
                )?;
            }
            7 => {
                let text = format!("Accepted publickey for monitor from {client} port {port} ssh2");
                self.secure(luna, &text)?;
            }
            8 if self.below(60) == 0 => self.late_packet()?,
            9 => {
                let (from, to) = (180 + self.below(20), 180 + self.below(20));
                self.smart(luna, &format!("Device: /dev/sda [SAT], SMART Usage Attribute: 194 Temperature_Celsius changed from {from} to {to}"))?;
            }
            _ => {
                let stamp = stamp(&Zoned::now());
                let up = self.below(60);
                let line = format!(
                    "{stamp} {}  syslog info  logger: uptime: 04:02:01 up 112 days,  6:{up:02}, 1 user, load average: 0.38, 0.14, 0.04",
                    self.lunas[luna].name
                );
                self.lunas[luna].messages.line(&line)?;
            }
        }
        Ok(())
    }

    /// The cycle: what goes wrong, and what is repaired, at which second.
    fn mishap(&mut self, second: u64) -> io::Result<()> {
        match second {
            20 => self.threshold(0, "Fan", "Fan2A", "Lower Critical going low ", 0, '<', 2_000, "RPM", "Asserted")?,
            80 => self.threshold(0, "Fan", "Fan2A", "Lower Critical going low ", 7_120, '<', 2_000, "RPM", "Deasserted")?,
            60..=100 if second.is_multiple_of(10) => {
                let degrees = 31 + (second - 50) / 3;
                self.smart(1, &format!("Device: /dev/sda [SAT], Temperature changed +3 Celsius to {degrees} Celsius (Min/Max 24/{degrees}!)"))?;
                if second == 100 {
                    self.smart(1, "Device: /dev/sda [SAT], Temperature 47 Celsius reached limit of 44 Celsius (Min/Max 24/47!)")?;
                }
            }
            130 => self.smart(1, "Device: /dev/sda [SAT], Temperature changed -16 Celsius to 31 Celsius (Min/Max 24/47)")?,
            110..=125 => {
                let peer = format!("203.0.113.{}/{}", 1 + self.below(6), 30_000 + self.below(20_000));
                self.ntls(0, "info", &format!("info : 0xc0000711 : Fail to establish a secure channel with client : {peer} : RC_SSL_FAILED_HANDSHAKE"))?;
                if second.is_multiple_of(4) {
                    let text = format!("Failed password for invalid user test from 203.0.113.9 port {} ssh2", 30_000 + self.below(20_000));
                    self.secure(1, &text)?;
                    self.ontap("ktls.badAuth", "ONTAP received a TLS message with incorrect authentication at local address 10.0.0.5 local port 11104 from remote address 10.0.0.9 remote port 40112 via IPspace 0.")?;
                }
            }
            140 => self.vpn("branch-17", false)?,
            190 => self.vpn("branch-17", true)?,
            141..=189 if second.is_multiple_of(7) => {
                let stamp = junos_stamp(&Zoned::now());
                self.junos.line(&format!("{stamp}  srx1 kmd[14162]: IKE negotiation failed with error: Timed out. IKE Version: 1, VPN: branch-17 Gateway: branch-17, Local: 192.0.2.1/500, Remote: 203.0.113.9/500, Local IKE-ID: Not-Available, Remote IKE-ID: Not-Available, VR-ID: 0, Role: Initiator"))?;
            }
            195..=215 => {
                let (id, text, more) = [
                    (278, "Anti-replay check failed.", "windowbase=99200 windowsize=64"),
                    (611, "Integrity check failed.", "spi=3735928559"),
                    (282, "Decryption failed.", "datalen=1390"),
                ][self.below(3) as usize];
                self.drop(id, text, more)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn messages(
        &mut self,
        luna: usize,
        facility: &str,
        severity: &str,
        tag: &str,
        text: &str,
    ) -> io::Result<()> {
        let stamp = stamp(&Zoned::now());
        let luna = &mut self.lunas[luna];
        luna.messages.line(&format!(
            "{stamp} {}  {facility} {severity}  {tag}: {text}",
            luna.name
        ))
    }

    fn lunalog(&mut self, luna: usize, severity: &str, tag: &str, text: &str) -> io::Result<()> {
        let stamp = stamp(&Zoned::now());
        let luna = &mut self.lunas[luna];
        luna.lunalog.line(&format!(
            "{stamp} {}  local5 {severity}  {tag}: {text}",
            luna.name
        ))
    }

    fn ntls(&mut self, luna: usize, severity: &str, text: &str) -> io::Result<()> {
        self.lunalog(luna, severity, "NTLS [8508]", text)
    }

    fn smart(&mut self, luna: usize, text: &str) -> io::Result<()> {
        self.messages(luna, "daemon", "info", "smartd[2345]", text)
    }

    fn secure(&mut self, luna: usize, text: &str) -> io::Result<()> {
        let stamp = stamp(&Zoned::now());
        let luna = &mut self.lunas[luna];
        luna.secure.line(&format!(
            "{stamp} {}  authpriv info  sshd[9876]: {text}",
            luna.name
        ))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one message, in its order"
    )]
    fn threshold(
        &mut self,
        luna: usize,
        kind: &str,
        sensor: &str,
        trigger: &str,
        reading: u64,
        comparator: char,
        limit: u64,
        unit: &str,
        state: &str,
    ) -> io::Result<()> {
        let text = format!(
            "{kind} sensor {sensor:<15}. {trigger} {state} (Reading {reading} {comparator} Threshold {limit} {unit})"
        );
        self.messages(luna, "local4", "notice", "ipmievd", &text)
    }

    fn vpn(&mut self, vpn: &str, up: bool) -> io::Result<()> {
        let stamp = junos_stamp(&Zoned::now());
        let (tag, state) = if up { ("UP", "up") } else { ("DOWN", "down") };
        let peer = 40 + vpn.len();
        self.junos.line(&format!("{stamp}  srx1 kmd[14162]: KMD_VPN_{tag}_ALARM_USER: VPN {vpn} from 203.0.113.{peer} is {state}. Local-ip: 192.0.2.1, gateway name: {vpn}, vpn name: {vpn}, tunnel-id: 131073, local tunnel-if: st0.0, remote tunnel-ip: 10.1.0.1, Local IKE-ID: 192.0.2.1, Remote IKE-ID: 203.0.113.{peer}, AAA username: Not-Applicable, VR id: 0, Traffic-selector: , Traffic-selector local ID: ipv4_subnet(any:0,[0..7]=0.0.0.0/0), Traffic-selector remote ID: ipv4_subnet(any:0,[0..7]=0.0.0.0/0), SA Type: Static"))
    }

    /// Networks reorder packets: now and then one is too late for the window, though nobody replays any.
    fn late_packet(&mut self) -> io::Result<()> {
        self.drop(
            278,
            "Anti-replay check failed.",
            "windowbase=99200 windowsize=64",
        )
    }

    fn drop(&mut self, id: u32, text: &str, more: &str) -> io::Result<()> {
        self.sequence += 1;
        let stamp = junos_stamp(&Zoned::now());
        let sequence = self.sequence;
        self.clavister.line(&format!(
            "{stamp} cos1 IPSEC: id={id} severity=Notice action=Drop msg=\"{text}\" seqno={sequence} {more} matchkey=7"
        ))
    }

    fn ontap(&mut self, event: &str, text: &str) -> io::Result<()> {
        let stamp = junos_stamp(&Zoned::now());
        self.ontap
            .line(&format!("<13>{stamp} [ontap1:{event}:notice]: {text}"))
    }
}

/// As the appliance's own files have it.
fn stamp(now: &Zoned) -> String {
    now.strftime("%Y %b %e %H:%M:%S").to_string()
}

/// As RFC 3164 has it.
fn junos_stamp(now: &Zoned) -> String {
    now.strftime("%b %e %H:%M:%S").to_string()
}
