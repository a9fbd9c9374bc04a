#!/bin/sh
# Takes the pictures of docs/images: a healthy and a broken fleet, followed by the real exporter, scraped by a real
# Prometheus with the shipped alert rules, drawn by take.mjs. Takes about eight minutes. Needs prometheus, chromium and
# pngquant.
#
#   npm ci --ignore-scripts
#   ./pictures.sh TARGET/debug/appliance_log_exporter
set -eu
exporter=$(realpath "$1")
cd "$(dirname "$0")"
images=$(realpath ../../docs)/images
minutes=6
mkdir -p "$images"

# One fleet, with an exporter and a Prometheus of its own. A second exporter follows one appliance; in the broken fleet it
# is killed.
play() { # healthy|broken EXPORTER-PORT SECOND-PORT PROMETHEUS-PORT
  work=$(mktemp -d)
  mkdir "$work/logs" "$work/state"
  cat > "$work/prometheus.yml" <<PROMETHEUS
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: ['$PWD/../../rules/alerts/*.yaml']
scrape_configs:
  - job_name: appliance_logs
    static_configs: [{targets: ['127.0.0.1:$2', '127.0.0.1:$3']}]
    relabel_configs: [{source_labels: [__address__], target_label: collector}]
    metric_relabel_configs: [{source_labels: [appliance], regex: (.+), target_label: instance}]
PROMETHEUS
  "$exporter" --log.file="$work/logs/*.log" --state.dir="$work/state" --web.listen-address="127.0.0.1:$2" \
    --log.level=warn &
  pids=$!
  mkdir "$work/far"
  "$exporter" --log.file="$work/far/*.log" --web.listen-address="127.0.0.1:$3" --log.level=warn &
  second=$!
  pids="$pids $second"
  prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
    --web.listen-address="127.0.0.1:$4" --log.level=error &
  pids="$pids $!"
  # shellcheck disable=SC2064,SC2086
  trap "kill $pids 2>/dev/null || :; rm -rf '$work'" EXIT
  sleep 10
  node fleet.mjs "$work/logs" "$1" &
  pids="$pids $!"
  # shellcheck disable=SC2064,SC2086
  trap "kill $pids 2>/dev/null || :; rm -rf '$work'" EXIT
  line='logger: uptime: 04:02:01 up 90 days, 6:50, 2 users, load average: 0.20, 0.14, 0.04'
  echo "<46>$(date --iso-8601=ns | tr , .) hsm-far $line" >> "$work/far/hsm-far.log"
  sleep $((minutes * 40))
  [ "$1" = healthy ] || kill "$second"
  sleep $((minutes * 20))
  node take.mjs "http://127.0.0.1:$4" "$images/$1" "$minutes"
}

(play healthy 20067 20069 20090) &
healthy=$!
(play broken 20068 20070 20091) &
broken=$!
wait "$healthy"
wait "$broken"
pngquant --force --ext .png --speed 1 "$images"/healthy-*.png "$images"/broken-*.png
