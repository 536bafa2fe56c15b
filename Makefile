# What a person needs: make demo, make test. Plain `make` lists the rest.
CARGO ?= cargo
LOCKED ?= --locked
# What `make demo` passes on, for example ARGS="--listen 127.0.0.1:9000".
ARGS ?=
# Where Debian keeps haproxy; a user's PATH often lacks it.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help demo test lint bench

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

# The debug profile: it builds in about a minute where --release takes several, and HAProxy carries the traffic.
demo: ## Build, then run a complete local setup: mock backends, HAProxy, agent
	@scripts/install-needs demo
	@$(CARGO) build $(LOCKED) --bin hapilot
	@exec $(CARGO) run $(LOCKED) --quiet --bin hapilot -- demo $(ARGS)

test: ## Run all tests; what cannot run here is listed as skipped
	@scripts/install-needs test
	@scripts/run-tests

lint: ## Formatting, clippy, documentation, dependencies, scripts
	@scripts/lint

bench: ## Run the benchmarks
	@$(CARGO) bench $(LOCKED)
