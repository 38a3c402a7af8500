# make study | make test | make ui: each sets up what it needs first. Nothing is installed outside .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SPEC ?= studies/tiny.yaml

.PHONY: help setup study test check ui clean
.DEFAULT_GOAL := help

help:
	@echo "make study    install, run the default study, print where its report is   (SPEC=studies/...)"
	@echo "make ui       install, serve the Dagster UI and the MLflow UI on 127.0.0.1"
	@echo "make test     install with test tools, run the whole default test suite"
	@echo "make check    ruff and import rules"
	@echo "make setup    install only"
	@echo "make clean    remove results/ and caches, keep .venv"

setup: $(VENV)/.installed

$(VENV)/.python: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 14)))' 2>/dev/null || { \
	  echo "ct_pipeline needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	       "Run: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.python
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	@touch $@

study: setup
	@$(BIN)/ct-pipeline study --spec $(SPEC)

ui: setup
	@$(BIN)/ct-pipeline ui --spec $(SPEC)

test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest

check: $(VENV)/.installed-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

clean:
	rm -rf results build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
