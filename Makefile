# Two commands do all the set-up:  make quickstart  and  make test.
# Paths are relative on purpose: the project may lie in a folder with spaces in its name.

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# An older Python first in PATH is passed over; PYTHON=… chooses one.
PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14 python)

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint faults bench bench-smoke clean up down secrets test-compose
.DELETE_ON_ERROR:

help: ## Show what can be made.
	@echo "make quickstart   set up, then fine-tune two small networks; a minute or two after set-up"
	@echo "make test         set up, then lint, types, import contracts and tests with coverage"
	@echo "make lint         the part of it that takes seconds"
	@echo "make faults       workers killed, Postgres restarted, disks filled: half an hour, one table"
	@echo "make bench        speed beside plain Optuna and Ray Tune: a quarter of an hour, RESULTS.md"
	@echo "make bench-smoke  a few of its rows, small: a minute or so, one line"
	@echo "make up           the service in containers: database, workers, dashboard with a login"
	@echo "make down         stop it; studies, checkpoints and users stay"
	@echo "make secrets      make its passwords only; make up does it too"
	@echo "make test-compose the service in containers, tested; a quarter of an hour, Docker needed"
	@echo "make clean        remove the virtual environment and everything that tools left behind"

quickstart: $(VENV)/.installed
	$(BIN)/python -m tunesvc up studies/quickstart.yaml --until-done
	@echo
	@echo "Where to look next:"
	@echo "  . $(BIN)/activate            from then on, tunesvc is a command in this terminal"
	@echo "  studies/quickstart.yaml         what was just run, every line explained"
	@echo "  studies/folder-template.yaml    the same for your own images"
	@echo "  README.md                       everything else"

test: lint
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --fail-under=90
	$(BIN)/python benchmarks/faults.py --short

faults: $(VENV)/.installed
	$(BIN)/python benchmarks/faults.py

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench.py

bench-smoke: $(VENV)/.installed
	@$(BIN)/python benchmarks/bench.py --smoke

# Needs Docker alone. Another folder or port: .env.example. WORKERS=4 starts so many.
up: ## Passwords are made at the first start; none is printed here.
	@mkdir -p data
	docker compose up --build --detach --wait $(if $(WORKERS),--scale worker=$(WORKERS))
	@echo
	@echo "The dashboard:       http://$$(docker compose port dashboard 8080)"
	@echo "Log in as admin; its first password:"
	@echo "                     docker compose exec dashboard cat /run/tunesvc/access/first_password"
	@echo "Another one, asked for twice:"
	@echo "                     docker compose run --rm tunesvc user add admin"
	@echo "A first study:       docker compose run --rm tunesvc new-study studies/quickstart.yaml"
	@echo "What is going on:    docker compose logs --follow worker"

down: ## Never with -v, which deletes studies, checkpoints and users.
	docker compose --profile '*' down

secrets:
	docker compose run --rm --build secrets
	@echo "The first password is read with:"
	@echo "  docker compose run --rm --entrypoint cat secrets /run/tunesvc/access/first_password"

# A real engine where this project is developed; elsewhere the one that answers.
ENGINE := ../shared/tools/container-engine.sh

test-compose: $(VENV)/.installed-dev
	@if ! docker version >/dev/null 2>&1 && [ -f $(ENGINE) ]; then \
	  bash $(ENGINE) || [ $$? = 77 ] || exit 1; \
	fi; \
	if docker version >/dev/null 2>&1; then \
	  TUNESVC_TEST_COMPOSE=1 $(BIN)/python -m pytest tests/compose; \
	else \
	  echo "SKIPPED: make test-compose needs a Docker engine, and none answers here"; \
	fi

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

# Editable: what is edited is what runs. All stamps follow pyproject.toml alone.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing tunesvc; torch is several GB, which takes a few minutes the first time"
	$(PIP) install -qq -e .
	@touch "$@"

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -qq -e ".[dev]"
	@touch "$@"

# Without Ray, which is not there for every Python, the rows beside it are skipped.
$(VENV)/.installed-bench: $(VENV)/.installed
	@$(PIP) install -qq -e ".[bench]" || echo "Ray cannot be installed here; its rows are skipped"
	@touch "$@"

$(BIN)/python:
	@for python in $(CANDIDATES); do \
	  if $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
	      2>/dev/null; then \
	    echo "Making $(VENV) with $$($$python --version)"; \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "tunesvc needs Python 3.11 or newer with its venv module; none of these is: $(CANDIDATES)" >&2; \
	echo "  fix: install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python)," >&2; \
	echo "       or name one:  make quickstart PYTHON=/path/to/python3.12" >&2; \
	exit 1

clean: ## Studies and their database lie elsewhere and stay.
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
	  .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
