#!/bin/bash
# A peer that sends a line and then is gone without a word: in a network namespace whose link goes down. Prints after how
# many seconds its connection was closed. Runs in a user and a network namespace of its own: half_open.sh PROGRAM
set -eu
program=$1

ip link set lo up
unshare --net sleep 1000 &
peer=$!
trap 'kill "$peer" ${exporter-} ${client-} 2>/dev/null || true' EXIT
until [ "$(readlink "/proc/$peer/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
at_peer() { nsenter --net="/proc/$peer/ns/net" "$@"; }
ip link add here type veth peer name there netns "$peer"
ip address add 198.18.0.1/30 dev here
ip link set here up
at_peer ip address add 198.18.0.2/30 dev there
at_peer ip link set there up

"$program" --syslog.listen=tcp://198.18.0.1:5514 --web.listen-address=127.0.0.1:10067 >&2 &
exporter=$!
metric() { curl --silent http://127.0.0.1:10067/metrics | sed -n "s/^appliance_log_exporter_$1 //p"; }
# Waits until a metric has a value; prints how many seconds that took.
wait_for() {
  begun=$(date +%s)
  until [ "$(metric "$1")" = "$2" ]; do
    [ $(($(date +%s) - begun)) -lt 200 ] || { echo "$1 is not $2" >&2; metric "$1" >&2; exit 1; }
    sleep 0.1
  done
  echo $(($(date +%s) - begun))
}
wait_for ready 1 >&2

# One process, so that it can be killed, and without our outputs, which somebody may read to their end.
nsenter --net="/proc/$peer/ns/net" bash -c \
  'exec 3<>/dev/tcp/198.18.0.1/5514; echo "<13>Feb 29 12:05:01 h sshd[1]: hello" >&3; exec sleep 1000' >/dev/null 2>&1 &
client=$!
wait_for 'lines_read_total{source="syslog.listen"}' 1 >&2
open='syslog_open_connections{source="syslog.listen",transport="tcp"}'
wait_for "$open" 1 >&2

# The link goes first, so that nothing says that the connection is over.
at_peer ip link set there down
kill "$client"
wait_for "$open" 0
