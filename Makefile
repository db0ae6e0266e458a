# `make demo` shows Windlass at work, `make test` runs its tests; each installs what it needs into .venv.
# `make check` is the lint and the types, `make bench` the comparison with other servers, `make clean` forgets,
# `make soak` runs the load proofs, which `make test` runs small, at full size.

VENV := .venv
BENCH := .venv-bench
OLD_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c '$(OLD_ENOUGH)' 2>/dev/null && echo $$python && break; done)

.DELETE_ON_ERROR:
.PHONY: demo test soak check format bench clean .venv .venv-bench

demo: $(VENV)/run.stamp
	$(VENV)/bin/windlass demo

test: $(VENV)/dev.stamp
	$(VENV)/bin/python -m pytest --cov --cov-report=term

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
	$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/run.stamp

$(BENCH)/stamp: benchmarks/requirements.txt | $(BENCH)/bin/python
	$(BENCH)/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(VENV)/bin/python $(BENCH)/bin/python:
	@test -n "$(PYTHON)" || { \
		echo "Windlass needs Python 3.11 or newer and found none: install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make a virtual environment: apt-get install python3-venv, or name another: make PYTHON=..." >&2; \
		exit 1; }
	$(PYTHON) -m venv $(@D)/..
