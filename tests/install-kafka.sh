#!/bin/sh
# Fetches Apache Kafka 4.3.1 from Maven Central into a cache outside of the repository, once: 44 MB. Prints the directory of
# its jars, which a Java 17 or later runs.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/appliance_log_exporter
jars=$cache/kafka-4.3.1
if [ ! -e "$jars" ]; then
  mkdir -p "$cache"
  new=$(mktemp -d "$cache/kafka.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  # One connection for all of them.
  while read -r _ path; do
    printf 'url = "https://repo.maven.apache.org/maven2/%s"\ncreate-dirs\noutput = "%s/%s"\n' "$path" "$new" "$path"
  done <"$here/kafka-jars.txt" | curl --fail --silent --show-error --location --retry 3 --config - >&2
  (cd "$new" && sha256sum --quiet --check "$here/kafka-jars.txt") >&2
  mkdir "$new/flat"
  find "$new" -name '*.jar' -exec mv -t "$new/flat" {} +
  mv "$new/flat" "$jars"
fi
echo "$jars"
