// Plays a small fleet for the pictures: writes the log files that rsyslog would, quicker than life.
//
//   node fleet.mjs DIRECTORY healthy|broken [MORE]
//
// MORE is a number of further HSM appliances; in a broken fleet, every tenth of them has a fault.
//
// Healthy appliances have a past (a fan that recovered, a sector that was replaced) and a present without faults. In
// the broken fleet, faults begin a little later and most of them stay.

import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

const [directory, mode, more = '0'] = process.argv.slice(2);
const broken = mode === 'broken';
mkdirSync(directory, { recursive: true });

const SEVERITY = { emerg: 0, alert: 1, crit: 2, err: 3, warning: 4, notice: 5, info: 6 };
const FACILITY = { kern: 0, user: 1, daemon: 3, auth: 4, syslog: 5, authpriv: 10, local0: 16, local4: 20, local5: 21 };

const write = (name, where, text) => {
  const [facility, severity] = where.split('.');
  const time = new Date().toISOString().replace('Z', '000+00:00');
  appendFileSync(join(directory, `${name}.log`), `<${FACILITY[facility] * 8 + SEVERITY[severity]}>${time} ${name} ${text}\n`);
};

const day = (days) => new Date(Date.now() + days * 86400e3);
const certificateDate = (date) =>
  `${date.toLocaleString('en', { month: 'short', timeZone: 'UTC' })} ${date.getUTCDate()} 12:00:00 ${date.getUTCFullYear()} GMT`;

let port = 40000;
const peer = (host) => `192.0.2.${host}/${(port += 7)}`;

const ntls = (name, host) => {
  write(name, 'local5.info', `NTLS[1234]: info : 0xc0000002 : Connection accepted from: ${peer(host)}`);
  write(name, 'local5.info', `NTLS[1234]: info : 0xc0000002 : NTLS Client "app${host}" connected and authenticated : ${peer(host)}`);
};

const luna = (name, number) => {
  const past = () => {
    write(name, 'local5.info', 'NTLS[1234]: info : 0 : NTLS is online and operational.');
    write(name, 'local5.info', `certmonitord[1235]: info : 0 : New NTLS certificate detected and the expiry date of this new certificate is ${certificateDate(day(400 - 90 * number))}`);
    write(name, 'user.info', 'sysstatd: Luna System State Server - ISO');
    write(name, 'syslog.info', `logger: uptime: 04:02:01 up ${90 + number} days, 6:50, 2 users, load average: 0.${20 + number}, 0.14, 0.04`);
    write(name, 'local4.notice', 'ipmievd: Fan sensor Fan1A          . Lower Critical going low  Deasserted (Reading 9600 < Threshold 2000 RPM)');
    write(name, 'local4.notice', 'ipmievd: Temperature sensor CPU1 Temp       . Upper Critical going high Deasserted (Reading 68 > Threshold 85 degrees C)');
    write(name, 'local4.notice', 'ipmievd: Voltage sensor PSU1_+12V_value. Lower Non-recoverable going low  Deasserted (Reading 12.18 < Threshold 11.23 Volts)');
    write(name, 'local4.notice', 'ipmievd: Power Supply sensor PSU1_Status     . - Presence detected Asserted');
    write(name, 'local4.notice', 'ipmievd: Power Supply sensor PSU2_Status     . - Failure detected Deasserted');
    write(name, 'local4.notice', 'ipmievd: SEL overflow is cleared');
    write(name, 'daemon.info', 'smartd[3456]: Device: /dev/sda, initial Temperature is 37 Celsius (Min/Max 21/46)');
    write(name, 'daemon.info', 'smartd[3456]: Device: /dev/sda, SMART Usage Attribute: 194 Temperature_Celsius changed from 181 [Raw 36 (Min/Max 21/46)] to 176 [Raw 37 (Min/Max 21/46)]');
    write(name, 'daemon.info', 'smartd[3456]: Device: /dev/sda, SMART Prefailure Attribute: 1 Raw_Read_Error_Rate changed from 117 to 118');
    write(name, 'daemon.info', 'smartd[3456]: Device: /dev/sda, No more Currently unreadable (pending) sectors, warning condition reset after 1 email');
    write(name, 'daemon.info', 'smartd[3456]: Device: /dev/sda, previous self-test completed without error');
  };
  const often = (round) => {
    ntls(name, 10 + (round % 5));
    if (round % 3 === 0) write(name, 'local5.info', `NTLS[1234]: info : 0 : NTLS Client "app${10 + (round % 5)}" Connection instance removed : ${peer(10)}`);
    if (round % 7 === number) write(name, 'local5.info', 'lunash[2345]: info : 0 : Command: hsm show : admin : Console');
    if (round % 11 === number) write(name, 'local5.info', 'lunash[2345]: info : 0 : Lush user login : monitor : 192.0.2.7/50012');
    if (round % 13 === number) write(name, 'authpriv.info', 'sshd[4567]: Accepted publickey for monitor from 192.0.2.7 port 50000 ssh2');
    if (round % 17 === number) write(name, 'local5.info', 'AdminAPI[999]: info : 0 : 192.0.2.8 successfully logged in as admin with session id of 413ef8fe-3667-4083-ae2f-44e66e1ac70e');
    if (round % 19 === number) {
      const warm = 36 + ((round + number) % 4);
      write(name, 'daemon.info', `smartd[3456]: Device: /dev/sda, Temperature changed +1 Celsius to ${warm} Celsius (Min/Max 21/46)`);
    }
    if (round % 23 === number) write(name, 'syslog.info', `logger: uptime: 04:02:01 up ${90 + number} days, 6:50, 2 users, load average: 0.${20 + (round % 40)}, 0.14, 0.04`);
  };
  return { name, past, often };
};

const srx = (name, number) => {
  const tunnel = (vpn, remote, state) =>
    write(name, 'daemon.warning', `kmd[1234]: KMD_VPN_${state.toUpperCase()}_ALARM_USER: VPN ${vpn} from ${remote} is ${state}. Local-ip: 192.0.2.1, gateway name: gw-${vpn}, vpn name: ${vpn}, tunnel-id: 131073, local tunnel-if: st0.0`);
  return {
    name,
    past: () => {
      for (const [index, vpn] of ['berlin', 'lyon', 'oslo'].entries()) tunnel(vpn, `198.51.100.${10 * number + index}`, 'up');
    },
    often: (round) => {
      if (round % 4 === 0) write(name, 'daemon.info', 'kmd[1234]: KMD_PM_SA_ESTABLISHED: Local gateway: 192.0.2.1, Remote gateway: 198.51.100.10, Local ID: ipv4(any:0,[0..3]=10.0.0.1), Remote ID: ipv4(any:0,[0..3]=10.0.0.2), Direction: inbound, SPI: 0x11111111, AUX-SPI: 0, Mode: Tunnel, Type: dynamic');
    },
    tunnel,
  };
};

const cos = (name) => ({
  name,
  past: () => {},
  often: (round) => {
    if (round % 6 === 0) write(name, 'local0.notice', 'IPSEC: id=766 severity=Notice action=Adjust msg="ECN codepoint mismatch." seqno=1 outer=CE inner=ECT0 new=CE matchkey=7');
  },
});

const ontap = (name) => ({
  name,
  past: () => {},
  often: () => {},
});

const hsm1 = luna('hsm1', 1);
const hsm2 = luna('hsm2', 2);
const hsm3 = luna('hsm3', 3);
const srx1 = srx('srx-north', 1);
const srx2 = srx('srx-south', 2);
const cos1 = cos('cos-gw');
const node1 = ontap('ontap-01');
const others = Array.from({ length: Number(more) }, (_, index) => luna(`hsm-${String(index + 100)}`, (index % 3) + 1));
const fleet = [hsm1, hsm2, hsm3, srx1, srx2, cos1, node1];

// By the number of the round, two a second.
const faults = {
  60: () => {
    write('hsm1', 'local4.notice', 'ipmievd: Fan sensor Fan2A          . Lower Critical going low  Asserted (Reading 820 < Threshold 2000 RPM)');
    write('hsm1', 'local4.notice', 'ipmievd: Temperature sensor CPU1 Temp       . Upper Critical going high Asserted (Reading 88 > Threshold 85 degrees C)');
  },
  90: () => {
    write('hsm1', 'local4.notice', 'ipmievd: Power Supply sensor PSU2_Status     . - Failure detected Asserted');
    write('hsm1', 'local4.notice', 'ipmievd: Voltage sensor PSU2_+12V_value. Lower Non-recoverable going low  Asserted (Reading 9.84 < Threshold 11.23 Volts)');
    write('hsm1', 'local4.warning', 'ipmievd: SEL buffer used at 85%, please consider clearing the SEL buffer');
    write('hsm1', 'user.info', 'sysstatd: Luna System State Server - InSrvTrb Errors: 15,60!');
  },
  120: () => {
    srx1.tunnel('lyon', '198.51.100.11', 'down');
    write('hsm1', 'daemon.crit', 'smartd[3456]: Device: /dev/sda, 8 Currently unreadable (pending) sectors');
    write('hsm1', 'daemon.info', 'smartd[3456]: Device: /dev/sda, Temperature 51 Celsius reached limit of 50 Celsius (Min/Max 21/51!)');
    write('hsm1', 'daemon.crit', 'smartd[3456]: Device: /dev/sda, previous self-test completed with error (read test element)');
    write('hsm1', 'syslog.warning', 'crontab: DISK FULL: WARNING! First log threshold reached 75%. Please clean up the logs using the "syslog cleanup" command');
  },
  160: () => {
    write('hsm2', 'local5.warning', 'lunash[2345]: HSM Admin Login: incorrect password or PED key');
    write('hsm2', 'local5.warning', 'lunash[2345]: HSM Admin Login: incorrect password or PED key');
  },
  200: () => {
    write('hsm2', 'local5.warning', 'lunash[2345]: HSM Admin Login: incorrect password or PED key');
    write('hsm2', 'local5.warning', 'lunash[2345]: HSM Admin Login: HSM Zeroized due to three consecutive bad login attempts.');
    write('hsm2', 'kern.info', 'kernel: k7pf0: [HSM] ALM2007: HSM zeroized');
    write('hsm2', 'local5.crit', 'oamp[1240]: info : 0 : HSM critical event detected. Dual port dump generated : hsm_dump_20261120');
    write('hsm2', 'local5.info', 'NTLS[1234]: info : 0 : NTLS terminated');
    write('hsm2', 'user.info', 'sysstatd: Luna System State Server - OOS Errors: 30,100!');
  },
  210: () => {
    write('ontap-01', 'user.notice', '[ontap-01:ktls.cnxnHandshakeLimit:notice]: ONTAP reached the maximum limit of 256 concurrent TLS connection handshakes. If this limit is reached, subsequent TLS connections will fail.');
  },
  220: () => {
    write('hsm3', 'local5.info', `certmonitord[1235]: info : 0 : NTLS certificate will be expire on ${certificateDate(day(12))}`);
    write('hsm3', 'user.notice', 'useradd[777]: new user: name=operator2, UID=1005, GID=1005, home=/home/operator2, shell=/bin/bash');
  },
};
const trouble = (round) => {
  faults[round]?.();
  const tenth = others[round - 60];
  if (tenth && round % 10 === 0) {
    write(tenth.name, 'local4.notice', `ipmievd: Fan sensor Fan${1 + (round % 3)}A          . Lower Critical going low  Asserted (Reading 820 < Threshold 2000 RPM)`);
    if (round % 30 === 0) write(tenth.name, 'local5.info', 'NTLS[1234]: info : 0 : NTLS terminated');
  }
  if (round < 100) return;
  if (round % 5 === 0) write('hsm1', 'local5.info', `NTLS[1234]: info : 0xc0000711 : Fail to establish a secure channel with client : ${peer(66)} : RC_SSL_FAILED_HANDSHAKE`);
  if (round % 21 === 0) write('hsm1', 'local5.info', `NTLS[1234]: info : 0xc0000004 : Connection attempt from non-Luna client : ${peer(66)} : RC_UNEXPECTED`);
  if (round % 33 === 0) write('hsm1', 'local5.crit', 'NTLS[1234]: critical : 0xc0000500 : NTLS listening port could not Bind : RC_SOCKET_ERROR');
  if (round % 4 === 0) write('hsm3', 'authpriv.info', `sshd[4567]: Failed password for invalid user oracle from 203.0.113.9 port ${(port += 7)} ssh2`);
  if (round % 15 === 0) write('hsm3', 'local5.err', 'AdminAPI[999]: error : 0 : 203.0.113.9 login attempt failed');
  if (round % 3 === 0) write('cos-gw', 'local0.notice', `IPSEC: id=278 severity=Notice action=Drop msg="Anti-replay check failed." seqno=${round} windowbase=99 windowsize=64 matchkey=7`);
  if (round % 8 === 0) write('cos-gw', 'local0.notice', `IPSEC: id=611 severity=Notice action=Drop msg="Integrity check failed." seqno=${round} matchkey=7`);
  if (round % 40 === 0) srx2.tunnel('oslo', '198.51.100.22', round % 80 ? 'down' : 'up');
  if (round % 10 === 0) write('srx-north', 'daemon.info', 'kmd[1234]: KMD_PM_P1_POLICY_LOOKUP_FAILURE: Policy lookup for Phase-1 [responder] failed for p1_local=unknown(any:0,[0..0]=) p1_remote=ipv4(any:0,[0..3]=198.51.100.11)');
  if (round % 14 === 0) write('srx-north', 'daemon.err', 'kmd[1234]: IKE negotiation failed with error: Timed out. IKE Version: 1, VPN: lyon Gateway: gw-lyon, Local: 192.0.2.1/500, Remote: 198.51.100.11/500, Local IKE-ID: Not-Available, Remote IKE-ID: Not-Available, VR-ID: 0, Role: Initiator');
  if (round % 6 === 0) write('ontap-01', 'user.notice', `[ontap-01:ktls.badAuth:notice]: ONTAP received a TLS message with incorrect authentication at local address 192.0.2.41 local port 11104 from remote address 203.0.113.9 remote port ${(port += 7)} via IPspace 0.`);
  if (round % 50 === 0) write('ontap-01', 'user.notice', "[ontap-01:ktls.failed:notice]: The TLS connections have failed several times with remote host '203.0.113.9' in IPspace 'Default', for which the latest reason given is: certificate verify failed.");
};

for (const appliance of [...fleet, ...others]) appliance.past();
let round = 0;
setInterval(() => {
  for (const appliance of fleet) {
    // An appliance that is out of service says little.
    if (broken && appliance.name === 'hsm2' && round > 200) continue;
    appliance.often(round);
  }
  // One tenth of the others in each round.
  for (let index = round % 10; index < others.length; index += 10) others[index].often(Math.floor(round / 10));
  if (broken) trouble(round);
  round += 1;
}, 500);
