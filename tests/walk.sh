#!/bin/sh
# Walks README's path from clone to paging as printed, on a bare Debian 12 that boots in DIRECTORY, without a network of
# its own, and prints how long each step takes. By hand, as root, with the packages debootstrap and systemd-container:
#
#   tests/walk.sh DIRECTORY
#
# The machine is what debootstrap makes, without a further package. Only the clone and a Rust toolchain (this machine's,
# read-only but for its caches) come from outside. Debian's packages are downloaded before the clock starts. What is
# walked is the last commit.
set -eu
project=$(realpath "$(dirname "$0")/..")
machine=$(realpath -m "$1")
cargo=${CARGO_HOME:-$HOME/.cargo} rustup=${RUSTUP_HOME:-$HOME/.rustup}
mirror=http://deb.debian.org/debian

if [ ! -d "$machine" ]; then
  debootstrap bookworm "$machine" "$mirror"
  # shellcheck disable=SC2046  # one word for each package
  chroot "$machine" apt-get install -y --download-only $(sed -n 's/^apt-get install -y //p' "$project/README.md")
  git clone --quiet "$project" "$machine/root/appliance_log_exporter"
  mkdir -p "$machine$cargo" "$machine$rustup"
  echo '127.0.0.1 localhost' > "$machine/etc/hosts"
fi

systemd-nspawn --quiet --register=no --keep-unit --private-network --resolv-conf=off --timezone=off --console=pipe \
  --directory="$machine" --overlay="$cargo::$cargo" --bind-ro="$rustup" --boot > "$machine.log" 2>&1 < /dev/null &
container=$!
trap 'kill -s KILL "$leader"; wait "$container" || :' EXIT
until leader=$(pgrep --parent "$container"); do sleep 1; done

inside() {
  nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup --root --wd env --ignore-environment \
    HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive CARGO_NET_OFFLINE=true \
    CARGO_HOME="$cargo" RUSTUP_HOME="$rustup" PATH="$cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    bash -c "$1"
}
until inside 'systemctl is-system-running' | grep -Eq 'running|degraded'; do sleep 1; done

# Each block of commands on its own, as one pastes them.
section() { sed '1,/^## From clone to paging$/d; /^## /,$d' "$project/README.md"; }
block() { section | awk -v wanted="$1" '/^```sh$/ { n++; on = n == wanted; next } /^```$/ { on = 0 } on'; }
wait_for_page() {
  until grep -q "^/page .*\"status\":\"$1\".*ApplianceTemperatureCritical" "$machine.pages"; do
    sleep 1
    [ "$(($(date +%s) - before))" -lt 1500 ] || { echo "no page that says $1" >&2; exit 1; }
  done
}
for number in $(seq "$(section | grep -c '^```sh$')"); do
  commands=$(block "$number")
  echo "--- $commands"
  before=$(date +%s)
  case $commands in
    python3*) inside "$commands" > "$machine.pages" 2>&1 & ;;
    *) inside "set -e; cd ~/appliance_log_exporter; $(section | grep '^say() ')
$commands" ;;
  esac
  case $commands in
    *"say 'Temperature"*"Reading 75 "*) wait_for_page firing ;;
    *"say 'Temperature"*) wait_for_page resolved ;;
  esac
  echo "--- $(($(date +%s) - before)) s"
done
