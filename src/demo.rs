//! A small fleet that logs as real devices do, so that one can look at the exporter without owning an HSM.
//!
//! Two Luna HSMs, a Juniper gateway, a Clavister firewall and an ONTAP node write to files in a temporary directory, which
//! the exporter follows as it follows any file, or send to it over the network. Traffic is healthy, and in a cycle of four
//! minutes a fan stops and recovers, a disk warms up, handshakes fail, a tunnel drops and returns, and packets are dropped.

mod output;

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Zoned;
use tempfile::TempDir;

use crate::config::{ApplianceFrom, ListenAddress, ListenSocket, Source, Syslog, Transport};
use output::{Device, Network};

/// How often the devices have something to say.
const TICK: Duration = Duration::from_millis(250);
/// Length of the cycle of mishaps, in seconds.
const CYCLE_SECONDS: u64 = 240;
/// How often it is tried to reach the exporter.
const CONNECT_EVERY: Duration = Duration::from_millis(100);
/// The devices. Over the network, the first has the address 127.0.0.2, the second the next, and so on.
const NAMES: [&str; 5] = ["hsm1", "hsm2", "srx1", "cos1", "ontap1"];

/// Devices that write logs until they are dropped.
pub struct Demo {
    directory: TempDir,
    source: Source,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Demo {
    /// Makes the directory and starts to write to files in it, or to send over the network as soon as somebody listens.
    ///
    /// # Errors
    /// The temporary directory cannot be written.
    pub fn start(over: Option<Transport>) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("appliance_log_exporter-demo-")
            .tempdir()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("demo".into());
        let stopped = stop.clone();
        let (source, writer) = match over {
            None => {
                let mut fleet = Fleet::with_files(directory.path())?;
                fleet.boot()?;
                let source = follow(directory.path());
                (source, thread.spawn(move || fleet.run(&stopped))?)
            }
            Some(transport) => {
                let (network, tls) = Network::new(transport, directory.path())?;
                let source = listen(&network, tls);
                (source, thread.spawn(move || send(&network, &stopped))?)
            }
        };
        Ok(Self {
            directory,
            source,
            stop,
            writer: Some(writer),
        })
    }

    /// Where the logs are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The settings that follow them, or listen for them.
    pub fn source(&self) -> &Source {
        &self.source
    }
}

fn follow(directory: &Path) -> Source {
    let pattern = directory.join("{appliance}/*.log");
    Source {
        name: "demo".to_owned(),
        appliance: ApplianceFrom::Path,
        ..Source::of_flag(vec![pattern.display().to_string()])
    }
}

fn listen(network: &Network, tls: Option<crate::config::Tls>) -> Source {
    let named = |(name, address): (&str, Ipv4Addr)| (address.into(), Some(name.to_owned()));
    let syslog = Syslog {
        listen: vec![ListenAddress {
            transport: network.transport,
            socket: ListenSocket::Bind {
                host: Ipv4Addr::LOCALHOST.to_string(),
                port: network.port,
            },
        }],
        tls,
        addresses: Some(addresses().map(named).collect()),
        ..Syslog::default()
    };
    Source {
        name: "demo".to_owned(),
        ..Source::of_syslog_flags(syslog)
    }
}

/// The devices and the addresses that they send from.
fn addresses() -> impl Iterator<Item = (&'static str, Ipv4Addr)> {
    let address = |last| Ipv4Addr::new(127, 0, 0, last);
    NAMES.into_iter().zip((2..).map(address))
}

/// Sends over the network, once the exporter listens. A connection that ends is opened anew.
fn send(network: &Network, stopped: &AtomicBool) {
    while !stopped.load(Ordering::SeqCst) {
        let devices = addresses().map(|(name, from)| network.connect(name, from));
        let fleet = devices.collect::<io::Result<Vec<_>>>().and_then(Fleet::new);
        match fleet.and_then(|mut fleet| fleet.boot().map(|()| fleet)) {
            Ok(mut fleet) => fleet.run(stopped),
            Err(_) => std::thread::park_timeout(CONNECT_EVERY),
        }
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

struct Fleet {
    lunas: [Device; 2],
    junos: Device,
    clavister: Device,
    ontap: Device,
    /// A linear congruential generator: the demo need not be random, only lively.
    random: u64,
    /// The second of the cycle that was last acted upon.
    last: Option<u64>,
    sequence: u64,
}

impl Fleet {
    fn with_files(directory: &Path) -> io::Result<Self> {
        let devices = NAMES.map(|name| Device::with_files(directory, name));
        Self::new(devices.into_iter().collect::<io::Result<_>>()?)
    }

    /// As many as there are [`NAMES`].
    fn new(devices: Vec<Device>) -> io::Result<Self> {
        let devices = <[Device; NAMES.len()]>::try_from(devices);
        let [hsm1, hsm2, junos, clavister, ontap] =
            devices.map_err(|_| io::Error::other("devices are missing"))?;
        Ok(Self {
            lunas: [hsm1, hsm2],
            junos,
            clavister,
            ontap,
            random: 0x9E37_79B9_7F4A_7C15,
            last: None,
            sequence: 99_000,
        })
    }

    /// Writes until it is stopped or cannot: a disk that is full ends the demo's lines, not the exporter.
    fn run(&mut self, stopped: &AtomicBool) {
        let started = Instant::now();
        let mut tick = 0u32;
        while !stopped.load(Ordering::SeqCst) {
            if self.tick(started.elapsed().as_secs()).is_err() {
                break;
            }
            tick += 1;
            let next = started + TICK * tick;
            std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
        }
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
                let up = self.below(60);
                let text = format!(
                    "uptime: 04:02:01 up 112 days,  6:{up:02}, 1 user, load average: 0.38, 0.14, 0.04"
                );
                self.luna(luna, "messages", "syslog", "info", "logger", &text)?;
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
                self.junos("IKE negotiation failed with error: Timed out. IKE Version: 1, VPN: branch-17 Gateway: branch-17, Local: 192.0.2.1/500, Remote: 203.0.113.9/500, Local IKE-ID: Not-Available, Remote IKE-ID: Not-Available, VR-ID: 0, Role: Initiator")?;
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

    /// A line of a Luna HSM: in its files, facility and severity are words; on the network they are the priority.
    fn luna(
        &mut self,
        luna: usize,
        log: &'static str,
        facility: &str,
        severity: &str,
        tag: &str,
        text: &str,
    ) -> io::Result<()> {
        let luna = &mut self.lunas[luna];
        let (now, name) = (Zoned::now(), luna.name);
        let line = match luna.is_remote() {
            true => format!(
                "<{}>{} {name} {tag}: {text}",
                priority(facility, severity),
                rfc3164_stamp(&now)
            ),
            false => {
                let stamp = now.strftime("%Y %b %e %H:%M:%S");
                format!("{stamp} {name}  {facility} {severity}  {tag}: {text}")
            }
        };
        luna.line(log, &line)
    }

    fn messages(
        &mut self,
        luna: usize,
        facility: &str,
        severity: &str,
        tag: &str,
        text: &str,
    ) -> io::Result<()> {
        self.luna(luna, "messages", facility, severity, tag, text)
    }

    fn lunalog(&mut self, luna: usize, severity: &str, tag: &str, text: &str) -> io::Result<()> {
        self.luna(luna, "lunalog", "local5", severity, tag, text)
    }

    fn ntls(&mut self, luna: usize, severity: &str, text: &str) -> io::Result<()> {
        self.lunalog(luna, severity, "NTLS [8508]", text)
    }

    fn smart(&mut self, luna: usize, text: &str) -> io::Result<()> {
        self.messages(luna, "daemon", "info", "smartd[2345]", text)
    }

    fn secure(&mut self, luna: usize, text: &str) -> io::Result<()> {
        self.luna(luna, "secure", "authpriv", "info", "sshd[9876]", text)
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
        let (tag, state) = if up { ("UP", "up") } else { ("DOWN", "down") };
        let peer = 40 + vpn.len();
        self.junos(&format!("KMD_VPN_{tag}_ALARM_USER: VPN {vpn} from 203.0.113.{peer} is {state}. Local-ip: 192.0.2.1, gateway name: {vpn}, vpn name: {vpn}, tunnel-id: 131073, local tunnel-if: st0.0, remote tunnel-ip: 10.1.0.1, Local IKE-ID: 192.0.2.1, Remote IKE-ID: 203.0.113.{peer}, AAA username: Not-Applicable, VR id: 0, Traffic-selector: , Traffic-selector local ID: ipv4_subnet(any:0,[0..7]=0.0.0.0/0), Traffic-selector remote ID: ipv4_subnet(any:0,[0..7]=0.0.0.0/0), SA Type: Static"))
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
        let (stamp, sequence) = (rfc3164_stamp(&Zoned::now()), self.sequence);
        let line = format!(
            "{stamp} cos1 IPSEC: id={id} severity=Notice action=Drop msg=\"{text}\" seqno={sequence} {more} matchkey=7"
        );
        rfc3164(&mut self.clavister, &line)
    }

    fn junos(&mut self, text: &str) -> io::Result<()> {
        let stamp = rfc3164_stamp(&Zoned::now());
        rfc3164(
            &mut self.junos,
            &format!("{stamp}  srx1 kmd[14162]: {text}"),
        )
    }

    fn ontap(&mut self, event: &str, text: &str) -> io::Result<()> {
        let stamp = rfc3164_stamp(&Zoned::now());
        let line = format!("<13>{stamp} [ontap1:{event}:notice]: {text}");
        self.ontap.line("messages", &line)
    }
}

/// A line that a syslog daemon would write without its priority.
fn rfc3164(device: &mut Device, line: &str) -> io::Result<()> {
    match device.is_remote() {
        true => device.line(
            "messages",
            &format!("<{}>{line}", priority("daemon", "notice")),
        ),
        false => device.line("messages", line),
    }
}

/// The numbers of RFC 5424, section 6.2.1, for the words that the demo uses.
fn priority(facility: &str, severity: &str) -> u8 {
    let facility = match facility {
        "daemon" => 3,
        "syslog" => 5,
        "authpriv" => 10,
        "local4" => 20,
        "local5" => 21,
        _ => 1,
    };
    let severity = match severity {
        "notice" => 5,
        _ => 6,
    };
    facility * 8 + severity
}

fn rfc3164_stamp(now: &Zoned) -> String {
    now.strftime("%b %e %H:%M:%S").to_string()
}
