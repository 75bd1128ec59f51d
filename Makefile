# make demo    the whole workflow on this machine, from nothing: environments, servers, pipeline, an answer
# make test    every property with small counts       make soak   the large counts
# make check   lint, types, layers, committed files    make down   stop the servers

PYTHON ?= python3
MODEL ?= pace-r2plus1d
SIZE ?= cpu
BIN := .venv/bin
INSTALLED := .venv/installed
LOCKS := requirements/torch.lock requirements/rushes.lock

.PHONY: demo install test soak check format compile lock build up down status clean

demo: $(INSTALLED)
	@$(BIN)/rushes demo $(MODEL) --size $(SIZE)

install: $(INSTALLED)

$(INSTALLED): $(LOCKS) pyproject.toml requirements/install.sh
	@PYTHON="$(PYTHON)" requirements/install.sh

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not soak"

soak: $(INSTALLED)
	$(BIN)/python -m pytest -m soak

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
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

build: $(INSTALLED)
	$(BIN)/python -m build --no-isolation --wheel

up down status: $(INSTALLED)
	@$(BIN)/rushes $@

clean:
	@test ! -x $(BIN)/rushes || $(BIN)/rushes down
	rm -rf .venv .rushes artifacts data/demo dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
