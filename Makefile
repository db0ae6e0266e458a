# `make demo` shows Windlass at work, `make test` runs its tests; each installs what it needs into .venv.
# `make quick` runs the tests that need no server, `make check` is the lint and the types, `make bench` the comparison
# with other servers, `make clean` forgets. `make soak` runs the load proofs, which `make test` runs small, at full
# size, `make seeds` simulates with fresh seeds until Ctrl-C; `make matrix` runs the tests on every Python that is
# installed, `make bare` where next to nothing is; `make mutants` looks for what no test notices.

VENV := .venv
BENCH := .venv-bench
OLD_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c '$(OLD_ENOUGH)' 2>/dev/null && echo $$python && break; done)

.DELETE_ON_ERROR:
.PHONY: demo test seeds mutants quick soak matrix bare check format bench clean .venv .venv-bench

demo: $(VENV)/run.stamp
	@$(VENV)/bin/windlass demo

# Several at a time, a file's tests in one process (tests/scheduling.py). The summary says in a line each what was
# skipped and why.
# What is compiled is kept even where the environment says not to: else each of some hundred processes compiles
# everything, and each of those several rewrites all asserts.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/python -m pytest --quiet -n auto --dist loadfile -r fEs

# From 3.12 on the interpreter tells a line once, instead of each time.
MEASURING = $$($(VENV)/bin/python -c 'import sys; print("env COVERAGE_CORE=sysmon" * (sys.version_info >= (3, 12)))')

test: $(VENV)/dev.stamp
	@echo "running every test; those whose server is not installed are skipped and listed at the end"
	@$(MEASURING) $(PYTEST) --cov --cov-report=term

quick: $(VENV)/dev.stamp
	@echo "running the tests that need no server and little time"
	@$(PYTEST) tests/actors tests/pools tests/test_layering.py tests/test_house.py tests/test_structure.py $(QUICK)

# Each Python that can be found, or those that you name: make matrix PYTHONS="/usr/bin/python3 python3.13".
matrix:
	@tests/matrix.sh $(PYTHONS)

bare:
	@tests/bare.sh

# Takes hours without --sample: make mutants OPTIONS="pools --sample 400".
mutants: $(VENV)/dev.stamp
	@$(VENV)/bin/python -m tests.mutants $(OPTIONS)

seeds: $(VENV)/dev.stamp
	$(VENV)/bin/windlass sim all --kept tests/windlass/kept_seeds.jsonl $(OPTIONS)

soak: $(VENV)/dev.stamp
	WINDLASS_SOAK=1 $(VENV)/bin/python -m pytest tests/soak -rP

check: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy --strict

format: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bench: $(VENV)/run.stamp $(BENCH)/stamp
	$(VENV)/bin/python -m benchmarks $(OPTIONS)

clean:
	rm -rf $(VENV) $(BENCH) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* build dist

.venv: $(VENV)/dev.stamp
.venv-bench: $(BENCH)/stamp

# One environment per purpose: what a user gets (run), what a developer adds (dev), the peers in the benchmarks.
$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python
	@echo "installing Windlass into $(VENV)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	@echo "installing Windlass, and what its tests need, into $(VENV); this takes a minute or two"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/run.stamp

$(BENCH)/stamp: benchmarks/requirements.txt | $(BENCH)/bin/python
	@echo "installing the peers into $(BENCH)"
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(VENV)/bin/python $(BENCH)/bin/python:
	@test -n "$(PYTHON)" || { \
		echo "Windlass needs Python 3.11 or newer and found none: install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make a virtual environment: apt-get install python3-venv, or name another: make PYTHON=..." >&2; \
		exit 1; }
	@echo "making an environment of $$($(PYTHON) --version) in $(patsubst %/bin,%,$(@D))"
	@$(PYTHON) -m venv $(patsubst %/bin,%,$(@D))
