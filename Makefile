# `make help` lists the targets; each sets up what it needs by itself.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.being-installed
SOURCES = pyproject.toml constraints.txt setup.py $(shell git ls-files '*.cpp' '*.h' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format type docs bench dist clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make the virtual environment and install everything into it

$(STAMP): $(SOURCES)
	@command -v $${CXX:-g++} >/dev/null || command -v clang++ >/dev/null || command -v c++ >/dev/null || \
	  echo "no C++ compiler: the slow torch rasterizer will be used; install one (apt-get install g++) and run again"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a minute or two) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "setuptools>=77" wheel
	@# --no-compile: Python compiles the few files that are imported, and not all 15,000
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --no-compile --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## do all of it on the built-in clip: video, dataset, avatar, talking video
	@$(BIN)/being demo

test: $(STAMP)  ## the fast tests, in two processes
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20

test-slow: $(STAMP)  ## all tests, also the slow ones and those on shared footage
	@$(BIN)/python -m pytest -m "" --timeout 1800

lint: $(STAMP)  ## ruff: rules and format; clang-format of the native code; syntax of the page
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run make format"; exit 1; }
	@$(BIN)/clang-format --dry-run -Werror $$(git ls-files '*.cpp' '*.h')
	@if command -v node >/dev/null; then for file in $$(git ls-files 'being/*/page/*.js'); do \
	  node --check --input-type=module - <$$file || { echo "$$file: see above"; exit 1; }; done; fi

format: $(STAMP)  ## format Python and native code
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $$(git ls-files '*.cpp' '*.h')

type: $(STAMP)  ## mypy
	@$(BIN)/mypy being

# The variable silences the theme's notice that its maintenance ends in May 2027.
docs: $(STAMP)  ## the site of the documentation, in build/site; every warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

bench: $(STAMP)  ## rasterizer and, where a trained avatar is, frames per second
	@$(BIN)/python -m being.bench.splat
	@if ls runs/*/*/avatar/manifest.json >/dev/null 2>&1; then $(BIN)/being bench-fps; fi

dist: $(STAMP)  ## source distribution and wheel, in dist/
	@$(BIN)/python -m build --no-isolation --outdir dist

clean:  ## remove the virtual environment and build products
	@rm -rf $(VENV) build dist being.egg-info
