SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Any Python from 3.11 on, with venv; the rest is installed into .venv from the lock files.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$name -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
PY := $(BIN)/python
MADE := .venv/made.stamp
RUN := .venv/running.stamp
DEV := .venv/development.stamp
# Tests of full size take minutes.
LONG := --timeout=900 --session-timeout=1800
# Tests are handed out one by one, which keeps their order: the pure ones first, see tests/tiers.py.
IN_ORDER := --dist load --maxschedchunk 1
# One process more than there are cores, since some tests wait for programs to start and to end.
PROCESSES = --numprocesses $(shell $(PY) -c 'import os; print(min(4, os.cpu_count() + 1))')
PARALLEL = $(PROCESSES) $(IN_ORDER)
MONITOR_TESTS = tests/metrics/client tests/metrics/measure tests/metrics/health tests/metrics/alerts \
	tests/metrics/state/queries tests/metrics/rpc/test_queries.py tests/booking/monitoring \
	tests/servicekit/test_query_counts.py tests/pair/test_canary.py tests/pair/test_health_processes.py \
	tests/pair/test_slow_queries_blocked.py tests/pair/test_no_leader.py \
	tests/pair/test_withheld_facts.py tests/metrics/storage/test_alerts.py \
	tests/metrics/rpc/test_alert_stream.py \
	tests/docs/test_health_reasons.py
METRICS_TESTS = tests/metrics tests/pair/test_revenue_agrees.py tests/pair/test_replay_totals.py
SOURCES := booking_service metrics_service servicekit deploy tests
PROTOS = $(sort $(shell find protos -name '*.proto'))
MIGRATIONS = $(sort $(wildcard migrations/*/*.sql))
# Where the module for others is written, anew each time.
EXPORT := build/export
# Internal, and so no part of what others get.
EXPORTED = $(filter-out protos/metrics/v1/checkpoint.proto,$(PROTOS))
# What the contract imports, and the details of errors.
GOOGLEAPIS := google/rpc/error_details.proto google/rpc/status.proto google/type/date.proto google/type/money.proto
SITE = $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# protoc finds its plugins on PATH.
PROTOC = PATH="$(CURDIR)/$(BIN):$$PATH" $(PY) -m grpc_tools.protoc -I. -I$(SITE)
# Both database URLs, of the embedded PostgreSQL under .data/ where the environment gives none.
WITH_DATABASES := $(PY) -m servicekit.devstack exec --

# Children are new programs that share nothing with gRPC: without this its core writes a line to the
# terminal for each of them that is started while a call is under way.
export GRPC_ENABLE_FORK_SUPPORT := 0
# It also writes one when a server closes a connection that was idle, such as that of a long replay.
export GRPC_VERBOSITY ?= ERROR
# Modules are compiled once, not by every process that a target starts.
export PYTHONDONTWRITEBYTECODE :=

# Options of the targets below, such as `make run SPEED=2000`.
SPEED ?=
FILE ?=
ARGS ?=

##@ Start here

.PHONY: help
help: ## Explain every target
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z][a-z-]*:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(RUN) ## Start both services and replay real bookings into them (SPEED= days a second, ARGS=--tight)
	@exec $(PY) -m booking_service.demo run $(if $(SPEED),--speed $(SPEED)) $(ARGS)

.PHONY: test
test: $(DEV) ## Run the tests, those without a database or a process first (ARGS= options of pytest)
	@$(PY) -m pytest $(PARALLEL) -m "not full" $(ARGS)

##@ Observe the running pair

.PHONY: watch
watch: $(RUN) ## Live view: funnel, queries, health
	@$(PY) -m metrics_service watch $(ARGS)

.PHONY: health
health: $(RUN) ## Print GET /api/health/database
	@$(PY) -m metrics_service health $(ARGS)

.PHONY: metrics
metrics: $(RUN) ## Print GET /api/metrics/bookings
	@$(PY) -m metrics_service metrics $(ARGS)

.PHONY: observability
observability: $(RUN) ## Prometheus and Alertmanager beside the pair, where they are installed
	@exec $(PY) -m deploy.observability $(ARGS)

.PHONY: replay
replay: $(RUN) ## Replay another file of the same columns (FILE=, SPEED= days a second)
	@$(PY) -m booking_service.demo replay $(if $(FILE),--file "$(FILE)") $(if $(SPEED),--speed $(SPEED)) $(ARGS)

.PHONY: history
history: $(RUN) ## Load a file at its own dates into a metrics database of its own, and serve it (FILE=)
	@exec $(PY) -m booking_service.demo history $(if $(FILE),--file "$(FILE)") $(ARGS)

.PHONY: clean-data
clean-data: $(RUN) ## Remove all data under .data/
	@$(PY) -m servicekit.devstack clean

##@ Database (BOOKING_DATABASE_URL, METRICS_DATABASE_URL, or the embedded one under .data/)

.PHONY: migrate
migrate: $(RUN) ## Apply the migrations of both services
	@$(WITH_DATABASES) $(PY) -m booking_service migrate
	@$(WITH_DATABASES) $(PY) -m servicekit.migrations metrics

.PHONY: rollback
rollback: $(RUN) ## Revert the newest migration of the booking database
	@$(WITH_DATABASES) $(PY) -m booking_service rollback

.PHONY: indexes-down
indexes-down: $(RUN) ## Drop the fifteen indexes
	@$(WITH_DATABASES) $(PY) -m booking_service indexes-down

.PHONY: indexes-up
indexes-up: $(RUN) ## Create the fifteen indexes
	@$(WITH_DATABASES) $(PY) -m booking_service indexes-up

.PHONY: verify-indexes
verify-indexes: $(RUN) ## Show each index: present, valid, size, scans, query served
	@$(WITH_DATABASES) $(PY) -m booking_service verify-indexes

##@ Test

.PHONY: test-fast
test-fast: $(DEV) ## The tests that need neither a database nor a process
	@$(PY) -m pytest $(PROCESSES) --dist worksteal -m "not db and not processes and not full" $(ARGS)

.PHONY: test-full
test-full: $(DEV) ## What make test leaves out, each group within its time (ARGS= names of groups)
	@$(PY) -m tests.full_tier $(ARGS)

.PHONY: test-db-performance
test-db-performance: $(DEV) ## Tests of the query plans and indexes
	@$(PY) -m pytest tests/booking/plans $(ARGS)

.PHONY: test-db-monitor
test-db-monitor: $(DEV) ## Tests of query tracking and database health
	@$(PY) -m pytest $(MONITOR_TESTS) $(PARALLEL) -m "not full" $(ARGS)

.PHONY: test-booking-metrics
test-booking-metrics: $(DEV) ## Tests of the funnel and the booking metrics
	@$(PY) -m pytest $(METRICS_TESTS) $(addprefix --ignore ,$(MONITOR_TESTS)) $(PARALLEL) -m "not full" $(ARGS)

##@ Check

.PHONY: lint
lint: $(DEV) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: $(DEV) ## mypy --strict
	@$(BIN)/mypy $(SOURCES)

.PHONY: architecture
architecture: $(DEV) ## import-linter: the import contracts
	@PYTHONPATH=. $(BIN)/lint-imports

.PHONY: structure
structure: $(DEV) ## Rooms and arrows of each package, longest file and function; fails beyond a bound
	@$(PY) -m tests.structure $(ARGS)

.PHONY: check-generated
check-generated: $(DEV) ## The committed generated code matches the .proto files
	@rm -rf build/generated && mkdir -p build/generated
	@$(PROTOC) --python_out=build/generated --grpc_python_out=build/generated \
		--mypy_out=quiet:build/generated --mypy_grpc_out=quiet:build/generated $(PROTOS)
	@diff -r -x __init__.py -x __pycache__ -x '*.proto' -x buf.yaml -x py.typed -x baseline.binpb build/generated/protos protos \
		&& echo "generated code is current"

.PHONY: check-protos
check-protos: build/image.binpb ## buf: style, and compatibility with the baseline
	@$(BIN)/buf lint $< --config protos/buf.yaml --path protos
	@$(BIN)/buf breaking $< --config protos/buf.yaml --path protos --against protos/baseline.binpb
	@echo "protos are clean and compatible"

.PHONY: check-migrations
check-migrations: $(DEV) ## squawk: nothing locks or breaks a live database
	@rm -rf build/migrations
	@for file in $(MIGRATIONS); do mkdir -p "build/$$(dirname "$$file")"; \
		awk '/^-- migrate:down/ {exit} {print}' "$$file" > "build/$$file"; done
	@$(BIN)/squawk $(addprefix build/,$(MIGRATIONS))

.PHONY: ci
ci: ## Run what CI runs: tests, checks, the full tier
	@bash .ci/run

##@ By hand: full size, minutes each

.PHONY: test-races
test-races: $(DEV) ## The races: contention, holds, payments
	@TEST_SIZE=full $(PY) -m pytest tests/booking/races $(LONG) $(ARGS)

.PHONY: test-crash
test-crash: $(DEV) ## 50 kills with -9 and 1,000 cancelled RPCs
	@TEST_SIZE=full $(PY) -m pytest tests/booking/crash $(LONG) $(ARGS)

.PHONY: test-scripts
test-scripts: $(DEV) ## Random scripts against the model and the database
	@TEST_SIZE=full $(PY) -m pytest tests/booking/scripts $(LONG) $(ARGS)

.PHONY: test-replay
test-replay: $(DEV) ## Replay all 9,999 bookings and kill both services in the middle
	@TEST_SIZE=full $(PY) -m pytest tests/pair/test_replay_totals.py $(LONG) $(ARGS)

.PHONY: test-attacks
test-attacks: $(DEV) ## Attack a real pair and measure another caller meanwhile (ARGS="--rows 4,16")
	@GRPC_ENABLE_FORK_SUPPORT=0 $(PY) -m tests.attacks $(ARGS)

.PHONY: test-fuzz
test-fuzz: $(DEV) ## 100,000 random requests to every method of a real pair (FUZZ_SEED=, FUZZ_CALLS=)
	@TEST_SIZE=full $(PY) -m pytest -s tests/attacks/test_fuzz.py tests/attacks/test_http_fuzz.py $(LONG) $(ARGS)

.PHONY: bench-holds
bench-holds: $(DEV) ## Holds per second on one hot package, grouped and one by one
	@$(PY) -m tests.bench.holds $(ARGS)

.PHONY: bench-tracking
bench-tracking: $(DEV) ## Microseconds that timing adds to a query, compared with OpenTelemetry and Sentry
	@$(PY) -m tests.bench.tracking $(ARGS)

.PHONY: bench-resets
bench-resets: $(DEV) ## Microseconds of CPU for calls begun and reset, here and of a server of gRPC alone
	@$(PY) -m tests.bench.resets $(ARGS)

.PHONY: bench-sketch
bench-sketch: $(DEV) ## Microseconds per sample of a percentile sketch
	@$(PY) -m tests.bench.sketch $(ARGS)

.PHONY: simulate-alerts
simulate-alerts: $(DEV) ## False alarms a week of the shipped rules, and minutes until they find what is worse
	@$(PY) -m tests.bench.alerts $(ARGS)

.PHONY: bench-fold
bench-fold: $(DEV) ## Bytes of a live session and CPU of an event, with and without breakdowns
	@$(PY) -m tests.bench.fold $(ARGS)

.PHONY: bench-scrape
bench-scrape: $(DEV) ## CPU of a scrape of about 2,500 series, compared with prometheus-client
	@$(PY) -m tests.bench.scrape $(ARGS)

.PHONY: bench-start
bench-start: $(DEV) ## Seconds until metrics_service listens and serves, by what it has to fold again
	@$(PY) -m tests.bench.start $(ARGS)

.PHONY: bench-indexes
bench-indexes: $(DEV) ## Read and write times with and without the fifteen indexes (ARGS="--rows N")
	@$(PY) -m tests.bench.indexes $(ARGS)

##@ Maintain

.PHONY: pictures
pictures: $(DEV) ## Render the page on the replay and on the history into docs/pictures (needs chromium)
	@$(PY) -m tests.pictures $(ARGS)

.PHONY: proto
proto: $(DEV) ## Generate the Python code of the .proto files
	@$(PROTOC) --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

.PHONY: proto-baseline
proto-baseline: $(DEV) ## Make the present contract the baseline of check-protos
	@$(PROTOC) --include_imports --descriptor_set_out=protos/baseline.binpb $(PROTOS)

.PHONY: protos-export
protos-export: $(DEV) ## The contract for clients in other languages, as a module in build/export
	@rm -rf "$(EXPORT)" && mkdir -p "$(EXPORT)/google"
	@cp --parents $(EXPORTED) LICENSE "$(EXPORT)"
	@cp protos/buf.yaml "$(EXPORT)"
	@(cd "$(SITE)" && tar -c $(GOOGLEAPIS)) | tar -x -C "$(EXPORT)"
	@cp "$(SITE)"/googleapis_common_protos-*.dist-info/licenses/LICENSE "$(EXPORT)/google"
	@$(BIN)/buf build "$(EXPORT)" && echo "$(EXPORT) is a module of its own"

.PHONY: format
format: $(DEV) ## Fix imports and format with ruff
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: docs
docs: $(DEV) ## Write the pages of settings, alerts and metrics from what declares them
	@$(PY) -m servicekit.settings_reference booking_service=booking_service.config:BookingSettings \
		metrics_service=metrics_service.config:MetricsSettings \
		Clients=servicekit.client_settings:ClientSettings > docs/settings.md
	@$(PY) -m metrics_service.alerts.rules.page > docs/alerts.md
	@$(PY) -m servicekit.exposition.page \
		metrics_service=metrics_service.web.scrape.declarations:METRICS \
		booking_service=booking_service.monitoring.metrics:METRICS > docs/metrics.md

.PHONY: dashboards
dashboards: $(DEV) ## Write the dashboards of deploy/grafana from their declarations
	@$(PY) -m deploy.grafana.generate

.PHONY: lock
lock: $(DEV) ## Resolve both lock files again
	@$(call compile,requirements/running.txt,--upgrade)
	@$(call compile,requirements/development.txt,--upgrade --extra otlp --group dev --constraint requirements/running.txt)

.PHONY: clean
clean: ## Remove the virtual environment and build/
	@rm -rf .venv build

define compile
	$(BIN)/uv pip compile pyproject.toml requirements/build.in --extra demo $(2) \
		--generate-hashes --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --quiet --output-file $(1)
endef

# The project itself is linked in, without a download: its build backend is in the lock.
define install
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endef

$(MADE):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed; name it with PYTHON=" >&2; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv --clear .venv
	@touch $@

$(RUN): requirements/running.txt pyproject.toml | $(MADE)
	@echo "installing what running needs"
	@$(call install,$<)
	@touch $@

$(DEV): requirements/development.txt pyproject.toml | $(MADE)
	@echo "installing what development needs"
	@$(call install,$<)
	@touch $@ $(RUN)

build/image.binpb: $(PROTOS) | $(DEV)
	@mkdir -p build
	@$(PROTOC) --include_imports --include_source_info --descriptor_set_out=$@ $(PROTOS)
