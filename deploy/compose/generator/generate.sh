#!/bin/sh
# Plays an appliance: sends its log lines by syslog over TCP, for ever, with a fault now and then that heals.
#
#   generate.sh luna|srx|cos|ontap NAME RECEIVER PORT
#
# Plain POSIX shell with busybox's nc, so that it runs in the smallest image.
set -eu
kind=$1 name=$2 receiver=$3 port=$4

# PRI = facility * 8 + severity.
line() { # PRI TEXT
  printf '<%s>%s %s %s\n' "$1" "$(date '+%b %e %T')" "$name" "$2"
}

luna_healthy() {
  line 174 'NTLS[1234]: info : 0xc0000002 : Connection accepted from: 192.0.2.100/40847'
  line 174 'NTLS[1234]: info : 0 : NTLS Client "client1" Connection instance removed : 192.0.2.100/40847'
  line 174 'lunash [2345]: info : 0 : Command: hsm show : admin : Console'
  line 30 'smartd[3456]: Device: /dev/sda, Temperature changed +1 Celsius to 38 Celsius (Min/Max 21/47)'
  line 86 'sshd[4567]: Accepted publickey for admin from 192.0.2.7 port 50000 ssh2'
}
luna_fault() {
  line 165 'ipmievd: Fan sensor Fan2A          . Lower Critical going low  (Reading 800 < Threshold 2000 RPM)'
  line 165 'ipmievd: Power Supply sensor PSU2_Status    . - Failure detected Asserted'
  line 26 'smartd[3456]: Device: /dev/sda, 2 Currently unreadable (pending) sectors'
  line 174 'NTLS[1234]: info : 0xc0000711 : Fail to establish a secure channel with client : 192.0.2.66/41000 : RC_SSL_FAILED_HANDSHAKE'
  line 86 'sshd[4567]: Failed password for invalid user oracle from 192.0.2.66 port 50001 ssh2'
}
luna_recovery() {
  line 165 'ipmievd: Fan sensor Fan2A          . Lower Critical going low  (Reading 9800 < Threshold 2000 RPM)'
  line 165 'ipmievd: Power Supply sensor PSU2_Status    . - Failure detected Deasserted'
  line 30 'smartd[3456]: Device: /dev/sda, No more Currently unreadable (pending) sectors, warning condition reset after 1 email'
}
srx_healthy() {
  line 30 'kmd[1234]: KMD_PM_SA_ESTABLISHED: Local gateway: 192.0.2.1, Remote gateway: 192.0.2.2, Local ID: ipv4(any:0,[0..3]=10.0.0.1), Remote ID: ipv4(any:0,[0..3]=10.0.0.2), Direction: inbound, SPI: 0x11111111, AUX-SPI: 0, Mode: Tunnel, Type: dynamic'
}
srx_fault() {
  line 28 'kmd[1234]: KMD_VPN_DOWN_ALARM_USER: VPN office from 192.0.2.2 is down. Local-ip: 192.0.2.1, gateway name: gw1, vpn name: office, tunnel-id: 131073, local tunnel-if: st0.0'
}
srx_recovery() {
  line 28 'kmd[1234]: KMD_VPN_UP_ALARM_USER: VPN office from 192.0.2.2 is up. Local-ip: 192.0.2.1, gateway name: gw1, vpn name: office, tunnel-id: 131073, local tunnel-if: st0.0'
}
cos_healthy() {
  line 133 'IPSEC: id=766 severity=Notice action=Adjust msg="ECN codepoint mismatch." seqno=1 outer=CE inner=ECT0 new=CE matchkey=7'
}
cos_fault() {
  line 133 'IPSEC: id=278 severity=Notice action=Drop msg="Anti-replay check failed." seqno=9 windowbase=99 windowsize=64 matchkey=7'
  line 133 'IPSEC: id=611 severity=Notice action=Drop msg="Integrity check failed." seqno=9 matchkey=7'
}
cos_recovery() { cos_healthy; }
ontap_healthy() { :; }
ontap_fault() {
  printf '<13>%s [%s:ktls.badAuth:notice]: ONTAP received a TLS message with incorrect authentication at local address 192.0.2.41 local port 11104 from remote address 192.0.2.66 remote port 40112 via IPspace 0.\n' "$(date '+%b %e %T')" "$name"
}
ontap_recovery() { :; }

play() {
  while :; do
    round=0
    while [ "$round" -lt 20 ]; do
      "${kind}_healthy"
      case $round in
        8) "${kind}_fault" ;;
        16) "${kind}_recovery" ;;
      esac
      round=$((round + 1))
      sleep 15
    done
  done
}

# The receiver may come later than we do, or go and come back.
while :; do
  play | nc "$receiver" "$port" || :
  sleep 2
done
