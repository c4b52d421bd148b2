# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 or newer and a C++ compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build. With a GPU: make demo TORCH=torch
TORCH ?= torch==2.13.0
RUN ?= runs/demo

.PHONY: demo chat test test-slow lint bench clean

$(VENV)/.installed: pyproject.toml setup.py $(shell find src -name '*.pyx')
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed  ## the embedded sample wiki to a chat, in about ten minutes
	$(BIN)/wikigpt build demo --run $(RUN)
	@echo
	@echo "Go on:  make chat"
	@echo "        $(BIN)/wikigpt build --dump YOUR-WIKI.xml.bz2 --run runs/mine"

chat: $(VENV)/.installed  ## talk to what `make demo` built; before that, to the model that comes along
	$(BIN)/wikigpt chat $(if $(wildcard $(RUN)/model/config.json),$(RUN))

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint  ## style, types, and the fast test suite
	$(BIN)/python -m pytest

test-slow: lint  ## heavier checks: a whole demo run and its figures
	$(BIN)/python -m pytest -m slow --timeout 3600

bench: $(VENV)/.installed-dev  ## compare with peers; writes benchmarks/*.json and benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
