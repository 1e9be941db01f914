# Requires only Go and make: installs other missing tools if permitted, otherwise names them.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOLANGCI_VERSION    := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
GOTESTSUM_VERSION   := v1.13.0
GOTESTSUM           := go run gotest.tools/gotestsum@$(GOTESTSUM_VERSION) --format standard-quiet --
GOLANGCI            := .bin/golangci-lint-$(GOLANGCI_VERSION)

# auto: use the race detector if there is a C compiler, which it requires; 1: always; 0: never.
RACE      ?= auto
PACKAGES  ?= ./...
# count=1: tests that start the runner as a process build it themselves, which the test cache does not detect.
TESTFLAGS ?= -timeout 20m -count=1
FUZZTIME  ?= 30s
BENCHTIME ?= 1s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/runner
	CGO_ENABLED=0 go build -trimpath -o bin/runner ./cmd/runner

.PHONY: demo
demo: build ## build, then run a self-contained demo on an embedded NATS server and SQLite
	bin/runner demo

.PHONY: test
test: ## run all tests; installs PostgreSQL's server, PgBouncer, Chromium and Node.js if missing and permitted
	@scripts/setup postgres pgbouncer chromium node axe
	@race=$$(scripts/race $(RACE)); $(GOTESTSUM) $$race $(TESTFLAGS) $(PACKAGES)
	@$(if $(filter ./...,$(PACKAGES)),$(MAKE) --no-print-directory test-python)

PYTESTFLAGS ?= --quiet

.PHONY: test-python
test-python: ## check, build and test the Python packages of clients/; installs Python if missing and permitted
	@scripts/setup python
	@if [ -e clients/.venv/installed ]; then $(MAKE) --no-print-directory --directory clients test PYTESTFLAGS='$(PYTESTFLAGS)'; \
	else echo "SKIPPED, not tested: the Python packages of clients/"; fi

.PHONY: test-kubernetes
test-kubernetes: ## test the Helm chart with Helm on a real API server; builds both from source, a quarter of an hour the first time
	cd test/kubernetes && go test -count=1 -timeout 45m

.PHONY: test-containers
test-containers: ## build the image, run both profiles of docker-compose.yml, and kill runners, NATS and PostgreSQL in them
	scripts/setup containers
	cd test/containers && go test -count=1 -timeout 45m -v

.PHONY: contract
contract: ## write the JSON Schemas of contract/schema from the code, and compare them with the decoder over 20,000 bodies of each kind
	go test -count=1 -run TestSchemasAreInStep ./internal/jobs ./internal/catalog ./contract/schema -update
	go test -count=1 -run Schema ./contract/schema ./internal/jobs
	go test -count=1 -run TestSchemaAndDecoderJudgeAlike ./internal/jobs -bodies 20000

.PHONY: test-race
test-race: ## run all tests with the race detector; requires a C compiler
	@$(MAKE) --no-print-directory test RACE=1

# single: one NATS node and one runner; cluster: three nodes and two runners.
PROFILE ?= single
COMPOSE ?= docker compose

.PHONY: up
up: ## start NATS, PostgreSQL, SQL Server and a runner in containers; PROFILE=cluster for three nodes and two runners
	$(COMPOSE) --profile $(PROFILE) up --detach --build
	$(COMPOSE) --profile $(PROFILE) ps

.PHONY: down
down: ## stop the containers of `make up` and remove their data
	$(COMPOSE) --profile single --profile cluster down --volumes --remove-orphans

# The port is open on this machine only; the certificate is self-signed.
COMPOSE_SQLSERVER := sqlserver://sa:Administrator-4711@127.0.0.1:1433?encrypt=true&TrustServerCertificate=true

# Those tests of internal/app that have a case for SQL Server.
SQLSERVER_CASES := Test(AnEffectThatChanged|Calls|CheckOf(ACatalog|AnOutbox)|DryRunsAndApprovals|FourEyes|JobsThatWaitInAPausedServer|MaxAffected|Outbox(CommitAndRollback|BehindAnOutageOfNATS)|PausesAndOutboxes|PoisonsCostOnlyTheirOwnSlots|Queues|SchedulesOfCallsAndQueues|TheDigestOfOneText|TheLowestLimitCounts|WhatADryRunShows)$$/sqlserver

.PHONY: test-sqlserver
test-sqlserver: ## run all SQL Server tests against the server in RUNNER_TEST_SQLSERVER_URL
	@: $${RUNNER_TEST_SQLSERVER_URL:?name a server, such as sqlserver://sa:password@127.0.0.1:1433?encrypt=true&TrustServerCertificate=true}
	@scripts/setup postgres
	$(GOTESTSUM) $(TESTFLAGS) ./internal/db/sqlserver ./internal/db/outboxtable ./internal/verify ./test/bypass ./test/crash ./test/migrations
	$(GOTESTSUM) $(TESTFLAGS) -run '$(SQLSERVER_CASES)' ./internal/app

.PHONY: test-compose
test-compose: ## run the SQL Server tests against the server of docker-compose.yml
	$(COMPOSE) up --detach sqlserver databases
	RUNNER_TEST_SQLSERVER_URL='$(COMPOSE_SQLSERVER)' $(MAKE) --no-print-directory test-sqlserver

# SEEDS runs of JOBS jobs each; FAULTS adds flags, such as -only runner_kill,pg_stop or -v.
SEEDS  ?= 42
JOBS   ?= 5000
FAULTS ?=
SOAK   ?= 1h

.PHONY: faults
faults: ## run SEEDS (42) seeds of JOBS (5000) jobs under all faults and check each; writes test/faults/results/latest.json
	@scripts/setup postgres
	go build -o bin/faults ./test/faults
	bin/faults -seeds $(SEEDS) -jobs $(JOBS) -out test/faults/results/latest.json $(FAULTS)

.PHONY: faults-recovery
faults-recovery: ## measure the recovery time after each fault, half an hour; writes test/faults/results/recovery.json
	@scripts/setup postgres
	go build -o bin/faults ./test/faults
	bin/faults -recovery -out test/faults/results/recovery.json $(FAULTS)

.PHONY: faults-quick
faults-quick: ## run three short seeds of the fault bench, about a minute; writes nothing
	@scripts/setup postgres
	go build -o bin/faults ./test/faults
	bin/faults -quick $(FAULTS)

.PHONY: faults-mutants
faults-mutants: ## verify that the checker detects runners broken on purpose; a quarter of an hour
	@scripts/setup postgres
	go build -o bin/faults ./test/faults
	bin/faults -mutants -jobs 2500 -length 6s $(FAULTS)

.PHONY: soak
soak: ## run for SOAK (1h) without faults and graph memory, goroutines, connections and files: test/faults/results/soak.svg
	@scripts/setup postgres
	go build -o bin/faults ./test/faults
	bin/faults -soak $(SOAK) -out test/faults/results/soak.json $(FAULTS)

.PHONY: lint
lint: $(GOLANGCI) ## run all linters
	$(GOLANGCI) run ./...

# Built from source outside this module, so that its dependencies do not become ours.
$(GOLANGCI):
	GOBIN=$(CURDIR)/.bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv .bin/golangci-lint $@

.PHONY: format
format: $(GOLANGCI) ## format all Go files
	$(GOLANGCI) fmt ./...

.PHONY: docs
docs: ## regenerate docs/configuration.md
	go test ./internal/config -run Reference -update

.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (30s)
	@scripts/fuzz $(FUZZTIME) $(PACKAGES)

.PHONY: bench
bench: build ## compare the runner with a hand-written loop, about twenty minutes; writes bench/results/latest.json
	@scripts/setup postgres
	go build -o bin/bench ./bench
	bin/bench

.PHONY: bench-quick
bench-quick: build ## one short round of the benchmark, about a minute; writes nothing
	@scripts/setup postgres
	go build -o bin/bench ./bench
	bin/bench -quick -out ""

.PHONY: bench-scale
bench-scale: build ## measure long backlogs, many databases, many runners, R3 and an hour at 1,000 jobs/s; three hours; SCALE="-quick -out ''": four minutes, writes nothing
	@scripts/setup postgres
	go build -o bin/bench ./bench
	bin/bench -only scale -out bench/results/scale.json -page "" $(SCALE)

.PHONY: bench-profiles
bench-profiles: build ## write CPU profiles of the benchmark's processes as text into bench/profiles
	@scripts/setup postgres
	go build -o bin/bench ./bench
	bin/bench -profiles bench/profiles

.PHONY: bench-micro
bench-micro: ## run the Go benchmarks of all packages, BENCHTIME (1s) each
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(PACKAGES)

.PHONY: vulncheck
vulncheck: ## check dependencies for known vulnerabilities; needs the internet
	go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...

.PHONY: clean
clean: ## remove build products
	rm -rf bin .bin clients/.venv clients/.bin clients/dist
