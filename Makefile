# The commands of ChangeControl. Each does its own set-up: Python 3.11 or newer, git and make are all that must be there.
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help

# Another Python: make demo PYTHON=python3.12
PYTHON ?= python3
# Where the demo answers; the next free port when this one is taken.
PORT ?= 8000
# What pytest is told besides: make test ARGS="tests/changecontrol -k vote"
ARGS ?=

BIN := .venv/bin
LOCAL := changecontrol/project/local
CODE := changecontrol deployments recovery tests manage.py

# Nothing of the caller's own Python reaches the environment that the commands make.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV DJANGO_SETTINGS_MODULE

.PHONY: help environment system demo demo-reset test test-odoo check lint format bench bench-recovery lock clean

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS='	' read -r name words; do printf '  make %-14s %s\n' "$$name" "$$words"; done

environment: ## Make the Python environment from the lock file
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "There is no '$(PYTHON)' here: install Python 3.11 or newer, or name one, such as make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) $(LOCAL)/environment.py

system: ## Install Chromium and Pango (as root), or say what is missing
	@$(PYTHON) $(LOCAL)/system.py test

demo: environment ## Start the demo: everything, with a retailer to try things on
	@$(PYTHON) $(LOCAL)/system.py demo
	@exec $(BIN)/python -m changecontrol.project.local.demo run --port $(PORT)

demo-reset: environment ## Forget the demo's data, so that the next one starts over
	@$(BIN)/python -m changecontrol.project.local.demo reset

test: environment system ## Check everything: format, lint, types, imports, migrations, all tests
	@$(BIN)/python -m changecontrol.project.local.check all $(ARGS)

test-odoo: environment ## Set a real Odoo 19 up and run the tests that need one
	@$(BIN)/python -m changecontrol.project.local.odoo $(ARGS)

check: environment ## The same without slow and browser tests
	@$(BIN)/python -m changecontrol.project.local.check fast $(ARGS)

lint: environment ## Format, lint, types, imports, migrations; no tests
	@$(BIN)/python -m changecontrol.project.local.check lint

format: environment ## Put the code into its format
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

bench: environment ## Measure the speed of the main paths, one line of JSON a figure
	@$(BIN)/python -m tests.bench $(ARGS)

bench-recovery: environment ## Measure backups and restores, such as ARGS="--size 100MB"
	@$(BIN)/python -m tests.bench.recovery $(ARGS)

lock: environment ## Pin the newest allowed versions of every package, with hashes
	@$(BIN)/python -m changecontrol.project.local.lock

clean: ## Remove the environment and what tests left behind; the demo's data stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache test-results staticfiles
