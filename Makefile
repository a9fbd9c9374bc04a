# The two commands of README are `make demo` and `make test`. They need Rust with rustfmt and clippy, make and a C
# compiler; `make test` installs the rest, as root or with sudo, over the network.

# `make fuzz`: seconds for each target, and cases for each property.
FUZZ_SECONDS ?= 60
CASES ?= 20000

# Where a release build puts the program.
released = $(shell cargo metadata --format-version 1 --no-deps --locked | \
	sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/appliance_log_exporter

# `make install`: what is installed, and below which directory (none: the machine itself). It asks no cargo: sudo may
# not find one.
BINARY ?= target/release/appliance_log_exporter
DESTDIR ?=

.PHONY: demo install check test deps instructions bench goals receive kills fuzz audit attacks copytruncate births kafka model shards long-incidents dist reproduce helm

# Sample logs, written and followed: http://localhost:10067/
demo:
	cargo run --release --locked -- demo

# The program as a service, where no package does it; a release build comes first. Settings that are there stay. What
# the service reads, its group and its directory, are as in the packages.
install:
	install -D -m 755 $(BINARY) $(DESTDIR)/usr/bin/appliance_log_exporter
	strip $(DESTDIR)/usr/bin/appliance_log_exporter || :
	install -D -m 644 -t $(DESTDIR)/etc/systemd/system deploy/systemd/*.service deploy/systemd/*.socket
	[ -e $(DESTDIR)/etc/default/appliance_log_exporter ] || \
		install -D -m 644 deploy/systemd/appliance_log_exporter.default $(DESTDIR)/etc/default/appliance_log_exporter
	install -D -m 644 deploy/systemd/appliance_log_exporter.sysusers \
		$(DESTDIR)/etc/sysusers.d/appliance_log_exporter.conf
	install -D -m 644 deploy/systemd/appliance_log_exporter.tmpfiles \
		$(DESTDIR)/etc/tmpfiles.d/appliance_log_exporter.conf
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man1 deploy/man/*.1
	install -D -m 644 deploy/completions/appliance_log_exporter.bash \
		$(DESTDIR)/usr/share/bash-completion/completions/appliance_log_exporter
	install -D -m 644 -t $(DESTDIR)/usr/share/zsh/vendor-completions deploy/completions/_appliance_log_exporter
	install -D -m 644 -t $(DESTDIR)/usr/share/fish/vendor_completions.d deploy/completions/appliance_log_exporter.fish
	install -D -m 644 -t $(DESTDIR)/usr/share/appliance-log-exporter deploy/schemas/*.json
	install -D -m 644 -t $(DESTDIR)/usr/share/doc/appliance-log-exporter/runbooks docs/runbooks/*.md
	install -d -m 755 $(DESTDIR)/etc/appliance_log_exporter/rules
	for examples in rsyslog logrotate prometheus alertmanager kafka; do \
		install -D -m 644 -t $(DESTDIR)/usr/share/doc/appliance-log-exporter/examples/$$examples deploy/$$examples/*; \
	done
	[ -n "$(DESTDIR)" ] || { systemd-sysusers appliance_log_exporter.conf && \
		systemd-tmpfiles --create appliance_log_exporter.conf && systemctl daemon-reload; }

# The first gate: what needs nothing but cargo, neither root nor a network.
check:
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo test --locked --lib --no-fail-fast -- --skip logrotate --skip watching
	cargo test --locked --doc
	cargo test --locked --test it --no-fail-fast -- architecture:: catalogue:: messages:: reference:: rules_manual:: senders::
	cargo run --locked --quiet -- check

# Everything that must pass. What the tests run against is installed first, where it is missing. All features are in it;
# `make check` is without them.
test: deps
	cargo fmt --check
	cargo clippy --locked -- --deny warnings
	cargo clippy --locked --all-targets --features kafka -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps --document-private-items --features kafka
	cargo test --locked --no-fail-fast --features kafka
	cargo run --locked --quiet --features kafka -- check
	tests/.tools/bin/cargo-deny --locked check bans licenses sources
	$(MAKE) instructions

deps:
	tests/install-deps.sh

# Whether a line costs more instructions than it did; `UPDATE=1 make instructions` takes what it costs now for good.
instructions:
	cargo build --release --locked
	tests/instructions.sh $(released)

# Brokers of a real Kafka are killed, stay away and come back, and so are exporters: ten minutes.
kafka:
	cargo test --locked --features kafka --test it -- --ignored --nocapture --test-threads=1 kafka

# The ownership of shards in a model of its world, for so many steps of a tenth of a second, as 240 shards have in a day: minutes.
SHARD_STEPS ?= 207360000
model:
	SHARD_STEPS=$(SHARD_STEPS) cargo test --release --locked --lib -- --nocapture shard::machine

# Figures for docs/scaling.md: a replica with ten shards of 417 appliances each. A few minutes.
shards:
	cargo run --release --locked --quiet --example mixes fleet-4170 1 >$(dir $(released))fleet.log
	FLEET=$(dir $(released))fleet.log cargo test --release --locked --features kafka --test it -- --ignored --nocapture --test-threads=1 shards_at_scale

# Figures for docs/performance.md.
bench:
	cargo bench --locked

# The table of docs/performance.md. `make goals GOALS='--quick --only replay,start'` measures less; install mtail,
# ripgrep and libvectorscan-dev to be compared with them.
goals:
	cargo build --release --locked
	benches/goals/goals.py $(released) $(GOALS)

# What a received message costs, see docs/receiving.md. Needs rsyslogd and two cores.
receive:
	cargo build --release --locked
	benches/receive/receive.py $(released)

# What `make test` has little time for: inventions of a fuzzer, far more random cases, far more kills. What the fuzzer
# finds belongs into tests/fuzz/corpus.
fuzz:
	cargo install --quiet --locked --root tests/.tools cargo-fuzz@0.13.2
	for target in $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs))); do \
		RUSTC_BOOTSTRAP=1 tests/.tools/bin/cargo-fuzz run --fuzz-dir tests/fuzz $$target \
			-- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done
	PROPTEST_CASES=$(CASES) TAIL_SEQUENCES=$(CASES) CRASHES=1000 KILLS=1000 cargo test --release --locked

# kill -9 fifty times while a sender goes on: what is in the spool is counted once, and nothing else is.
KILLS ?= 50
kills:
	KILLS=$(KILLS) cargo test --locked --features kafka --test it -- --nocapture syslog::what_is_in_the_spool

# Known vulnerabilities of the crates that are used; the list comes over the network.
audit:
	tests/.tools/bin/cargo-deny --locked check advisories

# The attacks that take a quarter of an hour, with a release build: what a sender that makes up hosts does to memory.
attacks:
	cargo test --locked --release --test it -- --ignored --nocapture --test-threads=1 attacks::

# What real logrotate's copytruncate costs a writer of 20,000 and of 200,000 lines a second: two minutes.
copytruncate:
	cargo test --locked --lib -- --ignored --nocapture copytruncate_for_long

# Whether `increase()` sees every first event on real servers, old and new, slow and fast, in text and protobuf: minutes,
# and a Prometheus 3.16 that is built once (tests/install-prometheus3.sh).
births:
	tests/install-prometheus3.sh
	cargo test --locked --test it -- --ignored --nocapture births

# The incidents of tests/fixtures/incidents, slower than in `make test`: a minute of theirs has so many seconds. 60 is real
# time, with nothing scaled, and takes two hours. Also the rules' unit tests with the promtool of Prometheus 3.16, and the dead
# man's switch with Alertmanager 0.35; both are built once.
INCIDENT_MINUTE ?= 60
long-incidents:
	INCIDENT_MINUTE=$(INCIDENT_MINUTE) cargo test --locked --test it -- --nocapture --test-threads=8 incidents::
	cargo test --locked --test it -- --ignored --nocapture promtool_of_prometheus_3 the_dead_mans_switch_of a_restart_of_prometheus_3

# Everything that is published, in dist/: see CONTRIBUTING.md, "Release". Signed if SIGNING_KEY names a key of gpg.
dist:
	rm -rf dist
	deploy/dist.py dist
	[ -z "$(SIGNING_KEY)" ] || gpg --local-user "$(SIGNING_KEY)" --armor --detach-sign dist/sha256sums.txt

# Whether `make dist` gives the same bytes again, from nothing: twice the time of a release build for two targets.
reproduce: dist
	rm -rf dist.before $(dir $(patsubst %/,%,$(dir $(released))))dist
	mv dist dist.before
	$(MAKE) dist
	diff -r dist.before dist
	rm -r dist.before

# The Helm chart through the real helm, against the schemas of Kubernetes and of the Prometheus operator. Compiles both
# tools the first time, with Go.
helm:
	tests/helm.sh
