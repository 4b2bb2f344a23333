# make pretrain   pretrain a small BERT on Wikipedia pages (in about ten minutes on two cores with AVX-512; a second call goes on, or says that it is done)
# make test       format, lint, the tests of a few minutes
# make test-all   all tests but those of the three below: also what takes long and seldom fails (marked `slow`)
# make parity     compare with live torch and transformers (FLAX_PYTHON: as below, its folders too)
# make documented  type every command of README, docs and recipes in a fresh copy, in order, made small (some minutes)
# make equality   the same training on up to 8 devices and 4 processes, the table in docs/equality.md
# make bench      compare the speed of BERT with theirs (FLAX_PYTHON: interpreter of an environment with transformers 4.57);
#                 MODELS=all: of every text architecture, MODELS=images: of image models, MODELS=generation:
#                 of texts that are written, MODELS=scenes: of boxes, masks and depth, MODELS=tuning: of padded texts (MATERIAL:
#                 see docs/speed.md), MODELS=gpu: of both on an
#                 NVIDIA GPU (extra `cuda`, a torch with CUDA), the tables in docs/speed.md
# make learning   small models of one budget, one for each objective, on two texts, after
#                 make pretrain (docs/learning.md; AUSTEN: see there)
# make learning-images  small image models on digits and stamps (docs/learning-images.md; DIGITS, STAMPS, VIT_S14: see there)
# make learning-speech  Wav2Vec2 on recorded prompts and synthesised speech (docs/learning-speech.md; SPEECH: see there)
# make learning-tasks  tasks of texts, fine-tuned and from scratch (docs/learning-tasks.md; MATERIAL, MINILM: see there)
# make overheads  what checkpoints, numbers and waiting for input cost a run (docs/overheads.md)
# make crashes    kill a run fifty times and compare what comes of it (docs/crashes.md; CRASHES='--processes 2 --kills 10': of two processes)
# make from-flax  read a folder of each Flax class of transformers 4.57 (FLAX_PYTHON: as above), the table in docs/from-flax.md
# make plans      compile BERT's train step for TPU slices that are not there, and fill docs/plans.md and docs/scaling.md

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: pretrain test test-all lint parity documented equality bench learning learning-images learning-speech learning-tasks overheads crashes from-flax plans clean

pretrain: $(VENV)/.installed
	$(BIN)/lacuna train experiments/bert/pretrain.py

PYTEST = JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 25 \
	--ignore tests/parity --ignore tests/training/test_layouts.py --ignore-glob 'tests/documented/test_walk_*'

test: $(VENV)/.installed lint
	$(PYTEST) -m 'not slow'

test-all: $(VENV)/.installed lint
	$(PYTEST)

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

parity: $(VENV)/.installed-parity
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/parity

documented: $(VENV)/.installed
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/documented

equality: $(VENV)/.installed
	LACUNA_TABLE=docs/equality.md JAX_PLATFORMS=cpu $(BIN)/python -m pytest tests/training/test_layouts.py

bench: $(VENV)/.installed-parity
ifeq ($(MODELS),images)
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.benchmarks.steps --models images --steps 2 --parity-python $(BIN)/python --write
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.benchmarks.image_pipeline --write
else ifeq ($(MODELS),scenes)
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.benchmarks.steps --models scenes --steps 1 --rounds 7 --parity-python $(BIN)/python --write
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.benchmarks.deformable --write
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.benchmarks.matching --step --write
else ifeq ($(MODELS),generation)
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.benchmarks.generation --write
else ifeq ($(MODELS),tuning)
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.benchmarks.tuning $(if $(MATERIAL),--material $(MATERIAL)) --write
else ifeq ($(MODELS),gpu)
	$(BIN)/python -m experiments.benchmarks.gpu_steps --write
else
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.benchmarks.steps --parity-python $(BIN)/python $(if $(FLAX_PYTHON),--flax-python $(FLAX_PYTHON)) $(if $(MODELS),--models $(MODELS) --write)
endif

learning: pretrain
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.campaigns.learning.objectives $(if $(AUSTEN),--austen $(AUSTEN)) --write

learning-images: $(VENV)/.installed
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.campaigns.learning.images $(if $(DIGITS),--digits $(DIGITS)) $(if $(STAMPS),--stamps $(STAMPS)) $(if $(VIT_S14),--vit-s14 $(VIT_S14)) --write

learning-speech: $(VENV)/.installed
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.campaigns.learning.speech $(SPEECH) --write

learning-tasks: $(VENV)/.installed
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.campaigns.learning.tasks --material $(MATERIAL) --minilm $(MINILM) --write

overheads: $(VENV)/.installed
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.campaigns.overheads --write docs/overheads.md

crashes: $(VENV)/.installed
	$(BIN)/python -m experiments.campaigns.crashes $(CRASHES) --write docs/crashes.md

from-flax: $(VENV)/.installed
	JAX_PLATFORMS=cpu $(BIN)/python -m experiments.campaigns.from_flax --flax-python $(FLAX_PYTHON) --write docs/from-flax.md

plans: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[tpu]'
	$(BIN)/python -m experiments.campaigns.plans $(PLANS)
	$(BIN)/python -m experiments.campaigns.scaling

$(VENV)/.installed: setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,test]'
	touch $@

$(VENV)/.installed-parity: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[parity]'
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
