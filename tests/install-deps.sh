#!/bin/sh
# Installs what the tests run against, where it is missing: Debian packages, for which it needs root or sudo, and the
# npm and Python packages that make the dashboards and check the deployment files. On a bare Debian that is about 20
# packages, and the packagers are compiled: it needs a network and 10 to 20 minutes, the first time.
# prometheus, prometheus-alertmanager and rsyslog would start themselves: a policy-rc.d that refuses is in place meanwhile.
set -eu

# program:package. One list; add what a new test needs.
needs='
  ps:procps
  logger:bsdutils
  setpriv:util-linux
  curl:curl
  openssl:openssl
  promtool:prometheus
  amtool:prometheus-alertmanager
  jsonnet:jsonnet
  node:nodejs
  npm:npm
  python3:python3
  rsyslogd:rsyslog
  logrotate:logrotate
  systemd-analyze:systemd
  shellcheck:shellcheck
  rpm:rpm
  strip:binutils
  unshare:util-linux
  bash:bash
  groff:groff-base
  valgrind:valgrind
  ip:iproute2
  java:openjdk-17-jre-headless
  pkg-config:pkg-config
  sha256sum:coreutils
  faketime:faketime
'

missing=
for need in $needs; do
  command -v "${need%%:*}" >/dev/null 2>&1 || missing="$missing ${need##*:}"
done
# What loggen needs.
PATH=$PATH:/usr/sbin:/sbin ldconfig -p | grep -q libgmodule-2.0 || missing="$missing libglib2.0-0"
# Debian's python3 comes without what `python3 -m venv` needs.
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"

# What has no program: the headers that Kafka's client is built with, and rsyslog's ways to Kafka and to TLS.
for need in /usr/include/openssl/ssl.h:libssl-dev omkafka.so:rsyslog-kafka lmnsd_gtls.so:rsyslog-gnutls; do
  case $need in
    /*) [ -e "${need%%:*}" ] ;;
    *) find /usr/lib /usr/lib64 -name "${need%%:*}" 2>/dev/null | grep -q . ;;
  esac || missing="$missing ${need##*:}"
done

# What `make test` checks the source with; rustup's profile "minimal" has neither.
for component in fmt:rustfmt clippy:clippy; do
  cargo "${component%%:*}" --version >/dev/null 2>&1 || {
    command -v rustup >/dev/null 2>&1 || {
      echo "cargo has no ${component##*:}: install it, or install Rust with rustup (https://rustup.rs)" >&2
      exit 1
    }
    rustup component add "${component##*:}"
  }
done

as_root=
[ "$(id -u)" -eq 0 ] || as_root=sudo
update() { $as_root apt-get -q update -o DPkg::Lock::Timeout=600; }

if [ -n "$missing" ]; then
  [ -z "$as_root" ] || command -v sudo >/dev/null 2>&1 || {
    echo "the tests need these packages; install them as root: apt-get install$missing" >&2
    exit 1
  }
  echo "installing:$missing" >&2

  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
  fi

  update
  # shellcheck disable=SC2086  # one word for each package
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
    -o DPkg::Lock::Timeout=600 $missing
fi

# loggen's package would replace rsyslog: it is unpacked beside the tests. Its libraries may be there already.
syslog_ng=$(dirname "$0")/.tools/syslog-ng
[ -x "$syslog_ng/usr/bin/loggen" ] || {
  packages=$(mktemp -d)
  download() { (cd "$packages" && apt-get -q download syslog-ng-core); }
  # Without lists of packages, or with old ones, it fails.
  download || { update && download; }
  mkdir -p "$syslog_ng"
  dpkg-deb --extract "$packages"/*.deb "$syslog_ng"
  rm -r "$packages"
}

# What was installed last is kept beside it, so that nothing is done twice.
cd "$(dirname "$0")/../grafana"
cmp -s package-lock.json node_modules/installed-lock.json || {
  npm ci --no-audit --no-fund
  cp package-lock.json node_modules/installed-lock.json
}

# The schema checkers, in an environment of the tests.
cd ../tests
cmp -s requirements.txt .venv/installed.txt || {
  python3 -m venv .venv
  .venv/bin/pip install --quiet --requirement requirements.txt
  cp requirements.txt .venv/installed.txt
}

# The packagers and the judge of dependencies. A debug build takes a third of the time, and the tests do not ask for
# small packages.
tools=.tools/cargo-deb-3.8.0-cargo-generate-rpm-0.21.1-cargo-deny-0.20.2-cargo-auditable-0.7.4
[ -e "$tools" ] || {
  cargo install --quiet --locked --debug --root .tools cargo-deb@3.8.0 cargo-generate-rpm@0.21.1 \
    cargo-deny@0.20.2 cargo-auditable@0.7.4
  touch "$tools"
}

# A real Kafka.
./install-kafka.sh >/dev/null
