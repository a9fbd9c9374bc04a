#!/bin/bash
# Sends a line by each transport and family to one address for all interfaces, and prints who was heard how often. Runs in a
# user and a network namespace of its own, where there is IPv6 whatever the machine has: both_families.sh PROGRAM
set -eu
program=$1

ip link set lo up
"$program" --syslog.listen=tcp://:5514 --syslog.listen=udp://:5514 --web.listen-address=127.0.0.1:10067 >&2 &
exporter=$!
trap 'kill "$exporter" 2>/dev/null || true' EXIT
metrics() { curl --silent http://127.0.0.1:10067/metrics; }
# Waits until a metric has a value.
wait_for() {
  begun=$(date +%s)
  until metrics | grep --quiet --line-regexp "appliance_log_exporter_$1"; do
    [ $(($(date +%s) - begun)) -lt 60 ] || { echo "no $1" >&2; metrics >&2; exit 1; }
    sleep 0.1
  done
}
wait_for 'ready 1'
for transport in tcp udp; do
  for address in 127.0.0.1 ::1; do
    echo '<13>Feb 29 12:05:01 h sshd[1]: hello' >"/dev/$transport/$address/5514"
  done
done
wait_for 'lines_read_total{source="syslog.listen"} 4'
metrics | sed -n 's/^log_messages_total{appliance="\([^"]*\)".*} \(.*\)/\1 \2/p'
