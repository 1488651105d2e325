# Two commands do everything on a machine with Python 3.11+, make and a C++ compiler:
#   make demo    make test

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DOCS_INSTALLED := .venv/.docs-installed
TEST_PROCESSES ?= auto
PACKAGES := store engine lmsi_tui scripts tests benchmarks screenshots

.DEFAULT_GOAL := help
.PHONY: help install hooks demo test test-slow check format bench real pebbles screenshots docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Create .venv and install everything (the first time compiles llama.cpp: minutes)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

hooks: $(INSTALLED) ## Run the linters on the changed files before each commit
	$(BIN)/pre-commit install

demo: $(INSTALLED) ## Run the whole LMSI loop on the included models, in ./demo
	$(BIN)/lmsi-tui demo demo --headless

test: $(INSTALLED) ## Run the tests, on every core (about 6 minutes on 2)
	$(BIN)/python -m pytest -q --numprocesses $(TEST_PROCESSES) --maxprocesses 8 --dist loadfile

test-slow: $(INSTALLED) ## Run the long tests: kill -9 at random moments, whole loops
	$(BIN)/python -m pytest -q -m slow

check: $(INSTALLED) ## Check format, lint, spelling, types and the order of the rooms
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/codespell $(PACKAGES) docs findings .github *.md Makefile pyproject.toml
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED) ## Format the code and fix what the linter can
	$(BIN)/ruff format $(PACKAGES)
	$(BIN)/ruff check --fix $(PACKAGES)

bench: $(INSTALLED) ## Reproduce the measurements in the README: three seeds, about two hours
	$(BIN)/python -m benchmarks.gains --set evaluate.ood=false

# Each variable of `make real` that is set becomes an option.
REAL_OPTIONS = $(if $(MODEL),--model "$(MODEL)") $(if $(STUDENT),--student "$(STUDENT)") \
	$(if $(QUESTIONS),--questions "$(QUESTIONS)") $(if $(TASK),--task "$(TASK)") \
	$(if $(QUICK),--quick) $(if $(PAST_PILOT),--past-pilot)

real: $(INSTALLED) ## Run the loop on a real model: MODEL=, QUESTIONS=, TASK=, STUDENT=, QUICK=1
	$(BIN)/python -m benchmarks.real $(REAL_OPTIONS)

pebbles: $(INSTALLED) ## Train the included models from scratch (a quarter of an hour)
	$(BIN)/python -m scripts.make_pebbles

screenshots: $(INSTALLED) ## Regenerate screenshots/ and the key tables of docs/app.md
	$(BIN)/python -m screenshots.make_screenshots
	$(BIN)/python -m screenshots.make_keys

docs: $(DOCS_INSTALLED) ## Build the documentation site into site/ (open site/index.html)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean: ## Remove .venv, the built site and caches
	rm -rf .venv site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
