# make demo | test | test-all | check | clean. Everything else is done on the way: a virtual
# environment in .venv with all that pyproject.toml names, and a simulator repaired from its wheel.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.rpaccel
PYTEST_JOBS ?= 2

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-all check lint format clean distclean

help:
	@echo 'make demo      run examples/demo.toml end to end; results in build/demo/'
	@echo 'make test      the tests that pull requests must pass'
	@echo 'make test-all  those and the slow ones'
	@echo 'make check     linter, formatter, type checker, Verilog lint'
	@echo 'make clean     remove results and caches (distclean: the environment too)'
	@echo 'PYTHON=python3.12 make ... chooses the Python that makes the environment'

demo: $(STAMP)
	$(BIN)/rpaccel run examples/demo.toml --output build/demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $(PYTEST_JOBS) --dist worksteal -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest -n $(PYTEST_JOBS) --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py tests/test_sim_lint.py tests/test_rtl_gen_generate.py::test_lint

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find rpaccel rtl_gen sw_model sim tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# The environment is made anew when its recipe changes. An interrupted installation leaves no stamp.
$(STAMP): pyproject.toml
	@$(call needs,$(PYTHON),python3)
	@$(call needs,g++,g++)
	@$(call needs,make,make)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); 3.11 or later is needed: make PYTHON=python3.11"; exit 3; } >&2
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	    || { echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv"; exit 3; } >&2
	@echo "== installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[test,lint]' \
	    | sed -un -e 's/^Collecting \([^ ]*\).*/   \1/p' -e 's/^Installing collected.*/== unpacking/p'
	@$(BIN)/python -m sim.toolchain
	@touch $@

# Stop with exit code 3 and the Debian package's name if a command is missing.
needs = command -v $(1) >/dev/null || { echo "$(1) not found; on Debian: apt install $(2)" >&2; exit 3; }
