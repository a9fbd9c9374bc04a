#!/bin/sh
# Builds Prometheus 3.16 and its promtool, which Debian does not have, into a cache outside of the repository, once.
# Prints the directory of the programs. Needs Go 1.26 or pip, and the Go module proxy; five minutes of two processors.
set -eu

version=v0.316.0
cache=${PROMETHEUS3_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/appliance_log_exporter}/prometheus-$version
if [ -x "$cache/prometheus" ] && [ -x "$cache/promtool" ]; then
  echo "$cache"
  exit
fi
mkdir -p "$cache"

# shellcheck source=tests/go.sh
. "$(dirname "$0")/go.sh"

# Without its web pages, which are not in the module, and without service discovery but for files, HTTP and static
# targets: a third of the time.
export GOBIN="$cache/new"
for program in promtool prometheus; do
  nice -n 10 go install -tags remove_all_sd -trimpath -ldflags='-s -w' \
    "github.com/prometheus/prometheus/cmd/$program@$version" >&2
done
mv "$cache/new/promtool" "$cache/new/prometheus" "$cache/"
rmdir "$cache/new"
echo "$cache"
