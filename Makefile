# Everything that is done with this tree; `make help` lists it. CI runs `make check`.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# Debian packages that the tests call (gcc and libc6-dev: the race detector).
TEST_PACKAGES := curl git openssl gcc libc6-dev
# Seconds, minutes or executions (as 5000x) for each fuzz target.
FUZZTIME ?= 60s
# What `make run` passes on, as in ARGS="--policy policy.toml", and `make conform`
# to the test, as in ARGS="-conform.runs=reverse -conform.bin=bin/fwdproxy".
ARGS ?=

# The core of the load in `make bench`, not the one that is measured, which is 0.
LOAD_CORE ?= 1

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# Stamping fails where git distrusts the owner of the tree; the version above is enough.
export GOFLAGS := $(filter-out -buildvcs%,$(GOFLAGS)) -buildvcs=false
GO := go
TOOL := $(GO) tool -modfile=tools/go.mod

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## run the proxy from source; ARGS="--policy FILE --reverse" are passed on
	$(GO) run ./cmd/fwdproxy $(ARGS)

.PHONY: build
build: ## build bin/fwdproxy
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/fwdproxy ./cmd/fwdproxy

.PHONY: deps
deps: ## install the Debian packages that the tests call, where they are missing
	@sh tools/deps.sh $(TEST_PACKAGES)

.PHONY: test
test: deps ## run all tests with the race detector
	$(GO) test -race -timeout 5m ./...

.PHONY: check
check: format modules vet lint test smoke ## all that CI runs: format, modules, vet, lint, test, a short fuzz

.PHONY: format
format: ## fail on files that gofmt would change
	@files=$$(gofmt -l .) && if [ -n "$$files" ]; then echo "run gofmt -w on:"; echo "$$files"; exit 1; fi

.PHONY: modules
modules: ## fail where go.mod or go.sum is not tidy
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff

.PHONY: vet
vet: ## run go vet
	$(GO) vet ./...
	$(GO) vet -tags soak,benchlists ./cmd/fwdproxy
	cd tools && $(GO) vet ./bench

.PHONY: lint
lint: ## run staticcheck, errcheck and go fix's modernizers, at the versions of tools/go.mod
	$(TOOL) staticcheck ./...
	$(TOOL) errcheck -ignoretests -exclude tools/errcheck.txt $$($(GO) list ./... | grep -v /proxytest)
	@$(GO) fix -diff ./... || { echo 'to apply this: go fix ./...'; exit 1; }

.PHONY: smoke
smoke: ## fuzz every target for three seconds
	@sh tools/fuzz.sh 3s

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (60s)
	@sh tools/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: build ## compare with Squid, Traffic Server, nginx, Varnish and HAProxy on one core; ARGS="-rows hit1k,miss -rounds 3"
	@sh tools/deps.sh squid trafficserver nginx varnish haproxy wrk
	cd tools && $(GO) build -o ../bin/bench ./bench
	taskset -c $(LOAD_CORE) bin/bench -load-core $(LOAD_CORE) -out docs/performance.md $(ARGS)

.PHONY: bench-go
bench-go: ## run the benchmarks of the packages
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Domains in the list of `make bench-lists`.
LIST_NAMES ?= 1000000

.PHONY: bench-lists
bench-lists: ## one list of LIST_NAMES domains (1000000) in fwdproxy and in Squid: start, memory, requests
	@sh tools/deps.sh squid
	LIST_NAMES=$(LIST_NAMES) $(GO) test -count=1 -tags benchlists -timeout 30m -run '^TestBenchLists$$' ./cmd/fwdproxy -v
	$(GO) test -run '^$$' -bench 'Decide|MillionNames' -benchmem ./acl

.PHONY: soak
soak: ## 1000 clients for 60 seconds, with a reload every second
	$(GO) test -tags soak -timeout 10m -run '^TestSoak$$' -v ./cmd/fwdproxy

.PHONY: soak-disk
soak-disk: ## kill a process 300 times that writes the disk cache, damage its index 1000 times, restart it with a million objects
	STORE_KILLS=300 $(GO) test -count=1 -timeout 30m -run '^(TestKilled|TestAnyFlippedBitsOfTheIndexAreMissesAndNeverAWrongByte)$$' -v ./cache/store
	STORE_MILLION=1000000 $(GO) test -count=1 -timeout 15m -run '^TestAMillionObjects$$' -v ./cache/store

.PHONY: soak-tunnels
soak-tunnels: ## open 10,000 tunnels that end in every way, and see goroutines and descriptors come back
	FORWARD_TUNNELS=10000 $(GO) test -count=1 -timeout 10m -run '^TestTunnelsLeaveNoGoroutineAndNoFileHoweverTheyEnd$$' -v ./forward

.PHONY: conform
conform: ## play the public conformance cases for HTTP caches, from memory, disk and over restarts, and print what fails
	$(GO) test -count=1 -timeout 5m -run '^TestConform$$' -v ./cmd/fwdproxy -conform.runs=all $(ARGS)

.PHONY: waf-crs
waf-crs: ## play all regression tests of the OWASP Core Rule Set at paranoia level 4 through the proxy, and print the pass rate
	$(GO) test -count=1 -timeout 9m -run '^TestTheCoreRuleSets' -v ./cmd/fwdproxy -crs.all $(ARGS)

.PHONY: cover
cover: deps ## write coverage.txt and print what the tests reach
	$(GO) test -timeout 5m -coverpkg=./... -coverprofile=coverage.txt ./...
	@$(GO) tool cover -func=coverage.txt | tail -n 1
