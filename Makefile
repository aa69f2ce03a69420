# The few commands of this repository. `make` lists them.
#
# Why make: `make test` and `make demo` install, build and prepare what they need, on a machine that has only git, make and
# a Rust toolchain.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build demo test lint clean packages image

CARGO ?= cargo
# What is expensive to make and not part of the build: the test image, programs for lint.
CACHE := $(CURDIR)/.cache

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: packages ## build target/release/bundle
	$(CARGO) build --release --locked

demo: build image ## show the whole journey: export, verify offline, apply, roll back
	demo/run.sh

test: packages image ## run all tests, and those of the build without network code and libostree
	BUNDLE_TEST_IMAGE='$(CACHE)/image/oci' $(CARGO) test --workspace --locked
	$(CARGO) test --locked --no-default-features

# Advisories are fetched from their public database, which not every build machine can reach: said then, not fatal.
lint: packages ## check formatting, lints, scripts, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --all-targets --locked --no-default-features -- -D warnings
	@if command -v shellcheck >/dev/null; then \
		git ls-files -z '*.sh' .ci/run tests/image/files/grub-mkconfig | xargs -0 shellcheck; \
	else echo 'lint: shellcheck is not installed: scripts not checked' >&2; fi
	@PATH="$(CACHE)/tools/bin:$$PATH"; \
	if ! command -v cargo-deny >/dev/null; then \
		echo 'lint: cargo-deny is not installed: licences not checked' >&2; \
	else \
		$(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources || exit 1; \
		if $(CARGO) deny --locked fetch db 2>/dev/null; then \
			$(CARGO) deny --locked check --disable-fetch advisories; \
		else echo 'lint: the advisory database is out of reach: advisories not checked' >&2; fi; \
	fi

clean: ## remove what was built, the test image included
	rm -rf target .cache

# Quick when there is nothing to do.
packages:
	@tests/install-packages.sh

image: packages
	@tests/image/build.sh '$(CACHE)/image'
