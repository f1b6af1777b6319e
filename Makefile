# `make run` and `make test` do everything, `make bench` measures. Set-up is part of each and is done once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.ready-to-run
TESTS := $(VENV)/.ready-to-test
TESTERS ?= 2

.PHONY: run test bench clean help

help:
	@echo "make run    set up, then the main job: anygrid run darcy (about 6 minutes on 2 cores after the set-up)"
	@echo "make test   set up, then lint, format, types, import contract and tests"
	@echo "make bench  set up, then every speed benchmark (more than an hour, quiet machine; benchmarks/bench.py has the trainings)"
	@echo "make clean  remove the virtual environment and caches (runs/ stays)"
	@echo "PYTHON=python3.12 chooses the interpreter (3.11 or newer)"

run: $(RUNS)
	$(BIN)/anygrid run darcy

test: $(TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(TESTERS)

bench: $(TESTS)
	$(BIN)/python benchmarks/bench.py

# A change of the dependencies renews the stamps; the package itself is installed editable.
$(RUNS): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(TESTS): $(RUNS)
	@echo "installing test tools and the libraries tests compare with (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,grib,peer]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
