# make demo, make test: all that a newcomer needs. Everything is installed into .venv from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# 3.10 is the oldest Python that we support: the lock must hold versions for it too, whatever runs here.
LOCK := $(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes --all-extras --group dev pyproject.toml
# Tests run in so many processes, each with servers of its own; the longer half of a test's time is waiting.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term:skip-covered

.PHONY: help env compiled lock relock demo fmt check test test-all chaos sim sim-mutants bench services clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

env: $(VENV)/.installed ## .venv with everything that the lock names

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps -e .
	@touch $@

relock: ## the lock after a change of pyproject.toml, without newer versions of the rest
	$(LOCK) --custom-compile-command "make relock" -o requirements.lock

lock: ## the lock with the newest versions of everything
	$(LOCK) --custom-compile-command "make relock" --upgrade -o requirements.lock

demo: env ## the main job, embedded, on real data
	@$(BIN)/python -m topologies.demo

fmt: env ## format and mend what ruff can
	$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format --quiet .

check: env ## what CI checks before the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache  # its cache does not see a module that was missing before
	$(BIN)/python .ci/lock_is_current.py $(LOCK)

# Tests start hundreds of processes. Where PYTHONDONTWRITEBYTECODE is set each would compile all modules anew.
compiled: env
	@$(BIN)/python -m compileall -q -j 0 streamcore batch_adapters topologies tests

test: compiled ## everything, with a turning share of the slow tests, and which lines none of them runs
	$(PYTEST)

test-all: compiled ## everything, all slow tests included
	$(PYTEST) --share=all

chaos: compiled ## faults on real servers: make chaos MINUTES=30
	$(BIN)/python -m tests.faults.chaos --minutes $(or $(MINUTES),10)

sim: env ## seeded worlds in one process: make sim N=1000, FIRST=300 where to begin, or SEED=17 to see one again
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--runs $(or $(N),300) --first $(or $(FIRST),0))

sim-mutants: env ## mistakes planted in streamcore: each must be caught by one of 200 seeds
	@$(BIN)/python -m tests.simulation --mutants search

bench: env .venv-bench/.installed ## we and the peers on the same work
	$(BIN)/python -m benchmarks

.venv-bench/.installed: benchmarks/requirements.txt
	@$(PYTHON) -m venv .venv-bench
	@VIRTUAL_ENV=.venv-bench $(UV) pip install --quiet -r benchmarks/requirements.txt
	@touch $@

services: env ## real servers for you: eval "$$(make -s services)"; ended by python -m tests.services down
	@$(BIN)/python -m tests.services up

clean: ## remove what was made here
	rm -rf $(VENV) .venv-bench .streamcore out .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
