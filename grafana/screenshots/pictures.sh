#!/bin/sh
# Takes the pictures of docs/images: a healthy and a broken fleet, followed by the real exporter, scraped by a real
# Prometheus with the shipped alert rules, drawn by take.mjs. Takes a quarter of an hour.
#
#   npm ci --ignore-scripts
#   ./pictures.sh TARGET/debug/appliance_log_exporter
set -eu
exporter=$(realpath "$1")
cd "$(dirname "$0")"
minutes=6

for fleet in healthy broken; do
  work=$(mktemp -d)
  cat > "$work/prometheus.yml" <<PROMETHEUS
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: [$PWD/../../rules/alerts/*.yaml]
scrape_configs:
  - job_name: appliance_logs
    static_configs: [{targets: ['127.0.0.1:20067']}]
    metric_relabel_configs: [{source_labels: [appliance], regex: (.+), target_label: instance}]
PROMETHEUS
  mkdir "$work/logs" "$work/state"
  "$exporter" --log.file="$work/logs/*.log" --state.dir="$work/state" --web.listen-address=127.0.0.1:20067 &
  exporter_pid=$!
  prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
    --web.listen-address=127.0.0.1:20090 --log.level=warn &
  prometheus_pid=$!
  sleep 5
  node fleet.mjs "$work/logs" "$fleet" &
  fleet_pid=$!
  trap 'kill $exporter_pid $prometheus_pid $fleet_pid; rm -rf "$work"' EXIT
  sleep $((minutes * 60))
  node take.mjs http://127.0.0.1:20090 "../../docs/images/$fleet" "$minutes"
  kill $exporter_pid $prometheus_pid $fleet_pid
  wait
  rm -rf "$work"
  trap - EXIT
done
