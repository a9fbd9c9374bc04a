#!/bin/sh
# Builds Alertmanager 0.35, which Debian does not have, into a cache outside of the repository, once. Prints the path of the
# program. Needs Go 1.26 or pip, and the Go module proxy; a few minutes of two processors.
set -eu

version=v0.35.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/appliance_log_exporter/alertmanager-$version
if [ -x "$cache/alertmanager" ]; then
  echo "$cache/alertmanager"
  exit
fi
mkdir -p "$cache"

# shellcheck source=tests/go.sh
. "$(dirname "$0")/go.sh"

# Its web pages are not in the module, and it does not compile without a file in their place.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
go mod init build >&2
go get -tool "github.com/prometheus/alertmanager/cmd/alertmanager@$version" >&2
cp -r "$(go list -m -f '{{.Dir}}' github.com/prometheus/alertmanager)" source
chmod -R u+w source
mkdir -p source/ui/app/dist
echo none > source/ui/app/dist/index.html
go mod edit -replace github.com/prometheus/alertmanager=./source
nice -n 10 go build -mod=mod -trimpath -ldflags='-s -w' -o "$cache/" github.com/prometheus/alertmanager/cmd/alertmanager >&2
echo "$cache/alertmanager"
