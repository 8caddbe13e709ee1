# `make help` lists what there is. The environment is .venv in this checkout.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test races check bench soak clean requirements .venv

PORT ?= 8000
SCALE ?= sample
PYTHON ?= python3
# Parallel test processes; 0 runs everything in one.
JOBS ?= auto
# How often `make races` runs each test, and beside how many processes that only burn time.
TIMES ?= 10
HOGS ?= 2

help: ## Say what can be made
	@grep -E '^[a-z.]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: .venv/.runtime ## Start everything on this machine, with data, at http://localhost:$(PORT)
	@if [ "$$(id -u)" = 0 ]; then deploy/debian-packages.sh postgresql redis-server; fi
	@exec .venv/bin/python manage.py demo --port $(PORT)

test: .venv/.complete ## Run every test against private servers (installs PostgreSQL, Redis, Chromium if it may)
	@deploy/debian-packages.sh postgresql redis-server chromium
	.venv/bin/python -m pytest -n $(JOBS) --dist loadgroup --cov

races: .venv/.complete ## Run tests of threads and processes TIMES times on one busy processor, without second tries
	@deploy/debian-packages.sh postgresql redis-server chromium
	taskset -c 0 .venv/bin/python -m pytest -p no:rerunfailures --races --repeat $(TIMES) --hogs $(HOGS)
	.venv/bin/python -m pytest -m hypothesis --hypothesis-profile explore

check: .venv/.complete ## Style, types, layers, migrations, deployment settings
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy .
	.venv/bin/lint-imports
	.venv/bin/python -m tests.harness.production .venv/bin/python manage.py makemigrations --check --dry-run
	.venv/bin/python -m tests.harness.production .venv/bin/python manage.py check --deploy --fail-level WARNING

bench: .venv/.complete ## Measure speed against baselines in the same run (SCALE=full for ten million rows)
	@deploy/debian-packages.sh postgresql redis-server
	.venv/bin/python -m benchmarks --scale $(SCALE)

soak: .venv/.complete ## Let the audit trail and sales stand kills, races and load for longer than a test may take (a quarter of an hour)
	@deploy/debian-packages.sh postgresql redis-server
	.venv/bin/python -m benchmarks.soak

clean: ## Delete the demo's data and everything generated, but not .venv
	@if [ -x .venv/bin/python ]; then .venv/bin/python -m mestore.servers remove .demo; fi
	rm -rf .demo .static .cache .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache mutants
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

requirements: .venv/.complete ## Resolve requirements*.in again into pinned, hashed files
	.venv/bin/uv pip compile -q --generate-hashes --universal --python-version 3.11 requirements.in -o requirements.txt
	.venv/bin/uv pip compile -q --generate-hashes --universal --python-version 3.11 requirements-dev.in -o requirements-dev.txt

.venv: .venv/.complete ## Build the environment from the pinned, hashed requirements

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@deploy/debian-packages.sh python-venv
	$(PYTHON) -m venv .venv

.venv/.runtime: requirements.txt | .venv/bin/python
	.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.venv/.complete: requirements.txt requirements-dev.txt | .venv/bin/python
	.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-dev.txt
	@touch .venv/.runtime $@
