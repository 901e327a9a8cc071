# Every target sets up what it needs, once. On a machine without a GPU: `make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu`
PYTHON ?= python3
TORCH_INDEX ?=
PIP = .venv/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt
INDEX = $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))

.PHONY: setup demo fmt lint type arch test test-slow docs bench check clean

setup: .venv/dev

.venv/pip: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) $(INDEX) torch
	@touch $@

.venv/demo: .venv/pip
	$(PIP) -e '.[maze]'
	@touch $@

.venv/dev: .venv/pip
	$(PIP) -e '.[all,dev]'
	@touch $@ .venv/demo

demo: .venv/demo
	.venv/bin/unveil demo

fmt: .venv/dev
	.venv/bin/ruff format src tests examples benchmarks
	.venv/bin/ruff check --fix src tests examples benchmarks

lint: .venv/dev
	.venv/bin/ruff format --check src tests examples benchmarks
	.venv/bin/ruff check src tests examples benchmarks

type: .venv/dev
	.venv/bin/basedpyright --level error

arch: .venv/dev
	.venv/bin/lint-imports

test: .venv/dev
	.venv/bin/python -m pytest

test-slow: .venv/dev
	.venv/bin/python -m pytest -m slow

docs: .venv/dev
	.venv/bin/python docs/build.py

bench: .venv/dev
	.venv/bin/python benchmarks/core.py

check: lint type arch test

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
