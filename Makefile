# What one does with this repository; `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help setup demo check test kills bench contract image cluster cluster-down e2e e2e-all

STAGE := .ci/stage

help:
	@echo 'make demo      a NEAR chain, a token and a one-minute load at 200 transfers/s on this machine: the result table'
	@echo 'make check     format, lints, the borders between crates, licences (where cargo-deny is installed)'
	@echo 'make test      check, alerts and dashboard, the token contract against its committed bytes, devnet with a foreign client, the report in a browser, and every test'
	@echo 'make kills     50 runs that are killed with kill -9, and their chain too, under faults (some 25 minutes)'
	@echo 'make bench     every benchmark'
	@echo 'make contract  rebuild the token contract and its checksum'
	@echo 'make image     the image of nearbench, without a container engine: out/nearbench.tar'
	@echo 'make cluster   a Kubernetes of one node on this machine (root); with KUBECONFIG, checks that one'
	@echo 'make cluster-down  take that Kubernetes away'
	@echo 'make e2e       tests in a real Kubernetes, brought up for them where there is none'
	@echo 'make e2e-all   the same with those that take long (some 30 minutes)'
	@echo 'make setup     install what this machine lacks; the others call it'

setup:
	@.ci/setup

demo: setup
	cargo build --release --locked --package nearbench-cli
	target/release/nearbench run examples/quickstart.yaml --out out/quickstart

# The stages that need seconds come first.
check: setup
	@$(STAGE) format cargo fmt --all --check
	@$(STAGE) format-ft cargo fmt --check --manifest-path contracts/ft/Cargo.toml
	@$(STAGE) borders .ci/borders
	@if command -v cargo-deny >/dev/null; then $(STAGE) deny cargo deny --log-level error check; fi
	@$(STAGE) clippy cargo clippy --workspace --all-targets --locked -- -D warnings

# Build and run apart, so that the time of each is seen. Every cargo command here and in CI takes the
# whole workspace with its one feature set and one profile: another would compile everything again.
test: check
	@.ci/setup clients
	@.ci/setup servers
	@$(STAGE) charts charts/check.sh
	@$(STAGE) contract contracts/ft/check.sh
	@$(STAGE) build cargo test --workspace --locked --no-run
	@$(STAGE) clients devnet/clients/near-api-js/check.sh
	@$(STAGE) page cli/page/check/check.sh
	@$(STAGE) test cargo test --workspace --locked

# KILLS scenarios, each from its seed; NEARBENCH_KILL_SEED=N repeats one.
KILLS ?= 50
kills: setup
	NEARBENCH_KILLS=$(KILLS) cargo test --workspace --locked --test it kills:: -- --nocapture

bench: setup
	@.ci/setup servers
	cargo bench --workspace --locked --benches

contract: setup
	contracts/ft/build.sh contracts/ft/res/ft.wasm
	cd contracts/ft/res && sha256sum ft.wasm >ft.wasm.sha256

# The image is a binary and the libraries it loads. NEARBENCH_PROFILE=dev takes the build that `make test`
# makes; BINARY one that is there. IMAGE is the archive, TAG the name in it.
NEARBENCH_PROFILE ?= release
TAG ?= nearbench:latest
IMAGE ?= out/nearbench.tar
TARGET := $(or $(CARGO_TARGET_DIR),target)
BUILD-dev := cargo build --workspace --locked --bins
BUILD-release := cargo build --release --locked --package nearbench-cli
BINARY-dev := $(TARGET)/debug/nearbench
BINARY-release := $(TARGET)/release/nearbench

image: $(if $(BINARY),,setup)
	$(if $(BUILD-$(NEARBENCH_PROFILE)),,$(error NEARBENCH_PROFILE=$(NEARBENCH_PROFILE): is dev or release))
	$(if $(BINARY),,$(BUILD-$(NEARBENCH_PROFILE)))
	e2e/image/build $(or $(BINARY),$(BINARY-$(NEARBENCH_PROFILE))) $(TAG) $(IMAGE)

cluster:
	@python3 -m e2e.cluster up

cluster-down:
	@python3 -m e2e.cluster down

e2e:
	@e2e/run

e2e-all:
	@NEARBENCH_E2E_ALL=1 $(MAKE) --no-print-directory e2e
