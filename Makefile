# make demo    restore and read data/sample and data/sample-media with the shipped weights
# make test    every notebook, then tests/
# make figures every figure and table of the paper, from the stored runs
# make lab     JupyterLab, at the map of the notebooks (nbs/index.ipynb)
# make viewer  a page for those who don't code: upload frames, photographs, clips; see and take home what was read
# make check   before a commit: export, clean, run what has changed and the quick tests
# make docs    the notebooks, README, its guide and model cards as a site with search: _docs/site/index.html
# make clean   remove what these made; your own runs under data/runs stay
# Another interpreter: make demo PYTHON=python3.12

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS := $(VENV)/.docs
VIEWER := $(VENV)/.viewer
DEMO := data/runs/demo
export JUPYTER_PREFER_ENV_PATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test figures lab viewer check docs clean install

install: $(STAMP)

$(STAMP): settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 10) or sys.exit("KSR-Net needs Python 3.10 or newer; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e .
	@touch $@

demo: install
	@mkdir -p $(DEMO)
	@$(BIN)/papermill nbs/read.ipynb $(DEMO)/read.ipynb -p out $(DEMO) --cwd nbs --no-progress-bar --log-level WARNING </dev/null
	@echo && cat $(DEMO)/submission.txt $(DEMO)/plates.txt && echo
	@echo "executed notebook  $(DEMO)/read.ipynb"
	@echo "contact sheet      $(DEMO)/reading.png"
	@echo "restored plates    $(DEMO)/restored/"
	@echo "submission         $(DEMO)/submission.txt, $(DEMO)/submission.zip"
	@echo "details            $(DEMO)/readings.json"
	@echo "photograph, clip   $(DEMO)/plates.txt, $(DEMO)/plates.json, $(DEMO)/annotated/"

test: install
	@$(BIN)/python tests/run.py </dev/null

figures: install
	@mkdir -p data/runs/figures
	@$(BIN)/papermill nbs/figures.ipynb data/runs/figures/figures.ipynb --cwd nbs --no-progress-bar --log-level WARNING </dev/null
	@echo "executed notebook  data/runs/figures/figures.ipynb (says what is missing)"
	@echo "figures, tables    figures/"

lab: install
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" $(if $(filter 0,$(shell id -u)),--allow-root) nbs/index.ipynb

$(VIEWER): $(STAMP)
	$(BIN)/python -m pip install -c constraints.txt -e '.[viewer]'
	@touch $@

viewer: $(VIEWER)
	@$(BIN)/ksr_viewer

check: install
	@$(BIN)/python tests/check.py </dev/null

$(DOCS): $(STAMP)
	@$(BIN)/python -c 'import sys; sys.version_info >= (3, 11) or sys.exit("make docs needs Python 3.11 or newer: make clean, then make docs PYTHON=python3.12")'
	$(BIN)/python -m pip install -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(DOCS)
	@$(BIN)/python docs/build.py </dev/null

clean:
	rm -rf $(VENV) $(DEMO) data/runs/read _docs build dist .pytest_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
