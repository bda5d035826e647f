# What ztmon costs. docs/performance.md says what each target measures, what can be set, and what the figures mean.
export BENCH_DIR ?= target/bench

.PHONY: bench bench-live bench-parts callgrind program

# Capture files: ztmon, cat and others on the same file.
bench: program
	@scripts/install python3 time gzip zstd sqlite3
	@for peer in tcpdump tcpstat tshark pmacct nfdump; do scripts/install $$peer || echo "cannot be had: $$peer" >&2; done
	@python3 benches/compare/replay.py

# A device: ztmon and tcpdump on the same traffic. Needs root.
bench-live: program
	@scripts/install python3 iproute2 util-linux tcpdump
	@unshare --net --mount python3 benches/compare/live.py

# Each part alone.
bench-parts: program
	@scripts/install python3
	@cargo bench --locked >&2
	@python3 benches/compare/parts.py

# Instructions a frame and a commit.
callgrind: program
	@scripts/install python3 valgrind
	@python3 benches/compare/instructions.py

program:
	@scripts/install libpcap-dev gcc libc6-dev >&2
	@cargo build --release --locked --bin ztmon --examples
