# One verb per line of work; CI calls nothing else. Everything lives in .venv and .cache beside this file.
PYTHON ?= python3
BIN := .venv/bin
ROUNDS ?= 20
FUZZ_SECONDS ?= 60
PYTEST := PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX="$(CURDIR)/.cache/pycache" $(BIN)/python -m pytest
AGAIN := Tried again, alone. What passes now depends on timing: mend it all the same.

.PHONY: demo test chaos interop bench check fuzz build clean lock
.DEFAULT_GOAL := test

# The environment, made anew whenever the pinned versions or the package's own description change.
.venv/ready: pyproject.toml requirements.lock scripts/bootstrap
	PYTHON="$(PYTHON)" scripts/bootstrap

demo: .venv/ready
	$(BIN)/townhall demo

# Much of it is waiting, for processes and for real time to pass, so two cores carry three workers. Thousands of modules
# are compiled once, also where compiled files are not wanted beside sources. What failed beside others is tried once
# more, alone: a crowded machine is told from a broken program, and both are told to who reads.
test: check
	$(PYTEST) -n 3 --dist loadgroup || { [ $$? -eq 1 ] && echo "$(AGAIN)" && $(PYTEST) -n 0 -v --last-failed --maxfail 1; }

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The rows of docs/failures.md at the pace of real life, with the figures; alone, so that they mean something.
chaos: .venv/ready
	$(BIN)/python -m pytest -n 0 --figures tests/chaos

interop: .venv/ready
	$(BIN)/python interop/run.py

bench: .venv/ready
	$(BIN)/python -m bench

fuzz: .venv/ready
	$(BIN)/pip install --quiet --require-hashes -r requirements-fuzz.lock
	for harness in tests/fuzz/fuzz_*.py; do \
	  $(BIN)/python $$harness -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 || exit 1; \
	done

build: .venv/ready
	$(BIN)/python -m build --no-isolation --outdir dist .

# Needs uv; writes pins and hashes, never an address.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra server --extra jwt --extra test --extra build pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra fuzz pyproject.toml -o requirements-fuzz.lock

clean:
	rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
