#!/bin/sh
# Installs the Debian packages that the tests run against, where they are missing. Needs root, or sudo.
# prometheus and prometheus-alertmanager would start themselves: a policy-rc.d that refuses is in place meanwhile.
set -eu

# program:package. One list; add what a new test needs.
needs='
  kill:procps
  promtool:prometheus
  amtool:prometheus-alertmanager
  jsonnet:jsonnet
'

missing=
for need in $needs; do
  command -v "${need%%:*}" >/dev/null 2>&1 || missing="$missing ${need##*:}"
done
[ -n "$missing" ] || exit 0

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
