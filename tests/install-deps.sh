#!/bin/sh
# Installs what the tests run against, where it is missing: Debian packages, for which it needs root or sudo, and the
# npm packages that make the dashboards.
# prometheus and prometheus-alertmanager would start themselves: a policy-rc.d that refuses is in place meanwhile.
set -eu

# program:package. One list; add what a new test needs.
needs='
  kill:procps
  promtool:prometheus
  amtool:prometheus-alertmanager
  jsonnet:jsonnet
  node:nodejs
  npm:npm
'

missing=
for need in $needs; do
  command -v "${need%%:*}" >/dev/null 2>&1 || missing="$missing ${need##*:}"
done

if [ -n "$missing" ]; then
  as_root=
  [ "$(id -u)" -eq 0 ] || as_root=sudo

  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
  fi

  $as_root apt-get -q update -o DPkg::Lock::Timeout=600
  # Unquoted: one word for each package.
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
    -o DPkg::Lock::Timeout=600 $missing
fi

# npm leaves a copy of the lock file beside what it has installed.
cd "$(dirname "$0")/../grafana"
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund
