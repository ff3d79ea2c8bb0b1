# The door. Each target makes what it needs; `make test PYTHON=python3.12` takes another Python.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet -c requirements.lock
.PHONY: demo serve notebooks docs test test-slow test-parity test-browser bench bench-gpu check lock clean

demo serve: .venv/ready
	@$(BIN)/toolkit $@

notebooks: .venv/ready
	$(BIN)/python notebooks/execute.py
docs: .venv/ready
	$(PIP) -e ".[docs]" && $(BIN)/sphinx-build -W --keep-going docs docs/_build/html

test: .venv/ready
	$(BIN)/pytest -n 2 --dist loadfile --max-worker-restart 0 -m "not slow and not browser and not gpu and not parity"
test-slow: .venv/ready
	$(BIN)/pytest -m "slow and not parity and not browser"
test-parity: .venv/ready
	$(PIP) torch==2.13.0 && $(BIN)/python -m pip install --quiet "lm-eval[api]==0.4.13" && $(BIN)/pytest -m parity
test-browser: .venv/ready
	test -x /usr/bin/chromium || apt-get install -y chromium fonts-dejavu-core
	$(PIP) -e ".[browser]" && $(BIN)/pytest -m browser

bench bench-gpu: .venv/ready
	$(BIN)/python -m experiments.benchmarks $(if $(findstring gpu,$@),--gpu)
check: .venv/ready
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python && $(BIN)/lint-imports
lock: .venv/ready
	$(PIP) uv && $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header \
		--no-annotate --upgrade --extra dev --extra notebooks --output-file requirements.lock pyproject.toml
clean:
	rm -rf .venv .venv-peers .pytest_cache .ruff_cache .import_linter_cache .hypothesis docs/_build docs/notebooks

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11+ is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@
