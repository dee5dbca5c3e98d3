# make check: lint, types and a core tier of tests, in less than a minute.   make test: lint, types and all tests.
# make demo: the main job, from pictures to captions and scores.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: check test torture demo sft_images tokenizer language clean

$(INSTALLED): requirements.txt requirements-dev.txt requirements-web.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

# The core tier: the model, the loop with what it saves, the data that they meet, the metrics, the order of imports.
CORE := language vlm vision projector generation initial weights loop muon learning_rates checkpoint freeze arguments \
	console record encoding batching views words questions cells metrics statements imports

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" $(wildcard $(foreach name,$(CORE),tests/test_$(name).py tests/*/test_$(name).py))

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# make torture MINUTES=60: hostile files for every reader, tiny trainings that are killed and resumed.
MINUTES ?= 10
torture: $(INSTALLED)
	$(BIN)/python -m tools.torture --minutes $(MINUTES) --seed $(SEED)

# make demo LANGUAGE=en SEED=43: in English, and from another seed, in a folder of its own.
# make demo FROM_NOTHING=1: with a language model trained on the spot, a third as long as the one that ships.
LANGUAGE ?= zh
SEED ?= 42
FROM_NOTHING ?=
RUNS ?= out$(if $(filter en,$(LANGUAGE)),/en)$(if $(filter-out 42,$(SEED)),/seed$(SEED))$(if $(FROM_NOTHING),/from_nothing)
SHARE := $(if $(filter en,$(LANGUAGE)),1,0)
LOOK := $(BIN)/python eval_vlm.py --runs $(RUNS)

demo: $(INSTALLED)
	$(if $(FROM_NOTHING),$(BIN)/python train_lm.py --runs $(RUNS) --english $(SHARE) --seed $(SEED))
	$(BIN)/python train_sft.py --stage 3 --runs $(RUNS) --english $(SHARE) --seed $(SEED)
	$(LOOK) --split test --scores $(RUNS)/scores_sft1.json --weights $(RUNS)/sft1 --no-blank --questions 0 --n 300
	$(LOOK) --split compositional --scores $(RUNS)/scores_compositional.json --no-blank --questions 0
	$(LOOK) --split test --scores $(RUNS)/scores_test.json --page $(RUNS)/page_test.html
	$(LOOK) --images sft_images
	$(BIN)/python -m tools.report $(RUNS)
	@echo "scores, every answer marked: $(RUNS)/page_test.html"
	@echo "to talk about a picture:     $(LOOK) --image sft_images/舞蹈-dance.jpg --chat"

# What the repo ships and these commands made.
sft_images: $(INSTALLED)
	$(BIN)/python -m dataset.picturebook.sft_scenes

tokenizer: $(INSTALLED)
	mkdir -p out
	$(BIN)/python -m dataset.picturebook.corpus --scenes 20000 --out out/corpus.txt
	$(BIN)/python -m tokenizer.train_tokenizer --text out/corpus.txt

# The language model that ships in LANGUAGE: 75 minutes on one core. The second run teaches it to stand by what it said.
SHIPPED_LM := model/picturebook_lm_$(LANGUAGE)
language: $(INSTALLED)
	$(BIN)/python train_lm.py --english $(SHARE) --samples 40960 --out out/language_$(LANGUAGE)
	$(BIN)/python -m tools.pack_language out/language_$(LANGUAGE) $(SHIPPED_LM)
	mv $(SHIPPED_LM)/log.jsonl $(SHIPPED_LM)/log_1.jsonl
	$(BIN)/python train_lm.py --english $(SHARE) --samples 20480 --doubt 0.2 --seed 43 --llm $(SHIPPED_LM) \
		--out out/language_$(LANGUAGE)_2
	$(BIN)/python -m tools.pack_language out/language_$(LANGUAGE)_2 $(SHIPPED_LM)

clean:
	rm -rf out $(VENV)
