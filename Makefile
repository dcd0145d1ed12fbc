# make demo, make test: all that a newcomer needs. Everything is installed into .venv from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --all-extras --group dev pyproject.toml

.PHONY: env lock demo check fmt test test-all chaos bench promtool clean

env: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps -e .
	@touch $@

lock: ## resolve the dependencies anew into requirements.lock
	$(LOCK) --upgrade -o requirements.lock

demo: env ## the main job, embedded, on real data
	@$(BIN)/python -m topologies.demo

fmt: env
	$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format --quiet .

check: env ## what CI checks before the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(LOCK) -o .venv/requirements.check --no-header --custom-compile-command x --constraints requirements.lock >/dev/null && \
	  $(BIN)/python .ci/lock_is_current.py .venv/requirements.check requirements.lock

test: env ## everything, with a turning share of the slow tests
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

test-all: env
	$(BIN)/python -m pytest --cov --share=all

chaos: env ## make chaos MINUTES=30
	$(BIN)/python -m tests.faults.chaos --minutes $(or $(MINUTES),10)

bench: env
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .streamcore .services out
