#!/bin/sh
# Starts the whole stack, waits until a real Grafana answers the fleet dashboard's first question from a real line, and
# takes everything down again. For hosts with Docker; ours has none, so this script has not been run there.
set -eu
cd "$(dirname "$0")"
trap 'docker compose down --volumes' EXIT
docker compose up --build --detach

# Polls a URL until its answer holds a text, for five minutes at most.
wait_for() { # TEXT URL
  tries=0
  until curl --fail --silent "$2" | grep -q "$1"; do
    tries=$((tries + 1))
    [ "$tries" -lt 150 ] || { echo "no \`$1\` from $2" >&2; return 1; }
    sleep 2
  done
}

wait_for '"appliance":"hsm1"' 'http://localhost:9090/api/v1/query?query=log_messages_total'
wait_for '"alertname":"ApplianceWatchdog"' 'http://localhost:9093/api/v2/alerts'
for file in ../../grafana/dashboards/*.json; do
  uid=$(sed -n 's/^  "uid": "\(.*\)",$/\1/p' "$file")
  wait_for '"provisioned":true' "http://localhost:3000/api/dashboards/uid/$uid"
done
wait_for '"appliance":"hsm1"' \
  'http://localhost:3000/api/datasources/proxy/uid/prometheus/api/v1/query?query=log_last_message_timestamp_seconds'
echo 'the stack works'
