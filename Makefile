# Tidegate. `make` alone lists the targets.
# Needs Go and npm; `make test` also a C compiler, for the race detector.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
COMMIT_DATE ?= $(shell git show -s --format=%cI HEAD 2>/dev/null)
LDFLAGS := -s -w -X tidegate/internal/app.Version=$(VERSION) -X tidegate/internal/app.Commit=$(COMMIT) -X tidegate/internal/app.Date=$(COMMIT_DATE)

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOTESTSUM := gotest.tools/gotestsum@v1.13.0

# Nothing here needs cgo but the race detector. One setting for build, vet and
# lint lets them share one compilation of every dependency.
export CGO_ENABLED := 0
# SQLite, translated from C, takes twice as long under the race detector. It alone may be left out: a package with
# generics would give its instances of them, which are not watched, to all others (sync.Map), and races that are none.
RACE := -race '-gcflags=modernc.org/sqlite/lib=-race=false' -shuffle=on
GO_TEST := CGO_ENABLED=1 go test $(RACE)

.PHONY: help build deps dashboard demo up test e2e test-dashboard screenshots chaos fuzz names soak test-real test-cluster bench bench-rollback release test-release test-deploy check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

build: ## bin/tidegate, bin/router, bin/ingest, bin/jobs-api
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/tidegate ./cmd/router ./cmd/ingest ./cmd/jobs-api

# The stamp lies inside the folder that `npm ci` replaces, so it is there exactly
# when an installation of this lock file was completed.
NPM_STAMP := deps/node_modules/.installed

deps: $(NPM_STAMP) ## the locked npm packages in deps/ and the Go modules
	go mod download

$(NPM_STAMP): deps/package-lock.json deps/package.json
	cd deps && npm ci --ignore-scripts
	touch $@

# The wranglers that the end-to-end tests run.
WRANGLER_STAMP := test/wrangler/node_modules/.installed

$(WRANGLER_STAMP): test/wrangler/package-lock.json test/wrangler/package.json test/wrangler/.npmrc
	cd test/wrangler && npm ci --ignore-scripts --loglevel=error # they ask for a newer Node.js than runs npm; the newer one is among them
	touch $@

# The built files of the dashboard are committed, so that Go alone builds the binaries.
WEB := dashboards/web
WEB_STAMP := $(WEB)/node_modules/.installed

$(WEB_STAMP): $(WEB)/package-lock.json $(WEB)/package.json $(WEB)/.npmrc
	cd $(WEB) && npm ci
	touch $@

dashboard: $(WEB_STAMP) ## the pages in dashboards/dist, from dashboards/web, after their unit tests
	cd $(WEB) && npm test && npm run build

demo: build deps ## play the whole story on real traffic, on embedded defaults
	go run ./test/demo

up: build deps ## run everything in the foreground; ARGS="--api-addr ..." adds flags
	exec bin/tidegate up $(ARGS)

# The end-to-end tests take longest and wait most, so they come first and have the others beside them, and what takes minutes
# comes next, or it would be alone in the end. Many of those wait for an engine or a broker, too, so four packages run at a
# time also where there are two processors.
# `make check` vets everything, so that `go test` need not.
# RERUNS=1 runs what failed once more, by itself, if it is little, and says so; never after a data race or a panic,
# and in vain where a process of tests did not end by itself: others of its tests may not have run.
test: build deps $(WRANGLER_STAMP) ## all tests that need only Go and npm
	CGO_ENABLED=1 go run $(GOTESTSUM) --format pkgname-and-test-fails --hide-summary=skipped --jsonfile bin/test.json --packages './test/e2e ./test/exactlyonce ./pipeline/ingest ./internal/clickhouse ./...' \
		--rerun-fails=$${RERUNS:-0} --rerun-fails-max-failures=6 --rerun-fails-abort-on-data-race -- $(RACE) -vet=off -p 4 -timeout 60m
	.ci/ended bin/test.json
	go test -count=1 -run 'Alloc|LargeBodies|RarelyFailed' ./internal/deploy ./internal/gateway ./internal/logjob ./internal/rollback ./internal/runtime # the race detector allocates, and takes its time, by itself
	go test -count=1 ./internal/nowait ./internal/gateway/lean ./internal/rollback/sequential # the race detector knows system calls that are announced only, and makes a third one wait

e2e: build deps $(WRANGLER_STAMP) ## only the end-to-end tests
	$(GO_TEST) -timeout 30m -count=1 ./test/e2e/...

BROWSER_STAMP := test/dashboard/node_modules/.installed

$(BROWSER_STAMP): test/dashboard/package-lock.json test/dashboard/package.json test/dashboard/.npmrc
	cd test/dashboard && npm ci
	touch $@

test-dashboard: build deps $(BROWSER_STAMP) ## the dashboard in Chromium, on real traffic; ARGS="-- tests/story.spec.ts" for one file
	go run ./test/dashboard $(ARGS)

screenshots: build deps $(BROWSER_STAMP) ## docs/screenshots, of every page of the dashboard
	go run ./test/dashboard -screenshots

chaos: build deps ## a hundred rounds of faults between Kafka and ClickHouse, more around the gateway, with Kafka and the control plane away for minutes, and ten kills of who delivers Logpush jobs; TIDEGATE_LONG=N for more
	TIDEGATE_LONG=$${TIDEGATE_LONG:-100} $(GO_TEST) -timeout 60m -count=1 -v -run Chaos ./test/exactlyonce
	TIDEGATE_LONG=$${TIDEGATE_LONG:-120} $(GO_TEST) -timeout 60m -count=1 -v -run 'TestEachRequestIsOneEvent|TestEndpointChaos' ./internal/gateway
	TIDEGATE_LONG=$${TIDEGATE_LONG:-10} $(GO_TEST) -timeout 60m -count=1 -v -run TestNothingIsMissingAfterKills ./test/logpush

names: deps ## attacks with a million made-up names: what is counted, and how much memory they take
	TIDEGATE_LONG=1 go test -timeout 60m -count=1 -v -run CardinalityAttacks ./pipeline/ingest

fuzz: ## every fuzz target for FUZZTIME (10m), JOBS at a time; FUZZ=regexp picks some; new inputs stay in .fuzz and testdata/fuzz
	nice -n 10 go run ./test/fuzz -time $${FUZZTIME:-10m} -run "$${FUZZ:-}" $${JOBS:+-jobs $$JOBS} $(ARGS)

soak: deps ## DURATION (10m) of real traffic, changes and faults, and every request accounted for; SEED repeats a run
	@mkdir -p bin/soak
	go run ./test/soak/wrongclock bin/soak/tidegate
	go build -o bin/soak/ ./test/soak
	bin/soak/soak -duration $${DURATION:-10m} $${SEED:+-seed $$SEED} $(ARGS)

test-real: build deps ## contract suites on Apache Kafka, PostgreSQL, object stores and log receivers, which it starts
	test/real/run.sh

test-cluster: build deps ## three routers, two of each reader and control plane, three Kafka brokers: broken, upgraded and counted; needs root; ARGS="-run Kafka" for some
	TIDEGATE_TEST_MOUNT=1 go test -count=1 -run FullDisk ./internal/embedded # make test leaves them out without root
	test/cluster/run.sh $(ARGS)

bench: build deps ## each area beside its limit or peer, as ratios
	for area in bench/*/; do go run "./$$area"; done

bench-rollback: ## the rollback tests beside Flagger, Argo Rollouts and the lower bounds, simulated; ARGS="-rounds 4000" for more
	go run ./bench/rollback $(ARGS)

check: ## format, lint (with all that go vet looks at), vulnerability scan
	@unformatted=$$(find . -name node_modules -prune -o -name '*.go' -exec gofmt -s -l {} +); \
	if [[ -n $$unformatted ]]; then printf 'gofmt -s -w would change:\n%s\n' "$$unformatted" >&2; exit 1; fi
	go run $(GOLANGCI_LINT) run ./...
	.ci/vulnerabilities

release: ## archives of HEAD for linux/amd64 and linux/arm64, SBOMs and checksums in dist/, after a scan for vulnerabilities; ARGS=-unscanned where no database of them can be reached; COMMIT=v1.2.0 for another one
	go run ./test/release -commit $(or $(COMMIT),HEAD) $(ARGS)

test-deploy: ## the Helm chart and the Prometheus rules by the libraries that read them; ARGS=-update writes the golden files
	go -C test/deploy test -count=1 ./... $(ARGS)

test-release: ## builds one commit twice, in folders and caches of their own, and compares every byte
	TIDEGATE_TEST_RELEASE=1 go test -timeout 80m -count=1 -v -run TwoBuilds ./test/release

clean: ## remove what was built and installed; data/ stays
	rm -rf bin dist coverage deps/node_modules test/wrangler/node_modules $(WEB)/node_modules test/dashboard/node_modules
