# `make demo` and `make test` are all a newcomer needs. `make check` is exactly what CI runs besides the tests.

CARGO ?= cargo
# The scenarios run this profile: nearly the release speed, without the minute of whole-program linking.
PROFILE ?= fast
BIN := target/$(PROFILE)
REPORTS ?= reports
SEED ?= 1
# Where `make demo` keeps its stock: embedded, or redis (two gateways, one Redis).
LEDGER ?= embedded
RUNS ?= 20
MINUTES ?= 5
# What the tests start besides Tidegate; see scripts/install-packages.
TEST_NEEDS := wrk curl openssl python3 redis-server redis-sentinel /sbin/mkfs.ext4=e2fsprogs

.PHONY: help demo serve test unit scenarios teeth check soak fuzz bench build clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## gateway, load test and the example worker
	@$(CARGO) build --quiet --profile $(PROFILE) -p tidegate -p tidegate-loadtest
	@$(CARGO) build --quiet --profile $(PROFILE) -p tidegate-client --features sqlite --example order_worker

demo: build ## a whole flash sale in under a minute, with its verdict; LEDGER=redis: two gateways, one stock
	@[ $(LEDGER) = embedded ] || scripts/install-packages redis-server
	@$(BIN)/tidegate-loadtest run loadtest/scenarios/demo.toml --spawn $(BIN)/tidegate --ledger $(LEDGER) --seed $(SEED) --report $(REPORTS)/demo

serve: build ## a gateway on 127.0.0.1:8080 (buyers) and :8081 (workers, operators)
	@$(BIN)/tidegate serve --config config/tidegate.toml

test: unit scenarios teeth ## every test: unit, property, end to end, scenarios, the verdict's teeth

unit:
	@scripts/install-packages $(TEST_NEEDS)
	$(CARGO) test --workspace
	$(CARGO) test -p tidegate-queue --features shuttle --test schedules

scenarios: build
	@scripts/install-packages redis-server redis-sentinel
	@scripts/scenarios $(BIN) $(REPORTS)

teeth: build
	@scripts/teeth $(BIN) $(REPORTS)

check: ## formatting, lints, docs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

soak: build ## the long runs: every fault many times (RUNS=20), property tests with many more cases
	@scripts/install-packages $(TEST_NEEDS)
	@scripts/soak $(BIN) $(REPORTS) $(RUNS)

fuzz: ## the queue's decoders and its recovery under libFuzzer, MINUTES=5 each (nightly compiler, cargo-fuzz)
	@scripts/fuzz $(MINUTES)

bench: ## measured figures beside their goals, one table; ROWS="P4 P5" measures only those
	@scripts/bench

clean:
	$(CARGO) clean
	rm -rf $(REPORTS)
