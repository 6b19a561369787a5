# `make` alone prints this help. Everything is set up on demand: .venv, llama.cpp, models.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
RELEASE := .venv-release
DEVICE_TESTS := $(patsubst %,tests/engine/test_%.py,engine judge session) tests/test_device.py tests/llama/test_server.py tests/layers tests/bits/test_curves.py \
	tests/bits/test_output_importance.py
SPREAD := --numprocesses auto --dist worksteal
STAMP := $(VENV)/.complete
WEB := tests/web/node_modules/.complete
RECIPE ?= quickstart
SECONDS ?= 600
SEED ?= 0
SAMPLE ?= 200
PACKAGES ?=
NAME ?= overhead
CASES ?= 300

.PHONY: help fuzz architectures demo run test slow test-device lowest release faults mutants toolchain lint types bench lock clean
.DEFAULT_GOAL := help

help: ## print this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: RECIPE := quickstart
demo: run ## measure, quantize and write up a small real model

run: toolchain ## carry out a recipe: make run RECIPE=quickstart
	$(BIN)/lwq run recipes/$(RECIPE).toml

test: toolchain lint types $(WEB) ## lint, types and all tests but the slow tier
	$(BIN)/lwq toolchain converter
	$(BIN)/python -m pytest -q $(SPREAD) -m "not slow"

slow: toolchain ## the slow tier: whole runs, killed and resumed; real models, many architectures
	$(BIN)/lwq toolchain converter
	$(BIN)/python -m pytest -q $(SPREAD) -m slow

test-device: $(STAMP) ## the engine's tests on a device whose memory is not the process's: llama.cpp's RPC server
	$(BIN)/lwq toolchain build --backend rpc
	$(BIN)/python -m pytest -q $(SPREAD) --device rpc -m tools $(DEVICE_TESTS)
	$(BIN)/python -m pytest -q $(SPREAD) --device rpc2 -m tools tests/test_device.py tests/engine/test_session.py

fuzz: $(STAMP) ## inputs that are nearly right, for every reader of files: make fuzz SECONDS=600 SEED=1
	$(BIN)/python -W ignore -m tests.fuzzing $(SECONDS) $(SEED)

faults: toolchain ## runs of lwq under faults of disk, memory, signals, tools: make faults SEED=7 CASES=3000, or CASE=disk-17
	$(BIN)/python -m tests.faults $(SEED) $(CASES) $(CASE)
mutants: $(STAMP) ## whether the tests notice changed functions: make mutants SAMPLE=200 SEED=0 PACKAGES="metrics files"
	$(BIN)/python -m tests.mutants $(SAMPLE) $(SEED) $(PACKAGES)

lowest: $(STAMP) ## the fast tests with the lowest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --extra parquet -o $(LOWEST)/requirements.txt pyproject.toml
	CMAKE_ARGS=-DLLAMA_BUILD=OFF $(BIN)/uv pip install --quiet --python $(LOWEST) -r $(LOWEST)/requirements.txt \
		pytest pytest-xdist hypothesis pyyaml
	$(LOWEST)/bin/python -m pytest -q $(SPREAD) -m "not tools and not slow and not web" -W ignore::DeprecationWarning

release: $(RELEASE)/.complete ## make and check all of a release in dist/, upload nothing: make release AUDIT="-s osv"
	$(BIN)/lwq toolchain converter
	$(RELEASE)/bin/python -m release dist "$$($(BIN)/lwq -q toolchain converter | sed 's/.*: //')" $(AUDIT)

architectures: toolchain ## docs/architectures.md anew: every stage on tiny models of many architectures (an hour)
	$(BIN)/python -m tests.architectures .architectures

toolchain: $(STAMP) ## fetch and build the pinned llama.cpp
	$(BIN)/lwq toolchain build

lint: $(STAMP) ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

bench: toolchain ## one benchmark: make bench NAME=overhead
	$(BIN)/python benchmarks/$(NAME).py

lock: ## write requirements.lock and the other locks anew
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --extra dev --no-header \
		--no-emit-index-url --no-emit-find-links -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links -o lwq/llama/converter.lock lwq/llama/converter.in
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links -o release/tools.lock release/tools.in

clean: ## remove .venv and caches of this checkout (not the user's cache of toolchains and steps)
	rm -rf $(VENV) $(LOWEST) $(RELEASE) dist $(dir $(WEB)) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find lwq tests benchmarks recipes -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so a broken-off installation never counts.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "this Python has no venv; sudo apt-get install python3-venv" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	CMAKE_ARGS=-DLLAMA_BUILD=OFF $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

$(WEB): $(STAMP) tests/web/package-lock.json tests/web/unpack.mjs tests/browser.py
	$(BIN)/python -m tests.browser

$(RELEASE)/.complete: $(STAMP) release/tools.lock
	rm -rf $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r release/tools.lock
	touch $@
