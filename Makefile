# `make` or `make help` lists the targets. On a system other than Debian 12 or 13: make SETUP=true ...

PYTHON ?= python3
SETUP ?= setup/debian.sh
SCENARIO ?= scenarios/resize.py
PYTEST_FLAGS ?=
FAULTS ?=
VARIANT ?= a
# One clone and one boot each: for an image that is full and slow to unpack (a), and for one that lives in memory (b).
SCENARIOS_a := scenarios/boot.py::test_kubelet_is_on_its_own 'scenarios/resize.py::test_data_partition_fills_a_larger_disk[4]'
SCENARIOS_b := scenarios/boot.py::test_kubelet_is_on_its_own 'scenarios/in_memory.py::test_a_disk_that_was_never_mounted_grows[512]'
VARIANT_SCENARIOS ?= $(or $(SCENARIOS_$(VARIANT)),$(SCENARIOS_a))
# A variant is a disk image or, like b, the outputs of kiOS's build.
OPTIONS_b := --kios-efi "$$made/boot/EFI/Boot/Bootx64.efi" --kios-initrd "$$made/initrd" --kios-modules "$$made/lib/modules"
VARIANT_OPTIONS = $(or $(OPTIONS_$(VARIANT)),--kios-image "$$made")

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
PACKAGES := packages-python packages-test packages-image packages-run packages-go packages-browser
.PHONY: help scenario variant faults bench qemu image check-tool check-oracle check-examples check-report prove test lint format lock
.PHONY: clean venv bench-venv browser-venv $(PACKAGES)

VENV := .venv
BIN := $(VENV)/bin

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

scenario: packages-run qemu image ## Boot the reference image and run one scenario: SCENARIO=scenarios/resize.py
	$(BIN)/python -m pytest $(SCENARIO) -n auto $(PYTEST_FLAGS)

faults: packages-run qemu image ## Break what the scenarios check; each fault must be caught and named: FAULTS="NAME..."
	$(BIN)/python -m faults $(FAULTS)

variant: packages-run qemu image ## Run some scenarios on a variant of the reference image: VARIANT=a
	made=$$($(BIN)/python -m images build --variant $(VARIANT)) && \
	    $(BIN)/python -m pytest $(VARIANT_SCENARIOS) $(VARIANT_OPTIONS) -n auto $(PYTEST_FLAGS)

bench: packages-run qemu image bench-venv ## Measure the harness on this host, and its peers for comparison
	$(BIN)/python -m bench

qemu: packages-run ## Unpack a QEMU into the cache that can freeze a node
	@setup/qemu.sh

image: packages-image venv ## Build the reference image, in ~/.cache/kios-e2e
	$(BIN)/python -m images build

check-tool: packages-go venv ## Build only the program that applies the kubelet's rules, for kios-e2e check
	$(BIN)/python -m images check-tool

check-oracle: check-tool ## Compare the rules for manifests with the kubelet's own, on generated manifests
	$(BIN)/python -m pytest tests/manifests/oracle.py -q -s $(PYTEST_FLAGS)

check-examples: packages-go venv ## Check docs/shards by an API server's own rules and by linters of workflows
	$(BIN)/python -m pytest tests/setup/examples.py -q $(PYTEST_FLAGS)

check-report: packages-browser browser-venv ## Open the report in a browser, and check it with axe
	$(VENV)-browser/bin/python -m pytest tests/report/test_browser.py -q $(PYTEST_FLAGS)

prove: packages-run qemu image ## Qualify the reference image, a slower one and broken ones, in half an hour; PROOF=FOLDER keeps the results
	$(BIN)/python -m pytest tests/qualification/proof.py -v -s $(PYTEST_FLAGS)

test: packages-test qemu lint ## Check style and types, run the unit tests
	$(BIN)/python -m pytest tests -n $$(nproc) --timeout 300 $(PYTEST_FLAGS)

lint: venv ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: venv ## Format, and fix what ruff can fix
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

# The stamp is written last, so that an interrupted install is repeated. So is one whose lock, pyproject.toml (entry points) or
# interpreter has changed. Wheels only: what a source distribution needs for its build has no hash in the lock.
define install
	@if [ "$$(cat $(1)/lock.sha256 2>/dev/null)" = "$$(cat $(2) pyproject.toml | sha256sum)" ] && $(1)/bin/python -c '' 2>/dev/null; then exit 0; fi; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'make: $(PYTHON) is older than 3.11; name another: make PYTHON=...' >&2; exit 1; }; \
	echo 'venv: installing $(2)'; \
	rm -rf $(1); \
	$(PYTHON) -m venv $(1); \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: --require-hashes -r $(2); \
	$(3) \
	cat $(2) pyproject.toml | sha256sum >$(1)/lock.sha256; \
	echo 'venv: done'
endef

venv: packages-python ## Make .venv from requirements.lock
	$(call install,$(VENV),requirements.lock,$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --no-index --editable .;)

browser-venv: packages-python
	$(call install,$(VENV)-browser,tests/report/browser.lock)

bench-venv: packages-python ## Make .venv-bench, for the peers that the harness is compared with, from bench/peers.lock
	$(call install,$(VENV)-bench,bench/peers.lock)

# Versions that still fit are kept; make lock LOCK_FLAGS=--upgrade takes the newest ones. Nothing younger than a week is taken: not
# every mirror has it yet, and a bad upload is found by then.
lock: packages-python ## Make requirements.lock from pyproject.toml, bench/peers.lock from bench/peers.in, and tests/report/browser.lock
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install --quiet --disable-pip-version-check uv; \
	compile() { \
	    env -u UV_FIND_LINKS "$$folder/bin/uv" pip compile --quiet --universal --generate-hashes \
	        --no-emit-index-url --no-emit-find-links --no-config --custom-compile-command 'make lock' \
	        --exclude-newer '7 days' $(LOCK_FLAGS) --output-file "$$@"; \
	}; \
	compile requirements.lock --extra dev pyproject.toml; \
	compile bench/peers.lock --python-version 3.11 bench/peers.in; \
	compile tests/report/browser.lock --extra dev --extra browser --constraint requirements.lock pyproject.toml; \
	echo 'lock: requirements.lock, bench/peers.lock and tests/report/browser.lock are made'

# A static pattern rule: for a phony target, make considers no implicit one.
$(PACKAGES): packages-%:
	@$(SETUP) $*

clean: ## Remove what make made in this folder; the cache stays
	rm -rf $(VENV) $(VENV)-bench $(VENV)-browser artifacts .mypy_cache .pytest_cache .ruff_cache .hypothesis
