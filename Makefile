# Every target sets up what it needs, once. On a machine without a GPU: `make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu`
PYTHON ?= python3
TORCH_INDEX ?=
PIP = .venv/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt
INDEX = $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: setup demo fmt lint type arch test test-studio golden test-slow docs bench check clean

setup: .venv/all

.venv/pip: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unveil needs Python 3.11 or newer: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PIP) $(INDEX) torch
	@touch $@

.venv/demo: .venv/pip
	$(PIP) -e '.[maze]'
	@touch $@

.venv/dev: .venv/pip
	$(PIP) -e '.[maze,pusht,text,dev]'
	@touch $@ .venv/demo

.venv/docs: .venv/dev
	$(PIP) -e '.[maze,pusht,text,dev,docs]'
	@touch $@ .venv/dev .venv/demo

.venv/studio: .venv/dev
	$(PIP) -e '.[maze,pusht,text,dev,studio-test]'
	@touch $@ .venv/dev .venv/demo

.venv/all: .venv/pip
	$(PIP) -e '.[all,dev,docs]'
	@touch $@ .venv/docs .venv/dev .venv/demo

demo: .venv/demo
	.venv/bin/unveil demo

fmt: .venv/dev
	.venv/bin/ruff format src tests examples notebooks docs benchmarks
	.venv/bin/ruff check --fix src tests examples notebooks docs benchmarks

lint: .venv/dev
	.venv/bin/ruff format --check src tests examples notebooks docs benchmarks
	.venv/bin/ruff check src tests examples notebooks docs benchmarks

type: .venv/dev
	.venv/bin/basedpyright --level error

arch: .venv/dev
	.venv/bin/lint-imports

test: .venv/dev
	.venv/bin/python -m pytest -n auto --maxprocesses 8 --dist loadscope

# The page of `unveil serve` in Chromium, which is installed by apt if this runs as root. UNVEIL_SCREENSHOTS=1
# writes docs/studio/*.png.
test-studio: .venv/studio
	bash .ci/chromium
	.venv/bin/python -m pytest -m browser tests/studio

# Golden numbers on this machine as on processors with less: SSE4.1 and AVX2, one thread and two.
golden: .venv/dev
	OMP_NUM_THREADS=1 DNNL_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default .venv/bin/python -m pytest -m golden -n auto --maxprocesses 2
	OMP_NUM_THREADS=2 DNNL_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 .venv/bin/python -m pytest -m golden -n 0

test-slow: .venv/dev
	.venv/bin/python -m pytest -m slow

docs: .venv/docs
	.venv/bin/python docs/build.py
	.venv/bin/python docs/image_tables.py
	.venv/bin/python docs/text_tables.py
	.venv/bin/python docs/latent_tables.py
	.venv/bin/python docs/text_to_image_tables.py
	.venv/bin/python docs/robustness_table.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

bench: .venv/dev
	.venv/bin/unveil eval maze --maze large --episodes 300 --seed 0 --json benchmarks/results/maze-large-single.json
	.venv/bin/unveil eval maze --maze large --multi --episodes 300 --seed 0 --json benchmarks/results/maze-large-multi.json
	.venv/bin/unveil data maze --maze large --steps 1000000 --seed 0 --out runs/maze-large.hdf5 --json benchmarks/results/maze-large-data.json
	$(MAKE) docs

# What needs no network runs without one, as on a newcomer's machine.
check: lint type arch docs
	bash .ci/alone $(MAKE) test golden

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
