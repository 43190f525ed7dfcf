# Needs Python >= 3.11, pip and make; everything else is built in .venv from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
PIP = $$(test -e .venv/.bare && echo "$(PYTHON) -m pip --python $(BIN)/python" || echo "$(BIN)/python -m pip")
PIP_INSTALL = $(PIP) install --quiet --no-input --disable-pip-version-check
PYTEST_ARGS ?=
TEMPLATE_LOCK := src/ecluse/templates/churn/requirements.lock

.DEFAULT_GOAL := help
.PHONY: help demo test nightly lint format lock install clean

help:
	@echo "make demo     the whole loop, once, with real parts"
	@echo "make test     lint, types, layers and tests"
	@echo "make nightly  the long tests too"
	@echo "make lint     format check, lint, types, layers"
	@echo "make format   rewrite the sources in the house format"
	@echo "make lock     resolve requirements.lock anew (needs uv)"

demo: install
	$(BIN)/ecluse demo

test: lint
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_ARGS)

nightly: lint
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -n 2 --dist loadfile -m "nightly or not nightly" $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: install
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

lock:
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --universal --no-emit-index-url \
		--extra all --group dev pyproject.toml -o requirements.lock
	head -n 2 $(TEMPLATE_LOCK) > $(TEMPLATE_LOCK).new
	echo pytest | uv pip compile --quiet --generate-hashes --no-header --no-annotate --universal --no-emit-index-url \
		--extra all pyproject.toml - -c requirements.lock >> $(TEMPLATE_LOCK).new
	mv $(TEMPLATE_LOCK).new $(TEMPLATE_LOCK)

install: .venv/.installed

.venv/.installed: .venv/.locked pyproject.toml
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.locked: requirements.lock | $(BIN)/python
	@echo "installing requirements.lock into .venv (about a minute)"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@touch $@

# Some distributions split ensurepip from Python: then the pip that is there fills the environment from outside.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python >= 3.11 is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv >/dev/null || { $(PYTHON) -m venv --clear --without-pip .venv && touch .venv/.bare; }

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
