# The two commands of README are `make demo` and `make test`; on a machine with Rust and make they need nothing more.

# `make fuzz`: seconds for each target, and cases for each property.
FUZZ_SECONDS ?= 60
CASES ?= 20000

# Where a release build puts the program.
released = $(shell cargo metadata --format-version 1 --no-deps --locked | \
	sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/appliance_log_exporter

.PHONY: demo test deps instructions bench goals fuzz

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
	$(MAKE) instructions

deps:
	tests/install-deps.sh

# Whether a line costs more instructions than it did; `UPDATE=1 make instructions` takes what it costs now for good.
instructions:
	cargo build --release --locked
	tests/instructions.sh $(released)

# Figures for docs/performance.md.
bench:
	cargo bench --locked

# The table of docs/performance.md. `make goals GOALS='--quick --only replay,start'` measures less; install mtail,
# ripgrep and libvectorscan-dev to be compared with them.
goals:
	cargo build --release --locked
	benches/goals/goals.py $(released) $(GOALS)

# What `make test` has little time for: inventions of a fuzzer, far more random cases, far more kills. What the fuzzer
# finds belongs into tests/fuzz/corpus.
fuzz:
	cargo install --quiet --locked --root tests/.tools cargo-fuzz@0.13.2
	for target in $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs))); do \
		RUSTC_BOOTSTRAP=1 tests/.tools/bin/cargo-fuzz run --fuzz-dir tests/fuzz $$target \
			-- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done
	PROPTEST_CASES=$(CASES) TAIL_SEQUENCES=$(CASES) CRASHES=1000 KILLS=1000 cargo test --release --locked
