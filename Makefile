# `make demo` and `make test` need a Debian machine with Python 3.11 or newer, pip and make; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench venv clean

venv: $(VENV)/.installed

# ensurepip is missing where Debian's python3-venv is not installed; say so in one line.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lambent needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: venv
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/demo.py

check: venv
	$(BIN)/ruff check src tests bench scripts
	$(BIN)/ruff format --check src tests bench scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two at a time: most of the tests of real nodes wait. The tests of a file stay together.
test: venv check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

bench: venv
	$(BIN)/python bench/run.py
	$(BIN)/python -m bench.snapstart
	$(BIN)/python -m bench.prewarm
	$(BIN)/python -m bench.burst
	$(BIN)/python -m bench.processes
	$(BIN)/python bench/keepalive.py
	$(BIN)/python -m bench.events
	$(BIN)/python -m bench.web

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
