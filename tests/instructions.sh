#!/bin/sh
# Holds the speed of a fixed replay without a clock: counts instructions under callgrind, which a busy machine does not
# change, and compares them with tests/instructions.txt. What is replayed is the documented lines of all products.
#
# usage: tests/instructions.sh BINARY            fails if a figure is more than 5 % above its baseline
#        tests/instructions.sh BINARY --update   writes the baseline
set -eu
here=$(dirname "$0")
binary=$1
baseline=$here/instructions.txt
rounds=40
directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT

count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" replay "$1" 2>&1 >/dev/null |
    sed -n 's/.*Collected : //p'
}

for _ in $(seq $rounds); do cat "$here"/fixtures/catalogue/*.log; done >"$directory/long.log"
cat "$here"/fixtures/catalogue/*.log >"$directory/short.log"
lines=$(wc -l <"$directory/short.log")
start=$(count /dev/null)
short=$(count "$directory/short.log")
long=$(count "$directory/long.log")
# The first round makes the automata and the series; those after it are what lines cost.
line=$(((long - short) / (lines * (rounds - 1))))

if [ "${2:-}" = --update ]; then
  printf 'start %s\nline %s\n' "$start" "$line" >"$baseline"
fi
status=0
while read -r name expected; do
  case $name in
    start) found=$start ;;
    line) found=$line ;;
    *) continue ;;
  esac
  echo "$name: $found instructions, baseline $expected"
  if [ "$found" -gt $((expected + expected / 20)) ]; then
    echo "$name: more than 5 % above the baseline; say why and update it, or find what got slower" >&2
    status=1
  elif [ "$found" -lt $((expected - expected / 20)) ]; then
    echo "$name: more than 5 % below the baseline; keep the win: $0 BINARY --update"
  fi
done <"$baseline"
exit $status
