# Everything a newcomer types. Each target sets up what it needs.
PYTHON ?= python3
BENCH ?= entropy_speed
JOBS ?= 2
BIN := .venv/bin

.PHONY: help venv demo test lint bench clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 8

venv: .venv/.ready  ## Make .venv with all that training, export, playback and tests need

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[train,export,cpu,dev]'
	@touch $@

demo: venv  ## Train, export and play the embedded clip; results in demo/
	$(BIN)/python -m tests.bench.demo

test: venv  ## Run the whole test suite
	$(BIN)/python -m pytest -n $(JOBS)

lint: venv  ## Style, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy runtime player export train
	$(BIN)/lint-imports

bench: venv  ## Run one benchmark: make bench BENCH=entropy_speed
	$(BIN)/python -m tests.bench.$(BENCH)

clean:  ## Remove the environment and caches; models, demo/ and what benches keep in build/ stay
	rm -rf .venv dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
