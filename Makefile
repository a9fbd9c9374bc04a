# The two commands of README are `make demo` and `make test`; on a machine with Rust and make they need nothing more.

# What takes long is asked for by name: more random cases for `make fuzz`.
CASES ?= 20000

.PHONY: demo test deps bench fuzz

# Sample logs, written and followed: http://localhost:10067/
demo:
	cargo run --release --locked --quiet -- demo

# Everything that must pass. What the tests run against is installed first, where it is missing.
test: deps
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps --document-private-items
	cargo test --locked --no-fail-fast
	cargo run --locked --quiet -- check
	tests/.tools/bin/cargo-deny --locked check bans licenses sources

deps:
	tests/install-deps.sh

# Figures for docs/performance.md.
bench:
	cargo bench --locked

# The property tests and the tests with random kills, with far more cases than `make test` has time for.
fuzz:
	PROPTEST_CASES=$(CASES) TAIL_SEQUENCES=$(CASES) KILLS=1000 cargo test --release --locked
