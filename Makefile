# Homeport's verbs. Each is one line or one script; `make` prints them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup test test-pure test-host test-kernel test-runtime lint conformance bench demo lock clean

python := .venv/bin/python
tiers := $(python) -m homeport_netns_fixtures.tiers
PACKETS ?= some

help: ## Prints this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs what is missing: Debian packages (as root), .venv from requirements.lock, kernels and daemons for tests
	@scripts/setup python lint host kernel runtime

test: setup ## Runs every tier and prints a line for each
	@$(tiers) lint pure host kernel runtime

test-pure: ## Needs nothing: no root, no kernel, no network
	@scripts/setup python
	@$(tiers) pure

test-host: ## Needs root: namespaces, bridges, taps, nft, real etcd
	@scripts/setup python host
	@$(tiers) host

test-kernel: ## Boots Debian's kernel once: VLANs, stateful bridge tables, real packets
	@scripts/setup python host kernel
	@$(tiers) kernel

test-runtime: ## Needs root: containerd, the stock CNI plugins, QEMU guests
	@scripts/setup python host runtime
	@$(tiers) runtime

lint: ## Format, rules, types, layers and shell scripts
	@scripts/setup python lint
	@$(tiers) lint

conformance: ## Plays NetworkPolicy cases, CASES=DIR of *.jsonl.gz: in memory and, PACKETS=none|some|all, with real packets
	@$(if $(CASES),,$(error CASES=DIR is missing: the directory with the cases, *.jsonl.gz))scripts/setup python $(if $(filter none,$(PACKETS)),,host kernel)
	@$(python) -m tests.conformance "$(CASES)" --packets "$(PACKETS)"

bench: setup ## Measures against the stock plugins on this machine, in one run
	@$(python) -m tests.bench

demo: ## Two networks, two real guests, a VLAN, a policy, one container: about four minutes
	@scripts/setup python host kernel runtime
	@$(python) -m homeport_netns_fixtures.demo

lock: ## Resolves the dependencies anew into requirements.lock and requirements-go.lock (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --no-header --upgrade --group dev pyproject.toml --output-file requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --upgrade --group go --output-file requirements-go.lock

clean: ## Removes .venv, caches of the tools and what setup unpacked and built
	@scripts/clean
