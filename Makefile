# make test: lint and all tests.   make demo: the main job, from nothing to captions and scores.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: test demo sft_images tokenizer clean

$(INSTALLED): requirements.txt requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

demo: $(INSTALLED)
	$(BIN)/python train_sft.py --stage 3
	$(BIN)/python eval_vlm.py --split test --scores out/scores_sft1.json --weights out/sft1 --no-blank
	$(BIN)/python eval_vlm.py --split compositional --scores out/scores_compositional.json --no-blank
	$(BIN)/python eval_vlm.py --split test --scores out/scores_test.json --page out/page_test.html
	$(BIN)/python eval_vlm.py --images sft_images

# What the repo ships and these commands made.
sft_images: $(INSTALLED)
	$(BIN)/python -m dataset.picturebook.sft_scenes

tokenizer: $(INSTALLED)
	mkdir -p out
	$(BIN)/python -m dataset.picturebook.corpus --scenes 20000 --out out/corpus.txt
	$(BIN)/python -m tokenizer.train_tokenizer --text out/corpus.txt

clean:
	rm -rf out $(VENV)
