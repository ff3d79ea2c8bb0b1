# The door. Each target makes what it needs; `make test PYTHON=python3.12` takes another Python.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: demo test test-slow test-parity bench check lock clean

demo: .venv/ready
	@$(BIN)/toolkit demo

test: .venv/ready
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not browser and not gpu and not parity"

test-slow: .venv/ready
	$(BIN)/pytest -m "slow and not parity"

test-parity: .venv/ready
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/pytest -m parity

bench: .venv/ready
	$(BIN)/python -m experiments.benchmarks

check: .venv/ready
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

lock: .venv/ready
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		--upgrade --extra dev --extra notebooks --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .venv-peers .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11+ is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@
