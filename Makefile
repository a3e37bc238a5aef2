# Every target that a person or CI needs; `make help` lists them. On a fresh machine Python 3.11+ is enough: uv comes by
# pip where it is missing, and brings the locked environment.
SHELL := bash
.DEFAULT_GOAL := help

PYTHON ?= python3
UV = $(shell command -v uv || echo "$(PYTHON) -m uv")
RUN = $(UV) run --no-sync
PACKAGES = assets benchmarks cli events examples jobs ml resources sensors services definitions.py
DBT_SQL = dbt_project/models dbt_project/tests
# Two at a time, a module's tests in one process: they share the services that it starts.
PYTEST = $(RUN) python -m pytest -n auto --maxprocesses 4 --dist loadscope
# What talks to a broker or to a store that may be a real one.
ON_SERVICES = tests/integration/broker/test_compatibility.py tests/integration/broker/test_group_compatibility.py \
	tests/integration/broker/test_transaction_compatibility.py tests/integration/compliance tests/integration/examples tests/integration/landing \
	tests/integration/orchestrator/test_live.py tests/integration/resources/test_kafka.py tests/integration/router tests/integration/services tests/integration/sources tests/load

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[36m%-15s\033[0m %s\n", $$1, $$2}'

.PHONY: uv
uv:
	@command -v uv >/dev/null || $(PYTHON) -m uv --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet uv \
		|| $(PYTHON) -m pip install --quiet --user --break-system-packages uv

.PHONY: install
install: uv ## Bring the environment that `make demo` needs
	@$(UV) sync --locked --quiet --inexact --no-default-groups --python $(PYTHON)

.PHONY: install-test
install-test: uv
	@$(UV) sync --locked --quiet --inexact --no-default-groups --group test --python $(PYTHON)

.PHONY: install-dev
install-dev: uv ## Bring everything a developer needs
	@$(UV) sync --locked --quiet --all-groups --extra production --extra sources --extra orchestrators --extra pii --extra scaling --python $(PYTHON)

.PHONY: hooks
hooks: install-dev ## Check format, lint and the room contract at each commit
	@$(RUN) pre-commit install

.PHONY: demo
demo: install ## Play a day of shop traffic through the whole platform (SERVE=1 leaves it running)
	@$(RUN) isthmus demo $(if $(SERVE),--serve)

.PHONY: test
test: install-test ## The suite that needs nothing but Python
	@$(PYTEST) -m "not soak and not e2e and not services" $(ARGS)

.PHONY: test-services
test-services: install-dev ## The suite against real Kafka, PostgreSQL, Redis, a MongoDB server, a schema registry and Temporal (started here, or by address)
	@$(RUN) python -m tests.services python -m pytest -m "not soak and not e2e and not embedded" $(ON_SERVICES) $(ARGS)

.PHONY: test-e2e
test-e2e: install-dev ## The web pages in a real browser; screenshots in docs/images
	@$(RUN) python -m pytest -m e2e tests/e2e $(ARGS)

.PHONY: load-test
load-test: install-test ## k6 against ingestion and advice over HTTP: shares of errors, every event once, every answer exact
	@$(RUN) python -m tests.load.ingest $(ARGS)
	@$(RUN) python -m tests.load.advice $(ARGS)

.PHONY: soak
soak: install-dev ## The long form of kills and fuzzing; writes its result into the docs
	@$(RUN) python -m tests.services python -m pytest -m soak --timeout=7200 $(ARGS)

.PHONY: check
check: install-dev ## Format, lint, strict types, room contract, SQL lint, lock file fresh
	@$(UV) lock --check --quiet
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy $(PACKAGES)
	@$(RUN) lint-imports
	@$(RUN) sqlfluff lint --disable-progress-bar $(DBT_SQL)
	@$(RUN) mkdocs build --strict --quiet --site-dir $$(mktemp -d)

.PHONY: format
format: install-dev ## Put format and simple lint right
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .
	@$(RUN) sqlfluff fix --disable-progress-bar $(DBT_SQL)

.PHONY: docs
docs: install-dev ## Serve the documentation on http://127.0.0.1:8000
	@$(RUN) mkdocs serve

.PHONY: clean
clean: ## Remove what builds and tests left; the platform's state (.isthmus) stays
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis site dist dbt_project/target dbt_project/logs
