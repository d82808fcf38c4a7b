# Everything is set up by the verb that needs it: `make serve` on a fresh machine does it all.
MODELS ?= models
ARGS ?=

.PHONY: serve dist test test-servers test-clients test-schema test-manifests test-console test-training test-image manifests \
	metrics image e2e lint bench bench-tools bench-full bench-peers bench-gpu bench-micro soak train packages libtorch clean help

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

serve: libtorch ## build and serve the shipped model on port 8080
	cargo build --release
	target/release/torchpod serve $(MODELS) $(ARGS)

dist: libtorch ## build what images hold: by a profile of real requests, in a quarter of an hour on two cores
	@scripts/dist

libtorch: ## fetch libtorch 2.11.0 once per user; CUDA=1 brings what a GPU host needs
	@scripts/libtorch $(if $(CUDA),cuda,cpu)

test: libtorch test-servers test-clients test-schema test-manifests ## every test that CI runs
	cargo build
	cargo test --workspace
	$(MAKE) test-console
	scripts/fuzz 10

# The tests start them by themselves, with data of their own; Debian keeps two of them out of PATH.
test-servers:
	@PATH="$$PATH:/usr/sbin:$$(echo /usr/lib/postgresql/*/bin | tr ' ' :)"; set --; \
	command -v initdb >/dev/null || set -- "$$@" postgresql; \
	command -v mariadbd >/dev/null || set -- "$$@" mariadb-server-core; \
	command -v my_print_defaults >/dev/null || set -- "$$@" mariadb-client-core; \
	command -v redis-server >/dev/null || set -- "$$@" redis-server; \
	command -v promtool >/dev/null || set -- "$$@" prometheus; \
	command -v openssl >/dev/null || set -- "$$@" openssl; \
	command -v h2load >/dev/null || set -- "$$@" nghttp2-client; \
	command -v curl >/dev/null || set -- "$$@" curl; \
	[ $$# = 0 ] || scripts/install "$$@"

# Made from nothing when a pin changes, so that no package of an older list stays behind.
VENV = python3 -m venv --clear $(@D) && \
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r $< && touch $@

CLIENTS := .venvs/clients
test-clients: $(CLIENTS)/installed

$(CLIENTS)/installed: tests/conformance/requirements.txt
	$(VENV)

SCHEMA := .venvs/schema
test-schema: $(SCHEMA)/installed

$(SCHEMA)/installed: tests/conformance/schemathesis.txt
	$(VENV)

# SHOTS=folder writes pictures of what it sees.
test-console: libtorch ## look at the console with Debian's Chromium, and with axe-core
	@set --; \
	command -v chromium >/dev/null || set -- "$$@" chromium; \
	command -v npm >/dev/null || set -- "$$@" nodejs npm; \
	[ $$# = 0 ] || scripts/install "$$@"
	$(if $(TORCHPOD),,cargo build)
	cd tests/console && npm ci --ignore-scripts --no-audit --no-fund --silent && npm test --silent

# Schemas for the tests of k8s/, and a kubectl for its kustomize.
MANIFESTS := .venvs/manifests
test-manifests: $(MANIFESTS)/installed

$(MANIFESTS)/installed: kubectl-torchpod/tests/manifest/requirements.txt
	$(VENV)

manifests: $(MANIFESTS)/installed ## render k8s/ into k8s/rendered, plain files for kubectl apply -f
	scripts/manifests

metrics: ## write docs/metrics.md from the table in src/telemetry/table.rs
	WRITE_METRICS=1 cargo test --package torchpod --lib telemetry::table

lint: libtorch ## format, clippy, scripts, and licences where cargo-deny is installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	for script in scripts/libtorch scripts/dist scripts/requests scripts/install scripts/fuzz scripts/image scripts/manifests .ci/run; do \
		bash -n $$script || exit; done
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: licences and bans are not checked (cargo install cargo-deny)"; fi

# What images hold is measured; TORCHPOD=file measures another build instead.
DIST = target/$(shell rustc -vV | sed -n 's/^host: //p')/dist/torchpod
BENCH = TORCHPOD=$(abspath $(or $(TORCHPOD),$(DIST))) cargo bench --bench compare --
bench-tools: libtorch
	@command -v wrk >/dev/null || scripts/install wrk
	$(if $(TORCHPOD),,@scripts/dist)

bench: bench-tools ## throughput, latency, CPU, start-up and memory, side by side in one run of ten minutes
	$(BENCH)

bench-full: bench-tools ## the same for every model, body and number of connections, and what grows: an hour and a half
	$(BENCH) whole

PEERS := .venvs/peers
bench-peers: bench-tools $(PEERS)/installed ## torchpod beside Flask, TorchServe, LitServe and Triton's Python backend (about 4 GB)
	@command -v java >/dev/null || scripts/install openjdk-17-jre-headless
	$(BENCH) peers

$(PEERS)/installed: benches/peers/requirements.txt
	$(VENV)

bench-gpu: bench-tools ## the ResNet-50 on a GPU, beside a loop around the same engine; says so where there is none
	$(BENCH) gpu

bench-micro: libtorch ## parsing, beside other parsers, formatting, the verdict of a probe and /metrics, each alone
	cargo bench --bench micro

soak: libtorch test-servers test-clients test-schema ## the tests that are too long for CI
	cargo build
	cargo test --test it -- --ignored
	cargo test -p kubectl-torchpod --test rollout --test release -- --ignored --test-threads 1 --nocapture
	scripts/fuzz 600

TRAIN := .venvs/train
train: $(TRAIN)/installed ## train models/digits again, in a Python environment of its own (about 4 GB)
	$(TRAIN)/bin/python models/digits/train.py

$(TRAIN)/installed: models/digits/requirements.txt
	$(VENV)

EXPORT := .venvs/export
packages: $(EXPORT)/installed ## compile the tests' AOTInductor packages again, in a Python environment of its own (about 4 GB)
	$(EXPORT)/bin/python tests/models/packages.py

$(EXPORT)/installed: models/requirements.txt
	$(VENV)

test-training: libtorch $(TRAIN)/installed ## train in three processes, lose one, serve the model: minutes, and train's download
	$(if $(TORCHPOD),,cargo build)
	$(TRAIN)/bin/python tests/training/together.py

e2e: ## every strategy under load with kubectl, on the cluster that KUBECONFIG names; tests/e2e/tour.py says what to set
	cargo build -p kubectl-torchpod
	python3 -B tests/e2e/tour.py

TARGET ?= cpu
image: ## build torchpod:0.1.0 by docker, podman or buildah; TARGET=cuda or trainer builds the others
	@scripts/image $(TARGET)

# As root on Debian: no container service is needed, and no registry but Debian's, PyPI and crates.io.
test-image: ## build an image with buildah, run it as a kubelet would and stop it; three quarters of an hour on two cores at first
	@set --; \
	for tool in buildah mmdebstrap runc; do command -v $$tool >/dev/null || set -- "$$@" $$tool; done; \
	[ $$# = 0 ] || scripts/install "$$@"
	python3 tests/image/$(if $(filter trainer,$(TARGET)),trainer,server).py

clean: ## remove what was built; libtorch stays in its cache
	rm -rf target .venvs tests/console/node_modules
