# Needs Python 3.11 or later with pip; everything else is installed into .venv (and .venv-bare).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# What pip is asked for before everything else, e.g. TORCH="torch==2.13.0".
TORCH ?= torch

BIN := .venv/bin
BARE := .venv-bare
# Installed again when pyproject.toml changes or another TORCH is asked for.
STAMP := .venv/.installed-$(shell printf '%s' '$(TORCH)' | cksum | cut -d ' ' -f 1)

.PHONY: demo test slow lint install clean

demo: install
	$(BIN)/autoseg demo

# pytest's summary of the end-to-end run is the last output.
test: install $(BARE)/.installed lint
	$(BIN)/pytest
	$(BIN)/pytest tests -m end_to_end --bare-python=$(BARE)/bin/python

slow: install $(BARE)/.installed
	$(BIN)/pytest tests -m 'slow and not gpu' --bare-python=$(BARE)/bin/python

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# What an exported model asks for, and nothing else.
$(BARE)/.installed:
	test -x $(BARE)/bin/python || $(PYTHON) -m venv $(BARE)
	$(BARE)/bin/python -m pip install --quiet numpy scipy SimpleITK onnxruntime pillow
	touch $@

clean:
	rm -rf .venv $(BARE) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
