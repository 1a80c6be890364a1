# Every target makes its own environment in .venv first; a second call reuses it.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo page test lint format bench study start clean help

help:
	@echo "make demo    train, evaluate and draw on procedural people (10 minutes on 2 cores)"
	@echo "make page    search drawn people by a sentence, in the browser"
	@echo "make test    the whole test suite (10 minutes on 2 cores)"
	@echo "make lint    ruff and mypy"
	@echo "make bench   speed and memory beside plain references"
	@echo "make study   no masking, EM and NAM over five seeds (hours)"
	@echo "make start   pre-train the small CLIP that the demo starts from"

demo: $(READY)
	$(RUN) tools/train_demo.py

page: $(READY)
	$(RUN) tools/demo.py

test: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist worksteal

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(READY)
	$(RUN) tools/benchmark.py all

study: $(READY)
	$(RUN) tools/study.py

start: $(READY)
	$(RUN) tools/train.py configs/clip/tiny_web.py
	$(RUN) tools/publish.py work_dirs/tiny_web mmreid_text/weights/tiny_web.pt

# Upstream mmengine, mmcv and mmpretrain install under the same import names as the releases we use, so a fresh
# environment of its own is the safe place. The stamp comes last: an interrupted installation starts over.
$(READY): setup.py mmreid_text/version.py $(wildcard requirements/*.txt)
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
		{ echo "error: Python 3.10 or newer is needed; name one with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV): some minutes and some GB, once." >&2
	$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable ".[tests]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info work_dirs
