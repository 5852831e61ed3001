# `make study` and `make test` do all their own set-up: a virtual environment in .venv, with the versions of
# constraints.txt. Nothing outside this folder is changed.
PYTHON ?= python3
BIN := .venv/bin
SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Where the prose is checked.
PROSE := README.md CONTRIBUTING.md CHANGELOG.md docs examples src

# What is compiled when flatvq is installed.
NATIVE := setup.py $(wildcard src/flatvq/*/native/*.cpp src/flatvq/*/native/*.h)
# The compiled search without its Python module, and a program that tests it.
SEARCH := src/flatvq/nearest/native
SEARCH_SOURCES := $(filter-out %/bindings.cpp,$(wildcard $(SEARCH)/*.cpp)) tests/nearest/native/random_shapes.cpp
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined

.PHONY: help study test test-fast lint sanitize docs bench findings clean

help:
	@echo "make study   run the default study, about 5 minutes on 2 cores; then open studies/photographs/report.html"
	@echo "make test    run the tests, 10 to 15 minutes on 2 cores"
	@echo "make test-fast  run the quick tests, about a minute and a half"
	@echo "make lint    ruff, mypy, the import contract, the prose and the files of .github"
	@echo "make sanitize  the compiled search on random shapes, with AddressSanitizer and UBSan, half a minute"
	@echo "make docs    build the documentation site; then open site/index.html"
	@echo "make bench   flatvq against other libraries, half an hour to an hour; make bench QUICK=1 takes 3 minutes"
	@echo "make findings docs/findings.md and its figures, from the records in results/"
	@echo "make clean   remove the environments and caches; studies and results stay"

study: .venv/study
	$(BIN)/flatvq study photographs --until-settled

test: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not processes and not browser" --variants 2

# Markdown that is wrong, a link that leads nowhere or a name without documentation is an error.
docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell $(PROSE) tests benchmarks findings tools docsite
	$(BIN)/python -m tools.prose $(PROSE) benchmarks findings docsite
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA) vendor.dependabot .github/dependabot.yml
	$(SCHEMA) vendor.citation-file-format CITATION.cff
	$(BIN)/zizmor --offline --quiet .github

sanitize: build/random_shapes
	OMP_NUM_THREADS=2 build/random_shapes

build/random_shapes: $(SEARCH_SOURCES) $(wildcard $(SEARCH)/*.h)
	@mkdir -p build
	$(CXX) -std=c++17 -O1 -g -fopenmp -fno-strict-aliasing -Wno-psabi $(SANITIZERS) -I $(SEARCH) $(SEARCH_SOURCES) -o $@

bench: .venv/bench
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

findings: .venv/dev
	$(BIN)/python -m findings

# torch comes first and by its exact version: what else is installed then finds it there and brings no other build.
.venv/torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("flatvq needs Python 3.11 or newer; try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(INSTALL) "$$(grep -E '^torch==' constraints.txt)"
	@touch $@

.venv/study: .venv/torch pyproject.toml $(NATIVE)
	$(INSTALL) --editable .
	@touch $@

.venv/bench: .venv/torch pyproject.toml $(NATIVE)
	$(INSTALL) --editable '.[bench]'
	@touch $@

.venv/dev: .venv/torch pyproject.toml $(NATIVE)
	$(INSTALL) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist site src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
