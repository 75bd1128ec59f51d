# make demo    the whole workflow on this machine, from nothing: environments, servers, pipeline, an answer
# make test    every property with small counts       make soak   the large counts
# make check   lint, types, layers, committed files    make down   stop the servers
# make docs    the documentation as a site, in site/
# make sbom    after `make lock`: the licences of all packages, and what each image holds
# make image   the image of the pipeline's steps, by Docker; image-gpu and image-triton: deploy/Dockerfile
# make cluster       Kubernetes in Docker by kind, with all servers, and the demo on it: not tried yet (deploy/kind)
# make cluster-test  what must hold of a cluster, on that one       make cluster-down   removes it

PYTHON ?= python3
MODEL ?= pace-r2plus1d
SIZE ?= cpu
# Files of tests at a time; each of these processes starts servers of its own, computes with one thread, and takes up to 4 GB.
JOBS ?= 4
BIN := .venv/bin
INSTALLED := .venv/installed
LOCKS := requirements/torch.lock requirements/rushes.lock

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG = $(shell $(BIN)/python -m rushes.orchestration.image)
# Images bear two tags: the pipeline names the first, which no other code ever gets; manifests are edited to digests.
BASE ?=
DOCKER_BUILD := DOCKER_BUILDKIT=1 docker build --file deploy/Dockerfile $(if $(BASE),--build-arg BASE=$(BASE)) $(DOCKER_FLAGS)

.PHONY: demo install test soak check format compile lock sbom docs build image image-gpu image-triton cluster cluster-test cluster-down up down status clean

demo: $(INSTALLED)
	@$(BIN)/rushes demo $(MODEL) --size $(SIZE)

install: $(INSTALLED)

$(INSTALLED): $(LOCKS) pyproject.toml requirements/install.sh
	@PYTHON="$(PYTHON)" requirements/install.sh

PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)
	$(PYTEST) -m "not soak"

soak: $(INSTALLED)
	$(PYTEST) -m soak

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/python -m deploy.versions
	$(BIN)/python -m deploy.sbom --check
	$(BIN)/python -m pipelines.pipeline --check
	$(BIN)/python -m pipelines.dvc --check
	$(BIN)/python -m pipelines.readmes --check

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

compile: $(INSTALLED)
	$(BIN)/python -m pipelines.pipeline
	$(BIN)/python -m pipelines.dvc
	$(BIN)/python -m pipelines.readmes

lock:
	requirements/lock.sh

sbom: $(INSTALLED)
	$(BIN)/python -m deploy.sbom

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

build: $(INSTALLED)
	$(BIN)/python -m build --no-isolation --wheel

image: $(INSTALLED)
	$(DOCKER_BUILD) --target cpu --build-arg TORCH_INDEX=$(RUSHES_TORCH_INDEX) --tag rushes/python:$(TAG) --tag rushes/python:$(VERSION) .

image-gpu: $(INSTALLED)
	$(DOCKER_BUILD) --target gpu --tag rushes/python-gpu:$(TAG) --tag rushes/python-gpu:$(VERSION) .

image-triton: $(INSTALLED)
	$(DOCKER_BUILD) --target triton --tag rushes/triton:$(TAG) --tag rushes/triton:$(VERSION) .

cluster: image image-triton
	bash deploy/kind/cluster.sh up

cluster-test: $(INSTALLED)
	bash deploy/kind/cluster.sh test

cluster-down:
	bash deploy/kind/cluster.sh down

up down status: $(INSTALLED)
	@$(BIN)/rushes $@

clean:
	@test ! -x $(BIN)/rushes || $(BIN)/rushes down
	rm -rf .venv .rushes artifacts data/demo dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
