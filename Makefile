# The everyday commands. Each works in a fresh clone: it makes the virtual environment .venv when there is none, from
# constraints.txt, and brings it up to date when pyproject.toml or constraints.txt have changed. An environment that is
# active in your shell is neither used nor touched; `make test VENV=~/envs/mine` uses another one.

VENV := .venv
RUN := $(VENV)/bin/python -m
PYTEST := $(RUN) pytest -n auto --maxprocesses 8

# The first Python that is new enough; `make PYTHON=/opt/python/bin/python3.12 …` takes a certain one.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$python -c $(NEW_ENOUGH) 2>/dev/null && echo $$python && break; done)
NEW_ENOUGH := 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-slow test-all check bench native native-sanitize

help:
	@echo "make demo      train on real handwritten digits, test, label image files, write a report (minutes)"
	@echo "make test      the tests that are quick and offline"
	@echo "make test-slow the slow ones; BUDGET=300 skips those whose turn comes later than 300 seconds"
	@echo "make test-all  both"
	@echo "make check     style (ruff) and types (pyright)"
	@echo "make native    builds the engine for CPUs (a C++ compiler is needed); make test does it too"
	@echo "make bench     the measurements in benchmarks/, each beside its peers"

# One thread: so small a network loses by a second one, and very much so on a busy machine.
demo: $(VENV)/.installed
	rm -rf runs/demo-digits
	$(RUN) allmlp data write digits runs/demo-digits
	$(RUN) allmlp train digits --output runs/demo --overwrite
	$(RUN) allmlp evaluate runs/demo runs/demo-digits
	$(RUN) allmlp predict runs/demo $$(for digit in runs/demo-digits/test/*; do ls $$digit/*.png | head -n 1; done)
	@echo "Report: $(CURDIR)/runs/demo/report.html"

test: $(VENV)/.installed-dev $(VENV)/.native
	$(PYTEST)

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m "slow and not network" $(if $(BUDGET),--budget $(BUDGET)) tests/test_readme.py tests

test-all: $(VENV)/.installed-dev
	$(PYTEST) -m "not network"

check: $(VENV)/.installed-dev
	$(RUN) ruff check .
	$(RUN) pyright --pythonpath $(VENV)/bin/python

native: $(VENV)/.native

# The engine with every access and every overflow checked, and its own tests in it.
native-sanitize: $(VENV)/.installed-dev
	$(RUN) pip install --quiet --upgrade --no-deps --target $(VENV)/sanitized --config-settings cmake.define.ALLMLP_SANITIZE=ON \
		--config-settings build-dir=build/sanitized ./native
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=$(VENV)/sanitized $(RUN) pytest tests/native

bench: $(VENV)/.installed-dev
	set -e; for program in $(filter-out %/rows.py %/digits_model.py,$(wildcard benchmarks/*.py)); do echo "== $$program"; $(VENV)/bin/python $$program; done

$(VENV)/.installed $(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing into $(VENV). Once only; torch is large (gigabytes on Linux), so give it some minutes."
	$(RUN) pip install --quiet -c constraints.txt -e ".$(if $(findstring dev,$@),[dev])"
	@touch $(VENV)/.installed $@

# Without a compiler everything else works, and the engine's tests are skipped.
$(VENV)/.native: $(wildcard native/src/* native/python/*/*.py) native/CMakeLists.txt native/pyproject.toml | $(VENV)/.installed
	@if ! command -v $(CXX) >/dev/null; then \
		echo "The engine is not built: it needs a C++17 compiler (Debian, Ubuntu: g++), and there is no $(CXX)"; \
	elif ! test -f "$$($(VENV)/bin/python -c $(INCLUDE))/Python.h"; then \
		echo "The engine is not built: it needs Python's headers (Debian, Ubuntu: python3-dev), and there is no Python.h"; \
	else \
		echo "Building the engine into $(VENV); this takes a minute."; \
		$(RUN) pip install --quiet ./native && touch $@; \
	fi
INCLUDE := 'import sysconfig; print(sysconfig.get_path("include"))'

$(VENV)/bin/pip:
	@"$(PYTHON)" -c $(NEW_ENOUGH) 2>/dev/null || { \
	echo "allmlp needs Python 3.11 or newer with its venv module, not $$("$(or $(PYTHON),python3)" --version 2>&1);" \
	"install it (Debian, Ubuntu: python3.11-venv) or say where it is: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -m venv $(VENV)
