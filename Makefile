# Every verb of codex-forge on one machine. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/quickstart.yaml
ARGS ?=
QUESTION ?=
SHARDS ?= 2
FOLDS ?= 5
SEED ?= 7
STORE ?= artifacts
OVERLAY ?= minimal
PARALLEL ?=
MODE ?=
IMAGE ?= codex-forge
BASE_IMAGE ?=
EXTRAS ?= demo
IMAGE_ARGS ?=
RUN_ARGS ?=
# The first that answers; buildah builds, and runs nothing.
ENGINE ?= $(shell for e in docker podman buildah; do "$$e" info >/dev/null 2>&1 && echo "$$e" && break; done)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN := $(BIN)/python -m
# A file of tests is one process's, which computes with one thread: as many as there are cores.
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export QUESTION

given = $(if $(filter command environment,$(firstword $(origin $(1)))),$(1)='$($(1))')
K8S = OVERLAY=$(OVERLAY) CONFIG=$(CONFIG) PYTHON=$(abspath $(BIN))/python $(call given,IMAGE) $(call given,SHARDS) $(call given,PARALLEL) k8s/run.sh

MODES := pairs audit train embed evaluate compare

.DEFAULT_GOAL := help
.PHONY: help setup demo baseline bm25 hybrid why crossfit demo-smoke test test-all test-image test-slurm test-cluster chaos check format clean schema bench sweep sweep-plan sweep-missing sweep-collect embed-shards k8s-pipeline k8s-sweep k8s-show image image-run status gc $(MODES)

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 22
	@echo
	@echo "  a mode on your own config:  make train CONFIG=configs/mine.yaml ARGS='train.epochs=2'"

setup: $(READY) ## a virtual environment in .venv with what was tested (constraints.txt)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "codex-forge needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## the whole pipeline on the shipped sample, ending with the verdict
	@$(RUN) jobs.pairs $(CONFIG) $(ARGS)
	@$(RUN) jobs.audit $(CONFIG) $(ARGS)
	@$(MAKE) --no-print-directory baseline bm25
	@$(RUN) jobs.train $(CONFIG) $(ARGS)
	@$(RUN) jobs.embed $(CONFIG) $(ARGS)
	@$(RUN) jobs.evaluate $(CONFIG) $(ARGS)
	@$(MAKE) --no-print-directory hybrid
	@$(RUN) jobs.compare $(CONFIG) $(ARGS)

demo-smoke: $(READY) ## the demo with two training steps, in a folder of its own
	@rm -rf build/smoke
	$(MAKE) --no-print-directory demo ARGS='store=build/smoke embed.chroma.path=build/smoke/chroma train.max_steps=2 $(ARGS)'

$(MODES): $(READY)
	@$(RUN) jobs.$@ $(CONFIG) $(ARGS)

pairs: ## training pairs from the corpus, and an honest split of the questions
audit: ## token lengths, pair quality and leaks, with a verdict
train: ## fine-tune the base model on the audited pairs
embed: ## the corpus as vectors: Parquet and ChromaDB
evaluate: ## score a retriever on the held-out questions
compare: ## baseline against candidate: verdict, tier, report

baseline: $(READY) ## embed and evaluate with the base model: what compare compares with
	@$(RUN) jobs.embed $(CONFIG) embed.model=base $(ARGS)
	@$(RUN) jobs.evaluate $(CONFIG) embed.model=base $(ARGS)

bm25: $(READY) ## evaluate words alone (needs pairs only)
	@$(RUN) jobs.evaluate $(CONFIG) evaluate.retriever=bm25 $(ARGS)

hybrid: $(READY) ## evaluate the trained model together with BM25
	@$(RUN) jobs.evaluate $(CONFIG) evaluate.retriever=hybrid $(ARGS)

why: $(READY) ## why a question gained or lost: make why QUESTION='bilirubin'
	@$(RUN) jobs.why $(CONFIG) "$$QUESTION" $(ARGS)

crossfit: $(READY) ## every question scored by a model that never saw it: FOLDS runs, one verdict
	@for i in $$(seq 0 $$(($(FOLDS) - 1))); do \
	  set -- $(CONFIG) pairs.split.folds=$(FOLDS) pairs.split.fold=$$i $(ARGS); \
	  $(RUN) jobs.pairs "$$@"; $(RUN) jobs.audit "$$@"; \
	  $(RUN) jobs.embed "$$@" embed.model=base; $(RUN) jobs.evaluate "$$@" embed.model=base; \
	  $(RUN) jobs.evaluate "$$@" evaluate.retriever=bm25; \
	  $(RUN) jobs.train "$$@"; $(RUN) jobs.embed "$$@"; $(RUN) jobs.evaluate "$$@"; \
	  $(RUN) jobs.evaluate "$$@" evaluate.retriever=hybrid; done
	@$(RUN) jobs.compare $(CONFIG) pairs.split.folds=$(FOLDS) $(ARGS)

sweep: $(READY) ## all trials of the sweep that are not done, then the leaderboard (PARALLEL=2: two at a time)
	@code=0; if [ -z "$(PARALLEL)" ]; then $(RUN) jobs.sweep $(CONFIG) $(ARGS) || code=$$?; else \
	  n=$$($(RUN) jobs.sweep $(CONFIG) --size $(ARGS)) || exit; \
	  export OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$((($$(nproc) + $(PARALLEL) - 1) / $(PARALLEL)))}; \
	  seq 0 $$((n - 1)) | xargs -P $(PARALLEL) -I{} sh -c 'JOB_COMPLETION_INDEX={} "$$@" || exit 1' trial \
	    $(RUN) jobs.sweep $(CONFIG) --shards "$$n" $(ARGS) || code=1; fi; \
	  $(RUN) jobs.sweep $(CONFIG) --collect $(ARGS) || code=$$?; exit $$code

sweep-plan: $(READY) ## the trials of the config's sweep; nothing is run
	@$(RUN) jobs.sweep $(CONFIG) --plan $(ARGS)

sweep-missing: $(READY) ## which trials are to be started, and how far the others are
	@$(RUN) jobs.sweep $(CONFIG) --missing $(ARGS)

sweep-collect: $(READY) ## the leaderboard, and the winner's score on test questions
	@$(RUN) jobs.sweep $(CONFIG) --collect $(ARGS)

embed-shards: $(READY) ## embed in SHARDS processes, one after another
	@for i in $$(seq 0 $$(($(SHARDS) - 1))); do \
	  JOB_COMPLETION_INDEX=$$i $(RUN) jobs.embed $(CONFIG) --shards $(SHARDS) $(ARGS); done

test: $(READY) ## all tests but the slow ones and those below
	@$(PYTEST) -m 'not slow and not image and not slurm and not cluster'

test-all: $(READY) ## the slow ones, too
	@$(PYTEST) -m 'not image and not slurm and not cluster'

test-image: $(READY) ## builds the image and runs it (as root: podman, buildah, runc)
	@$(RUN) pytest -m image

test-slurm: $(READY) ## chain, sweep and two nodes on a real Slurm, started for it (as root)
	@$(RUN) pytest -m slurm

test-cluster: $(READY) ## the manifests on the Kubernetes that KUBECONFIG names
	@$(RUN) pytest -m cluster

chaos: $(READY) ## the fault suite: kill points, storage faults, ranks (an hour; SEED=7)
	@$(RUN) tests.chaos all --seed $(SEED)

image: ## the container image (IMAGE, BASE_IMAGE, EXTRAS, IMAGE_ARGS); docker, podman or buildah
	@engine='$(ENGINE)'; [ -n "$$engine" ] || { echo 'needs docker, podman or buildah'; exit 2; }; \
	  [ "$$engine" = docker ] || set -- --format docker --layers; \
	  $$engine build "$$@" --tag '$(IMAGE)' $(if $(BASE_IMAGE),--build-arg 'BASE_IMAGE=$(BASE_IMAGE)') \
	    --build-arg 'EXTRAS=$(EXTRAS)' \
	    --build-arg "VERSION=$$(sed -nE 's/^version = "(.+)"/\1/p' pyproject.toml)" \
	    --build-arg "REVISION=$$(git describe --always --dirty --abbrev=40 --match= 2>/dev/null || echo unknown)" \
	    $(IMAGE_ARGS) .

image-run: ## one mode in the image: make image-run MODE=train (the store is the folder STORE)
	@engine='$(ENGINE)'; [ -n "$$engine" ] || { echo 'needs docker or podman'; exit 2; }; \
	  [ -r '$(CONFIG)' ] || { echo '$(CONFIG): no such config'; exit 2; }; mkdir -p '$(STORE)'; \
	  [ "$${engine##*/}" != podman ] || [ "$$(id -u)" = 0 ] || set -- --userns keep-id; \
	  $$engine run --rm --read-only --tmpfs /tmp --shm-size 2g "$$@" --user "$$(id -u):$$(id -g)" \
	    --env CODEX_FORGE_CHROMA=/data/chroma --volume '$(abspath $(STORE)):/data' --volume '$(abspath $(CONFIG)):/config/run.yaml:ro' \
	    $(RUN_ARGS) '$(IMAGE)' $(if $(MODE),$(MODE) /config/run.yaml $(ARGS))

k8s-pipeline: ## the chain on Kubernetes, in order (OVERLAY=gpu CONFIG=... IMAGE=... SHARDS=16)
	@$(K8S) pipeline

k8s-sweep: $(READY) ## the sweep on Kubernetes, then its leaderboard (PARALLEL=8 ARGS=--accept-missing)
	@$(K8S) sweep

k8s-show: $(READY) ## the manifests of chain and sweep; nothing is applied
	@ARGS= $(K8S) show pipeline && echo ---
	@$(K8S) show sweep && echo ---
	@$(K8S) show sweep-collect

status: $(READY) ## what is on the STORE: whole, partial, being made by whom, last exits
	@$(RUN) jobs status $(STORE)

gc: $(READY) ## what nothing on the STORE needs any more (ARGS=--delete removes it)
	@$(RUN) jobs gc $(STORE) $(ARGS)

check: $(READY) ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m jobs schema | diff -u configs/schema.json - || { echo 'run make schema'; exit 1; }

format: $(READY) ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

schema: $(READY) ## write configs/schema.json from the config classes
	@$(BIN)/python -m jobs schema > configs/schema.json

bench: $(READY) ## benchmarks, side by side with what a user would use instead
	@$(BIN)/python -m benchmarks.pairs
	@$(BIN)/python -m benchmarks.hidden_positives
	@$(BIN)/python -m benchmarks.tokens
	@$(BIN)/python -m benchmarks.train
	@$(BIN)/python -m benchmarks.train --freeze-layers 4 --epochs 2 --pairs 640
	@$(BIN)/python -m benchmarks.recipes
	@$(BIN)/python -m benchmarks.embed
	@$(BIN)/python -m benchmarks.search
	@$(BIN)/python -m benchmarks.calibration
	@$(BIN)/python -m benchmarks.calibration_pairs
	@$(BIN)/python -m benchmarks.checkpoints

clean: ## remove the environment and build outputs; artifacts stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
