#!/bin/sh
# Holds the speed of a fixed replay without a clock: counts instructions under callgrind, which a busy machine does not
# change and which differ by less than 0.1 % from run to run, and compares them with tests/instructions.txt.
# `start` is a replay of nothing; `catalogue`, `mixed` and `appliances` are what one line costs of the documented lines of
# all products, of the mix `mixed` in benches/goals/mixes.rs, and of its mix of 4,000 appliances.
#
# usage: tests/instructions.sh BINARY    fails if a figure has grown; `UPDATE=1` writes the baseline anew
set -eu
here=$(dirname "$0")
binary=$1
baseline=$here/instructions.txt
compiler=$(rustc --version)

# valgrind shows a program the same processor on all machines of one architecture, but not on all architectures.
if [ "$(uname -m)" != x86_64 ]; then
  echo "instructions are counted on x86_64 only: nothing is checked"
  exit
fi
directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT

count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" replay "$1" 2>&1 >/dev/null |
    sed -n 's/.*Collected : //p'
}

rustc --edition=2024 -O -o "$directory/mixes" "$here/../benches/goals/mixes.rs"
start=$(count /dev/null)

# What a line of a mix costs, once the first ones have made the automata and the series.
line() {
  "$directory/mixes" "$1" "$2" >"$directory/short.log"
  "$directory/mixes" "$1" "$3" >"$directory/long.log"
  short=$(count "$directory/short.log")
  long=$(count "$directory/long.log")
  echo $(((long - short) / ($3 - $2)))
}
documented=$(cat "$here"/fixtures/catalogue/*.log | wc -l)
catalogue=$(line catalogue $((documented * 20)) $((documented * 60)))
mixed=$(line mixed 20000 40000)
appliances=$(line appliances-4000 40000 80000)

if [ "${UPDATE:-}" ]; then
  printf '# %s\nstart %s\ncatalogue %s\nmixed %s\nappliances %s\n' \
    "$compiler" "$start" "$catalogue" "$mixed" "$appliances" >"$baseline"
fi

# Another compiler makes other code of the same source.
tolerance=5
grep -qxF "# $compiler" "$baseline" || tolerance=15
status=0
while read -r name expected; do
  case $name in
    start) found=$start ;;
    catalogue) found=$catalogue ;;
    mixed) found=$mixed ;;
    appliances) found=$appliances ;;
    *) continue ;;
  esac
  change=$(((found - expected) * 1000 / expected))
  echo "$name: $found instructions, baseline $expected"
  if [ "$change" -gt $((tolerance * 10)) ]; then
    cat >&2 <<END
$name has grown by more than $tolerance %.
  Where they went:   valgrind --tool=callgrind $binary replay FILE, then callgrind_annotate
  If it is worth it: UPDATE=1 make instructions, and say why in the commit
END
    status=1
  elif [ "$change" -lt $((tolerance * -10)) ]; then
    echo "$name has fallen by more than $tolerance %: keep the win with UPDATE=1 make instructions"
  fi
done <"$baseline"
exit $status
