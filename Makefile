# `make demo` and `make test` set up all they need in .venv: Python 3.11 and make are enough.
# `make test ALL=1` runs the slow tests, too.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo test lint docs bench clean

demo: $(VENV)/installed
	$(VENV)/bin/innerloop demo

test: $(VENV)/installed lint
	$(PY) -m pytest -n auto --dist loadfile $(if $(ALL),-m "")

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports --no-cache

docs: $(VENV)/installed
	$(PY) -m pip install -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

bench: $(VENV)/installed
	$(PY) -m pip install -q -c constraints.txt -e '.[bench]'
	$(PY) -m benchmarks.compare

clean:
	rm -rf $(VENV) demo site dist .pytest_cache .ruff_cache

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PY) -c '' 2>/dev/null || rm -rf $(VENV) # gone stale: its Python was moved or removed
	test -x $(PY) || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "innerloop needs Python 3.11 or newer, and $(VENV) has $$($(PY) -V): make PYTHON=/path/to/python3.11"; \
		rm -rf $(VENV); exit 1; }
	$(PY) -m pip install -q -c constraints.txt -e '.[dev,track]'
	touch $@
