//! Writes log lines for measurements to standard output: `mixes MIX LINES [SEED]`; the same seed gives the same lines.
//!
//! | mix | what |
//! |---|---|
//! | `hsm` | eight Luna appliances under load: whole connections of NTLS clients, and what else such an appliance says |
//! | `mixed` | fifty appliances of all products, headers as their own files, RFC 3164 and RFC 5424 have them |
//! | `sshd` | twenty hosts that people log in to and strangers try to |
//! | `unmatched` | no line matches a rule: half of them by unknown programs, half by known ones in unknown words |
//! | `catalogue` | the documented lines of all products, over and over |
//! | `made-N` | lines that go over all rules of N made packs in turn; `mixes packs N DIRECTORY` writes those packs |
//! | `appliances-N` | one sshd message under N hosts in random order, each host with one header |
//! | `fleet-N` | what gives each of N appliances its series: a few lines of every kind |
//!
//! Values vary (ports, readings, sessions); what becomes a label has the few values that it has on real devices.

#[path = "../common/made.rs"]
mod made;

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

/// The documented lines of all products.
const CATALOGUE: [&str; 4] = [
    include_str!("../../tests/fixtures/catalogue/luna.log"),
    include_str!("../../tests/fixtures/catalogue/kmd.log"),
    include_str!("../../tests/fixtures/catalogue/clavister.log"),
    include_str!("../../tests/fixtures/catalogue/ktls.log"),
];

/// Numbers that look random (splitmix64) and are the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn port(&mut self) -> u64 {
        1024 + self.below(64_000)
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).fold(String::new(), |mut text, _| {
            let _ = write!(text, "{:x}", self.below(16));
            text
        })
    }
}

const MONTHS: [(&str, u64); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

/// The date of the next line, in 2025; a log that is longer starts the year again.
struct Clock {
    milliseconds: u64,
}

impl Clock {
    fn tick(&mut self, milliseconds: u64) {
        self.milliseconds = (self.milliseconds + milliseconds) % (365 * 86_400_000);
    }

    /// Month (from 0), day, and the time of day.
    fn date(&self) -> (usize, u64, String) {
        let mut day = self.milliseconds / 86_400_000;
        let mut month = 0;
        while day >= MONTHS[month].1 {
            day -= MONTHS[month].1;
            month += 1;
        }
        let second = self.milliseconds / 1000;
        let (hours, minutes) = (second / 3600 % 24, second / 60 % 60);
        let time = format!("{hours:02}:{minutes:02}:{:02}", second % 60);
        (month, day + 1, time)
    }

    fn bsd(&self) -> String {
        let (month, day, time) = self.date();
        format!("{} {day:2} {time}", MONTHS[month].0)
    }

    fn rfc3339(&self) -> String {
        let (month, day, time) = self.date();
        let (month, fraction) = (month + 1, self.milliseconds % 1000);
        format!("2025-{month:02}-{day:02}T{time}.{fraction:03}+01:00")
    }
}

/// How a log has its headers.
#[derive(Clone, Copy)]
enum Header {
    /// `2025 Jan  2 12:05:01 host  local5 info  program[1]: `, as Luna appliances write files.
    Luna,
    /// `Jan  2 12:05:01 host program[1]: `
    Bsd,
    /// The same with a priority and a time of RFC 3339, as rsyslog forwards.
    Forwarded,
    /// `<30>1 2025-01-02T12:05:01.123+01:00 host program 1 - - `
    Rfc5424,
}

const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// What a program says.
struct Message {
    facility: &'static str,
    severity: &'static str,
    program: &'static str,
    pid: Option<u64>,
    text: String,
}

fn said(
    priority: (&'static str, &'static str),
    program: &'static str,
    pid: impl Into<Option<u64>>,
    text: impl Into<String>,
) -> Message {
    let ((facility, severity), pid, text) = (priority, pid.into(), text.into());
    Message {
        facility,
        severity,
        program,
        pid,
        text,
    }
}

fn place(words: &[&str], word: &str) -> usize {
    words
        .iter()
        .position(|known| *known == word)
        .expect("a word of syslog")
}

fn line(header: Header, clock: &Clock, host: &str, message: &Message) -> String {
    let Message {
        facility,
        severity,
        program,
        pid,
        text,
    } = message;
    let priority = place(&FACILITIES, facility) * 8 + place(&SEVERITIES, severity);
    let tag = match pid {
        // NTLS and lunash alone have a blank there.
        Some(pid) if matches!(*program, "NTLS" | "lunash") => format!("{program} [{pid}]"),
        Some(pid) => format!("{program}[{pid}]"),
        None => (*program).to_owned(),
    };
    match header {
        Header::Luna => {
            let bsd = clock.bsd();
            format!("2025 {bsd} {host}  {facility} {severity}  {tag}: {text}")
        }
        Header::Bsd => format!("{} {host} {tag}: {text}", clock.bsd()),
        Header::Forwarded => format!("<{priority}>{} {host} {tag}: {text}", clock.rfc3339()),
        Header::Rfc5424 => {
            let pid = pid.map_or("-".to_owned(), |pid| pid.to_string());
            format!(
                "<{priority}>1 {} {host} {program} {pid} - - {text}",
                clock.rfc3339()
            )
        }
    }
}

const INFO: (&str, &str) = ("local5", "info");
const AUTH: (&str, &str) = ("authpriv", "info");
const DAEMON: (&str, &str) = ("daemon", "info");
const BMC: (&str, &str) = ("local4", "notice");
const ADMINS: [&str; 6] = ["admin", "operator", "monitor", "audit", "deploy", "backup"];

/// The connections of NTLS clients to one appliance, each in what happens to it in order.
#[derive(Default)]
struct Ntls {
    clients: Vec<(u64, u64, u64)>,
}

impl Ntls {
    const CLIENTS: u64 = 60;

    fn message(&mut self, dice: &mut Dice) -> Message {
        let ntls = |priority, text: String| said(priority, "NTLS", 2718, text);
        if dice.below(200) == 0 {
            let peer = format!("10.20.1.{}/{}", dice.below(Self::CLIENTS), dice.port());
            return match dice.below(5) {
                0 => ntls(
                    INFO,
                    format!(
                        "info : 0xc0000711 : Fail to establish a secure channel with client : {peer} : RC_SSL_FAILED_HANDSHAKE"
                    ),
                ),
                1 => ntls(
                    INFO,
                    format!(
                        "info : 0xc0000002 : Client credentials cannot be verified. Connection terminated : {peer}"
                    ),
                ),
                2 => ntls(
                    INFO,
                    "info : 0xc0000002 : Failed reading command buffer. Reason: RC_SOCKET_ERROR"
                        .into(),
                ),
                3 => ntls(
                    ("local5", "err"),
                    format!(
                        "error : 0xc0000002 : Fail to get response buffer: {peer} : RC_GENERAL_ERROR"
                    ),
                ),
                _ => ntls(
                    INFO,
                    format!(
                        "info : 0 : Receive timer expired for client \"{}\" : {peer}",
                        peer.split('/').next().unwrap_or(&peer)
                    ),
                ),
            };
        }
        if self.clients.len() < 24 {
            self.clients
                .push((dice.below(Self::CLIENTS), dice.port(), 0));
        }
        let slot = dice.below(self.clients.len() as u64) as usize;
        let (client, port, step) = self.clients[slot];
        let address = format!("10.20.1.{client}");
        let peer = format!("{address}/{port}");
        self.clients[slot].2 += 1;
        let text = match step {
            0 => format!("info : 0 : Incoming connection request... : {peer}"),
            1 => format!("info : 0xc0000002 : Connection accepted from: {peer}"),
            2 => format!("info : 0xc0000002 : Handshake result from: {peer}, result: Success"),
            3 => format!("info : 0xc0000002 : Identify result from: {peer}, result: Success"),
            4 => format!(
                "info : 0xc0000002 : NTLS Client \"{address}\" connected and authenticated : {peer}"
            ),
            5 => format!("info : 0 : Client {address} requested termination : {peer}"),
            6 => format!("info : 0xc0000002 : Connection terminating:  {peer}"),
            7 => format!("info : 0 : NTLA client \"{address}\" has disconnected: {peer}"),
            _ => {
                self.clients.swap_remove(slot);
                format!(
                    "info :  0 : NTLA Client \"{address}\" Connection instance removed : {peer}"
                )
            }
        };
        ntls(INFO, text)
    }
}

fn lunash(dice: &mut Dice) -> Message {
    let command = dice.of(&[
        "hsm show",
        "partition list",
        "client list",
        "ntls show",
        "status disk",
        "log tail -logname hsm",
        "my file list",
        "sysconf config list",
        "network show",
        "audit log list",
    ]);
    let (account, from) = (dice.of(&ADMINS[..4]), dice.below(12));
    let text = match dice.below(8) {
        0 => format!("info : 0 : Lush user login : {account} : Console"),
        1 => format!(
            "info : 0 : Lush user logout : {account} : 10.20.0.{from}/{}",
            dice.port()
        ),
        _ => format!(
            "info : 0 : Command: {command} : {account} : 10.20.0.{from}/{}",
            dice.port()
        ),
    };
    said(INFO, "lunash", 3000 + dice.below(500), text)
}

fn ipmievd(dice: &mut Dice) -> Message {
    let (fan, side) = (1 + dice.below(3), dice.of(&["A", "B"]));
    let word = dice.of(&["Asserted ", "Deasserted ", ""]);
    let text = match dice.below(4) {
        0 => format!(
            "Fan sensor Fan{fan}{side}          . Lower Critical going low  {word}(Reading {} < Threshold 2000 RPM)",
            dice.below(4000)
        ),
        1 => format!(
            "Temperature sensor CPU              . Upper Non-critical going high  {word}(Reading {} > Threshold 70 degrees C)",
            60 + dice.below(25)
        ),
        2 => format!(
            "Voltage sensor PSU{}_+12V_value . Upper Non-recoverable going high {word}(Reading 12.{} > Threshold 13.200 Volts)",
            1 + dice.below(2),
            dice.below(999)
        ),
        _ => format!(
            "Power Supply sensor PSU{}_Status . - {} detected {}",
            1 + dice.below(2),
            dice.of(&["Failure", "Presence"]),
            dice.of(&["Asserted", "Deasserted"])
        ),
    };
    said(BMC, "ipmievd", None, text)
}

const ATTRIBUTES: [(u8, &str, &str); 8] = [
    (1, "Raw_Read_Error_Rate", "Prefailure"),
    (5, "Reallocated_Sector_Ct", "Prefailure"),
    (9, "Power_On_Hours", "Usage"),
    (177, "Wear_Leveling_Count", "Usage"),
    (190, "Airflow_Temperature_Cel", "Usage"),
    (194, "Temperature_Celsius", "Usage"),
    (195, "Hardware_ECC_Recovered", "Usage"),
    (197, "Current_Pending_Sector", "Usage"),
];

fn smartd(dice: &mut Dice) -> Message {
    let disk = dice.of(&[
        "/dev/sda [SAT]",
        "/dev/sdb [SAT]",
        "/dev/bus/0 [megaraid_disk_02] [SAT]",
    ]);
    let (id, name, kind) = dice.of(&ATTRIBUTES);
    let value = 20 + dice.below(100);
    let text = match dice.below(10) {
        0 => format!("Device: {disk}, previous self-test completed without error"),
        1 => format!(
            "Device: {disk}, {} Currently unreadable (pending) sectors",
            dice.below(40)
        ),
        2 => format!(
            "Device: {disk}, starting scheduled {} Self-Test.",
            dice.of(&["Short", "Long"])
        ),
        3 => format!(
            "Device: {disk}, Temperature changed {:+} Celsius to {value} Celsius (Min/Max 19/{value})",
            dice.of(&[-3, -2, 2, 3, 5])
        ),
        _ => format!(
            "Device: {disk}, SMART {kind} Attribute: {id} {name} changed from {value} to {}",
            value + 1
        ),
    };
    said(DAEMON, "smartd", 911, text)
}

fn sysstatd(dice: &mut Dice) -> Message {
    let state = dice.of(&["OOS", "OFL", "InSrvTrb"]);
    let first = dice.of(&[15, 20, 25, 30]);
    let more = dice.of(&["", ",55", ",60,100"]);
    let text = match dice.below(3) {
        0 => "Luna System State Server - ISO".to_owned(),
        _ => format!("Luna System State Server - {state} Errors: {first}{more}!"),
    };
    said(("user", "info"), "sysstatd", None, text)
}

fn admin_api(dice: &mut Dice) -> Message {
    let address = format!("10.20.0.{}", dice.below(12));
    let text = match dice.below(6) {
        0 => format!("info : 0 : Client {address}:{} connected", dice.port()),
        1 => format!("info : 0 : Parsed client {address}'s request"),
        2 => format!(
            "info : 0 : {address} successfully logged in as admin with session id of {}",
            session(dice)
        ),
        3 => format!("info : 0 : Session {} logged out", session(dice)),
        _ => format!(
            "info : 0 : Client {address}-SESSION_ID={} requested {}:/api/lunasa/hsms/{}",
            session(dice),
            dice.of(&["GET", "POST", "PUT"]),
            dice.below(999_999)
        ),
    };
    said(INFO, "AdminAPI", 1618, text)
}

fn session(dice: &mut Dice) -> String {
    let digits = dice.hex(32);
    let [a, b, c, d] = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
    ];
    format!("{a}-{b}-{c}-{d}-{}", &digits[20..])
}

/// Eight who may and thousands who try.
fn sshd(dice: &mut Dice) -> Message {
    let pid = 1000 + dice.below(30_000);
    let port = dice.port();
    let stranger = format!(
        "{}.{}.{}.{}",
        dice.of(&[45, 103, 141, 185, 218]),
        dice.below(256),
        dice.below(256),
        1 + dice.below(254)
    );
    let tried = dice.of(&[
        "test",
        "oracle",
        "ubuntu",
        "postgres",
        "git",
        "ftpuser",
        "user1",
        "guest",
        "pi",
        "hadoop",
        "minecraft",
        "es",
    ]);
    let (account, own) = (dice.of(&ADMINS), format!("10.20.0.{}", dice.below(12)));
    let (severity, text) = match dice.below(100) {
        0..12 => (
            "info",
            format!("Invalid user {tried} from {stranger} port {port}"),
        ),
        12..24 => (
            "info",
            format!("Failed password for invalid user {tried} from {stranger} port {port} ssh2"),
        ),
        24..36 => (
            "info",
            format!("Failed password for root from {stranger} port {port} ssh2"),
        ),
        36..46 => (
            "notice",
            format!(
                "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={stranger}  user=root"
            ),
        ),
        46..52 => (
            "notice",
            "pam_unix(sshd:auth): check pass; user unknown".to_owned(),
        ),
        52..62 => (
            "info",
            format!("Received disconnect from {stranger} port {port}:11: Bye Bye [preauth]"),
        ),
        62..69 => (
            "info",
            format!("Disconnected from invalid user {tried} {stranger} port {port} [preauth]"),
        ),
        69..75 => (
            "info",
            format!(
                "Connection closed by authenticating user root {stranger} port {port} [preauth]"
            ),
        ),
        75..78 => (
            "info",
            format!("Connection closed by {stranger} port {port} [preauth]"),
        ),
        78..80 => (
            "err",
            "error: kex_exchange_identification: Connection closed by remote host".to_owned(),
        ),
        80..81 => (
            "err",
            format!(
                "error: maximum authentication attempts exceeded for root from {stranger} port {port} ssh2 [preauth]"
            ),
        ),
        81..82 => (
            "info",
            format!("Did not receive identification string from {stranger}"),
        ),
        82..86 => (
            "info",
            format!(
                "Accepted publickey for {account} from {own} port {port} ssh2: ED25519 SHA256:{}",
                dice.hex(43)
            ),
        ),
        86..88 => (
            "info",
            format!("Accepted password for {account} from {own} port {port} ssh2"),
        ),
        88..92 => (
            "info",
            format!("pam_unix(sshd:session): session opened for user {account} by (uid=0)"),
        ),
        92..96 => (
            "info",
            format!("pam_unix(sshd:session): session closed for user {account}"),
        ),
        96..98 => (
            "info",
            format!("Received disconnect from {own} port {port}:11: disconnected by user"),
        ),
        _ => (
            "info",
            format!("Disconnected from user {account} {own} port {port}"),
        ),
    };
    said(("authpriv", severity), "sshd", pid, text)
}

/// Programs that no pack knows.
fn unknown_program(dice: &mut Dice) -> Message {
    let (number, port) = (dice.below(100_000), dice.port());
    match dice.below(7) {
        0 => said(
            DAEMON,
            "dockerd",
            505,
            format!(
                "time=\"2025-01-02T03:04:05Z\" level=info msg=\"ignoring event\" container={}",
                dice.hex(64)
            ),
        ),
        1 => said(
            DAEMON,
            "systemd",
            1,
            format!("Started Session {number} of User {}.", dice.of(&ADMINS)),
        ),
        2 => said(
            DAEMON,
            "dhclient",
            870,
            format!(
                "DHCPREQUEST of 10.20.0.{} on eth0 to 10.20.0.1 port 67 (xid=0x{})",
                dice.below(250),
                dice.hex(8)
            ),
        ),
        3 => said(
            ("mail", "info"),
            "postfix-smtpd",
            number,
            format!(
                "disconnect from mail-{}.example.net[192.0.2.{}] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
                dice.below(9),
                dice.below(250)
            ),
        ),
        4 => said(
            ("daemon", "warning"),
            "named",
            402,
            format!(
                "client @0x{} 10.20.7.{}#{port} (www.example.org): query (cache) 'www.example.org/A/IN' denied",
                dice.hex(12),
                dice.below(250)
            ),
        ),
        5 => said(
            DAEMON,
            "chronyd",
            633,
            format!(
                "Selected source 192.0.2.{} (ntp{}.example.net)",
                dice.below(4),
                dice.below(4)
            ),
        ),
        _ => said(
            ("local7", "info"),
            "nginx",
            77,
            format!(
                "10.20.3.{} - - \"GET /status?id={number} HTTP/1.1\" 200 {} \"-\" \"curl/8.5.0\"",
                dice.below(250),
                dice.below(9000)
            ),
        ),
    }
}

/// Programs that packs know, in words that no rule knows; some begin like those that one does.
fn unknown_words(dice: &mut Dice) -> Message {
    let (number, port) = (dice.below(100_000), dice.port());
    let address = format!("10.20.1.{}", dice.below(60));
    match dice.below(10) {
        0 => said(
            INFO,
            "NTLS",
            2718,
            format!(
                "info : 0 : Client {address} is slow to answer ({number} ms) : {address}/{port}"
            ),
        ),
        1 => said(
            INFO,
            "NTLS",
            2718,
            format!("info : 0 : Connection pool holds {number} buffers"),
        ),
        2 => said(
            AUTH,
            "sshd",
            number,
            format!("debug1: channel {number}: new session for {address} (inactive timeout: 0)"),
        ),
        3 => said(
            AUTH,
            "sshd",
            number,
            format!("Connection multiplexed for {address} port {port} over channel 3"),
        ),
        4 => said(
            DAEMON,
            "smartd",
            911,
            format!("Device: /dev/sda [SAT], cache flushed in {number} ms"),
        ),
        5 => said(
            BMC,
            "ipmievd",
            None,
            format!("Watchdog armed for {number} s by timer use SMS/OS"),
        ),
        6 => said(
            DAEMON,
            "kmd",
            1234,
            format!("Exchange {number} with {address} was traced in 3 rounds"),
        ),
        7 => said(
            INFO,
            "AdminAPI",
            1618,
            format!(
                "info : 0 : Worker {number} took task from queue {}",
                dice.hex(8)
            ),
        ),
        8 => said(
            INFO,
            "certmonitord",
            2100,
            format!("info : 0 : Poll {number} of the trust store took {port} us"),
        ),
        _ => said(
            INFO,
            "lunash",
            3000,
            format!("info : 0 : Terminal {number} was resized by {address}/{port}"),
        ),
    }
}

/// One Luna appliance.
fn luna(dice: &mut Dice, ntls: &mut Ntls, share_of_ntls: u64) -> Message {
    if dice.below(100) < share_of_ntls {
        return ntls.message(dice);
    }
    match dice.below(100) {
        0..20 => lunash(dice),
        20..45 => sshd(dice),
        45..53 => ipmievd(dice),
        53..60 => smartd(dice),
        60..66 => sysstatd(dice),
        66..80 => admin_api(dice),
        80..83 => said(
            ("local6", "info"),
            "oamp",
            2100,
            dice.of(&[
                "INFO: Warm boot",
                "INFO: HSM is powered-up",
                "INFO: RTC_Init OK",
            ]),
        ),
        83..84 => said(
            ("kern", "info"),
            "kernel",
            None,
            dice.of(&[
                "k7pf0: ALM0015: PCIe Link Failure",
                "k7pf0: [HSM] ALM0013: High Temperature - NdC",
            ]),
        ),
        _ => unknown_program(dice),
    }
}

/// A whole line of a Junos gateway, whose structured data depends on the message.
fn junos(dice: &mut Dice, clock: &Clock, host: &str, header: Header) -> String {
    let number = dice.below(20);
    let (vpn, remote) = (format!("branch-{number}"), format!("203.0.113.{number}"));
    let (local, network) = ("192.0.2.1:500", format!("10.{number}.0.0/16"));
    let peer = format!("{remote}:500");
    let (tag, text) = match dice.below(24) {
        0..5 => (
            "KMD_VPN_UP_ALARM_USER",
            format!(
                "VPN {vpn} from {remote} is up. Local-ip: 192.0.2.1, gateway name: gw-{number}, vpn name: {vpn}, tunnel-id: {}, local tunnel-if: st0.{number}, remote tunnel-ip: 10.255.0.{number}, Local IKE-ID: 192.0.2.1, Remote IKE-ID: {remote}, AAA username: Not-Applicable, VR id: 0, Traffic-selector: , Traffic-selector local ID: ipv4(0.0.0.0-255.255.255.255), SA Type: Static",
                131_073 + number
            ),
        ),
        5..9 => (
            "KMD_VPN_DOWN_ALARM_USER",
            format!("VPN {vpn} from {remote} is down."),
        ),
        9 => (
            "KMD_PM_SA_ESTABLISHED",
            format!(
                "Local gateway: 192.0.2.1, Remote gateway: {remote}, Local ID: ipv4_subnet(any:0,[0..7]={network}), Remote ID: ipv4_subnet(any:0,[0..7]={network}), Direction: inbound, SPI: 0x{}, AUX-SPI: 0, Mode: Tunnel, Type: dynamic, Traffic-selector:",
                dice.hex(8)
            ),
        ),
        10 => (
            "KMD_DPD_INVALID_SEQUENCE_NUMBER",
            format!(
                "Unable to send DPD reply: remote peer {peer} provided invalid zero sequence number to local peer {local}"
            ),
        ),
        11 => (
            "KMD_PM_PHASE1_TXFORM_INCOMPLETE",
            "Phase 1 transform was missing mandatory attributes".to_owned(),
        ),
        12 => (
            "KMD_PM_PHASE2_IDENTITY_MISMATCH",
            format!(
                "Phase 2 identities did not match: local initiator {network}, responder {network}; remote initiator 10.2.0.0/16, responder 10.3.0.0/16"
            ),
        ),
        13 => (
            "KMD_PM_P2_POLICY_LOOKUP_FAILURE",
            format!(
                "Policy lookup for Phase-2 [responder] failed for p1_local=192.0.2.1 p1_remote={remote} p2_local=10.1.0.0/16 p2_remote={network}"
            ),
        ),
        14 => (
            "KMD_PM_NO_LIFE_TYPE",
            format!(
                "Quick mode notification from {peer} contains lifetime duration without corresponding SA lifetime payload."
            ),
        ),
        15 => (
            "KMD_PM_SA_PEER_NOT_FOUND",
            format!("Unable to find active peer for SA sa-{}", dice.below(500)),
        ),
        16 => (
            "KMD_DPD_UNEXPECTED_IKE_STATUS",
            format!(
                "DPD reply to remote peer {peer} failed with unexpected status 8197 for IKE server instance ss-west"
            ),
        ),
        // Other programs of the same gateway.
        17 | 18 => {
            return line(
                header,
                clock,
                host,
                &said(
                    ("daemon", "warning"),
                    "rpd",
                    1700,
                    format!(
                        "RPD_OSPF_NBRDOWN: OSPF neighbor 10.255.0.{number} (realm ospf-v2 st0.{number} area 0.0.0.0) state changed from Full to Down"
                    ),
                ),
            );
        }
        _ => {
            return line(
                header,
                clock,
                host,
                &said(
                    ("user", "info"),
                    "RT_FLOW",
                    None,
                    format!(
                        "RT_FLOW_SESSION_CLOSE: session closed TCP FIN: 10.{number}.3.{}/{}->192.0.2.10/443 junos-https {}(120)",
                        dice.below(250),
                        dice.port(),
                        dice.below(900)
                    ),
                ),
            );
        }
    };
    if matches!(header, Header::Rfc5424) {
        let data = if tag.starts_with("KMD_VPN") {
            format!("[junos@2636.1.1.1.2.86 vpn-name=\"{vpn}\" remote-address=\"{remote}\"]")
        } else {
            "-".to_owned()
        };
        return format!(
            "<29>1 {} {host} kmd 14162 {tag} {data} {text}",
            clock.rfc3339()
        );
    }
    line(
        header,
        clock,
        host,
        &said(("daemon", "notice"), "kmd", 14162, format!("{tag}: {text}")),
    )
}

fn clavister(dice: &mut Dice, clock: &Clock, host: &str, header: Header) -> String {
    let (sequence, key) = (dice.below(4_000_000_000), 1 + dice.below(40));
    let (id, text, more) = dice.of(&[
        (
            278,
            "Anti-replay check failed.",
            "windowbase=99200 windowsize=64 ",
        ),
        (
            606,
            "Bad ciphertext length.",
            "iplen=1500 paylen=1400 datalen=1390 blklen=16 ",
        ),
        (611, "Integrity check failed.", ""),
        (282, "Decryption failed.", "datalen=1390 "),
        (264, "Packet too small.", "iplen=1500 paylen=1400 "),
        (604, "Bad padding.", "datalen=1390 padlen=9 "),
        (135, "Payload too small.", "nexthdr=250 "),
    ]);
    let text = match dice.below(10) {
        0 => format!(
            "id=1683 severity=Error action=None msg=\"Failed to add dynamic route.\" table=main network=10.{key}.0.0/16 iface=ipsec-{}",
            dice.below(8)
        ),
        // A firewall says far more about connections.
        1..4 => {
            return line(
                header,
                clock,
                host,
                &said(
                    ("local0", "info"),
                    "CONN",
                    None,
                    format!(
                        "id=600004 event=conn_open connipproto=TCP connrecvif=lan conndestif=wan connsrcip=10.9.0.{} connsrcport={} conndestip=192.0.2.80 conndestport=443",
                        dice.below(250),
                        dice.port()
                    ),
                ),
            );
        }
        _ => format!(
            "id={id} severity=Notice action=Drop msg=\"{text}\" seqno={sequence} {more}matchkey={key}"
        ),
    };
    line(
        header,
        clock,
        host,
        &said(("local0", "notice"), "IPSEC", None, text),
    )
}

fn ontap(dice: &mut Dice, clock: &Clock, host: &str, header: Header) -> String {
    let (remote, port) = (dice.below(30), dice.port());
    let (event, text) = match dice.below(10) {
        0..4 => ("ktls.badAuth", format!("ONTAP received a TLS message with incorrect authentication at local address 10.0.0.5 local port 11104 from remote address 10.0.0.{remote} remote port {port} via IPspace 0.")),
        4 | 5 => ("ktls.failed", format!("The TLS connections have failed several times with remote host '10.0.0.{remote}' in IPspace 'Default', for which the latest reason given is: certificate verify failed.")),
        6 => ("ktls.cnxnHandshakeLimit", "ONTAP reached the maximum limit of 256 concurrent TLS connection handshakes. If this limit is reached, subsequent TLS connections will fail.".to_owned()),
        7 => ("wafl.vol.autoSize.done", format!("Volume autosize: Automatic grow of volume 'vol_{remote}@vserver:svm1' by {port} MB is complete.")),
        _ => ("kern.uptime.filer", format!("{port}:00 {remote} NFS ops, 0 CIFS ops, 0 HTTP ops, 0 FCP ops, 0 iSCSI ops")),
    };
    match header {
        Header::Rfc5424 => format!("<5>1 {} {host} nblade - {event} - {text}", clock.rfc3339()),
        _ => format!("<13>{} [{host}:{event}:notice]: {text}", clock.bsd()),
    }
}

fn hsm(dice: &mut Dice, lines: u64, emit: &mut impl FnMut(&str)) {
    let mut clock = Clock {
        milliseconds: 26_433_000_000,
    };
    let mut ntls: Vec<Ntls> = (0..8).map(|_| Ntls::default()).collect();
    for _ in 0..lines {
        clock.tick(dice.below(120));
        let number = dice.below(8) as usize;
        let message = luna(dice, &mut ntls[number], 60);
        emit(&line(
            Header::Luna,
            &clock,
            &format!("hsm-{number}"),
            &message,
        ));
    }
}

fn mixed(dice: &mut Dice, lines: u64, emit: &mut impl FnMut(&str)) {
    let mut clock = Clock {
        milliseconds: 9_433_000_000,
    };
    let mut ntls: Vec<Ntls> = (0..50).map(|_| Ntls::default()).collect();
    for _ in 0..lines {
        clock.tick(dice.below(80));
        let appliance = dice.below(50) as usize;
        // Of each product some write one header and some another.
        let header = [Header::Forwarded, Header::Bsd, Header::Rfc5424][appliance % 3];
        let text = match appliance {
            0..10 => {
                let header = if appliance < 5 { Header::Luna } else { header };
                let message = luna(dice, &mut ntls[appliance], 30);
                line(header, &clock, &format!("luna-{appliance}"), &message)
            }
            10..26 => junos(dice, &clock, &format!("srx-{appliance}"), header),
            26..35 => clavister(dice, &clock, &format!("cos-{appliance}"), header),
            35..39 => ontap(dice, &clock, &format!("node-{appliance}"), header),
            _ => {
                let message = match dice.below(10) {
                    0..3 => sshd(dice),
                    3 => smartd(dice),
                    4 => ipmievd(dice),
                    5 => said(
                        ("kern", "info"),
                        "kernel",
                        None,
                        format!(
                            "[{}.123456] usb 1-{}: new high-speed USB device number 4 using xhci_hcd",
                            dice.below(90_000),
                            dice.below(8)
                        ),
                    ),
                    _ => unknown_program(dice),
                };
                line(header, &clock, &format!("web-{appliance}"), &message)
            }
        };
        emit(&text);
    }
}

fn hosts(
    dice: &mut Dice,
    lines: u64,
    messages: &[fn(&mut Dice) -> Message],
    emit: &mut impl FnMut(&str),
) {
    let mut clock = Clock {
        milliseconds: 4_433_000_000,
    };
    for number in 0..lines as usize {
        clock.tick(dice.below(300));
        let host = dice.below(20);
        let header = [Header::Bsd, Header::Forwarded][host as usize % 2];
        let message = messages[number % messages.len()](dice);
        emit(&line(header, &clock, &format!("bastion-{host}"), &message));
    }
}

/// The same message under many hosts in random order: what the number of appliances adds to the cost of a line.
fn appliances(dice: &mut Dice, appliances: u64, lines: u64, emit: &mut impl FnMut(&str)) {
    let mut clock = Clock {
        milliseconds: 4_433_000_000,
    };
    let pids: Vec<u64> = (0..appliances).map(|_| 300 + dice.below(30_000)).collect();
    for _ in 0..lines {
        clock.tick(1);
        let appliance = dice.below(appliances);
        let pid = pids[appliance as usize];
        let (network, host) = (dice.below(100), dice.below(250));
        let (time, port) = (clock.bsd(), dice.port());
        emit(&format!(
            "{time} appliance-{appliance:05} sshd[{pid}]: Connection closed by 198.51.{network}.{host} port {port} [preauth]"
        ));
    }
}

/// Of each appliance one line that says that it is a Luna, whose counters then exist at 0, and a few sensors and disks.
fn fleet(dice: &mut Dice, appliances: u64, emit: &mut impl FnMut(&str)) {
    let mut clock = Clock {
        milliseconds: 1_433_000_000,
    };
    for round in 0..40 {
        for appliance in 0..appliances {
            clock.tick(1);
            let message = match round % 4 {
                0 => Ntls::default().message(dice),
                1 => ipmievd(dice),
                2 => smartd(dice),
                _ => sshd(dice),
            };
            emit(&line(
                Header::Luna,
                &clock,
                &format!("appliance-{appliance}"),
                &message,
            ));
        }
    }
}

fn catalogue(lines: u64, emit: &mut impl FnMut(&str)) {
    let documented = CATALOGUE.iter().flat_map(|text| text.lines());
    for line in documented.cycle().take(lines as usize) {
        emit(line);
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| arguments.get(place).and_then(|text| text.parse().ok());
    let usage =
        || io::Error::other("usage: mixes MIX LINES [SEED], or mixes packs NUMBER DIRECTORY");
    let (Some(mix), Some(lines)) = (arguments.first(), number(1)) else {
        return Err(usage());
    };
    if mix == "packs" {
        let directory = arguments.get(2).ok_or_else(usage)?;
        for pack in 0..lines as usize {
            std::fs::write(format!("{directory}/made{pack}.yaml"), made::pack(pack))?;
        }
        return Ok(());
    }
    let mut dice = Dice(number(2).unwrap_or(1));
    let mut out = BufWriter::new(io::stdout().lock());
    let mut done = Ok(());
    let mut emit = |text: &str| {
        if done.is_ok() {
            done = out
                .write_all(text.as_bytes())
                .and_then(|()| out.write_all(b"\n"));
        }
    };
    match mix
        .rsplit_once('-')
        .map(|(name, of)| (name, of.parse::<u64>()))
    {
        Some(("made", Ok(packs))) => {
            for line in 0..lines as usize {
                emit(&made::line(packs as usize, line));
            }
        }
        Some(("appliances", Ok(number))) => appliances(&mut dice, number, lines, &mut emit),
        Some(("fleet", Ok(appliances))) => fleet(&mut dice, appliances, &mut emit),
        _ => match mix.as_str() {
            "hsm" => hsm(&mut dice, lines, &mut emit),
            "mixed" => mixed(&mut dice, lines, &mut emit),
            "sshd" => hosts(&mut dice, lines, &[sshd], &mut emit),
            "unmatched" => hosts(
                &mut dice,
                lines,
                &[unknown_program, unknown_words],
                &mut emit,
            ),
            "catalogue" => catalogue(lines, &mut emit),
            _ => return Err(usage()),
        },
    }
    done?;
    out.flush()
}
