# Every target works on a fresh clone: the first one that needs it makes .venv and installs the pinned set.
#   make repro   the whole pipeline (dvc repro)      make test    all tests (test-fast: the laws; test-long: campaigns)
#   make check   format, lint, types, rooms, docs    make ui      browse the experiments in MLflow
#   make bench   benchmarks against peers            make recipe  list the recipes; NAME=... makes one params.yaml

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BIOME := tools/js/node_modules/.bin/biome
STAMP := $(VENV)/installed
PORT ?= 5000

.PHONY: repro test test-fast test-long check fix docs lock dist ui bench recipe notebooks

repro: $(STAMP)
	@$(BIN)/python -m gptmodel.params params.yaml
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

recipe: $(STAMP)
	@$(BIN)/python recipes/apply.py $(NAME) $(if $(FORCE),--force)

# Two processes of one thread each; the tests of a file stay together, as they share what they set up.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-m "not slow and not network and not browser and not e2e and not long"

# Campaigns of faults, random bytes and load.
test-long: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m long

check: $(STAMP) $(BIOME)
	$(BIOME) check --error-on-warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.docs.generate --check

fix: $(STAMP) $(BIOME)
	$(BIOME) check --write
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tools.docs.generate --write

docs: $(STAMP)
	$(BIN)/python -m tools.docs.generate --write

# After a change of pyproject.toml or constraints.txt: the hashes.
lock: $(STAMP)
	$(PIP) --no-deps --require-hashes -r requirements/release.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tools.lock

# What a release consists of: the wheel, the list of what is in an install (SBOM), and their hashes.
dist: $(STAMP)
	$(PIP) --no-deps --require-hashes -r requirements/release.txt
	rm -rf dist build
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation --wheel --outdir dist
	$(BIN)/cyclonedx-py requirements requirements/runtime-cpu.txt --pyproject pyproject.toml --output-reproducible \
		--output-file dist/sbom.cdx.json
	cd dist && sha256sum -- * > SHA256SUMS

ui: $(STAMP)
	@$(BIN)/gptmodel ui --port $(PORT)

bench: $(STAMP)
	$(BIN)/python benchmarks/decode.py

# Run every notebook and keep its figures; ten minutes.
notebooks: $(STAMP)
	$(BIN)/python notebooks/execute.py

# Every file is checked against its hash, but for torch: which of its builds is right depends on the machine.
$(STAMP): pyproject.toml constraints.txt requirements/development.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer with venv is needed: install it, or set PYTHON=" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --require-hashes -r requirements/build.txt
	$(PIP) --no-deps --require-hashes --no-build-isolation -r requirements/development.txt
	$(PIP) -c constraints.txt torch
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# Biome formats and lints the JavaScript; its version is pinned in tools/js/package-lock.json.
$(BIOME): tools/js/package-lock.json
	@command -v npm >/dev/null || { echo "error: node is needed for the JavaScript checks: install Node.js 18 or newer (with npm)" >&2; exit 2; }
	npm ci --prefix tools/js --silent --no-audit --no-fund
	@touch $@
