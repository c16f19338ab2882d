# Everything is made from here; `make help` lists the targets. Nothing is installed outside .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
QUICK := .quick-notebooks

.DEFAULT_GOAL := help
.PHONY: help book preview zip pdf workshop test faults fuzz lint links lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'
	@echo 'make PYTHON=python3.12 book   chooses the Python (3.11 or newer) that .venv is made from'

# The first use installs the lock, the data packages and this project; later uses do so again only when one of these files changed.
$(READY): requirements.lock requirements-data.txt pyproject.toml book/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: say which with make PYTHON=/path/to/python3.11'; exit 1; }
	@echo 'Setting up $(VENV): a few minutes, once.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq -r requirements.lock
	$(BIN)/python -m pip install -qq --no-deps -r requirements-data.txt
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e . -e book
	touch $@

book: $(READY)  ## execute the notebooks and make the site in _build/html
	$(BIN)/python book/build.py

preview: $(READY)  ## the whole site at small parameters, in minutes, in _build/preview/html
	$(BIN)/python book/build.py -f book/params/quick.yaml --out _build/preview

# What a room without a network needs, in one file: unpack it and open START.html.
OFFLINE := _build/saelite-book
zip: book  ## the site, the notebooks and what they need, as _build/saelite-book.zip
	rm -rf $(OFFLINE) $(OFFLINE).zip
	mkdir -p $(OFFLINE)
	cp -r _build/html $(OFFLINE)/site
	cp -r _build/stage/notebooks $(OFFLINE)/executed
	rm -f $(OFFLINE)/executed/*.json
	cp -r notebooks saelite book benchmarks tests _config.yml _toc.yml pyproject.toml requirements* Makefile *.md *.cff LICENSE* $(OFFLINE)
	find $(OFFLINE) -name __pycache__ -prune -exec rm -rf {} +
	printf '<meta http-equiv="refresh" content="0; url=site/index.html">\n' > $(OFFLINE)/START.html
	cd _build && ../$(BIN)/python -m zipfile -c saelite-book.zip saelite-book
	rm -rf $(OFFLINE)
	@du -h $(OFFLINE).zip

pdf: book  ## the book in one file for paper, as _build/saelite-book.pdf; needs Chromium and no LaTeX
	$(BIN)/python book/pdf.py _build/html --out _build/saelite-book.pdf

# After this a room without a network has all: Jupyter, the model, the activations and every SAE of the book's defaults.
workshop: $(READY)  ## fill the cache for a room without a network, and install JupyterLab
	@echo 'This runs the whole book once: some 4 GB of disk and the time that the README states. It can be stopped and resumed.'
	$(BIN)/python -m pip install -qq -r requirements-workshop.txt
	$(MAKE) book
	@echo 'Ready. Notebooks without solutions: _build/html/student. Start with: $(BIN)/jupyter lab _build/html/student'

# The notebooks are tested as copies with small parameters, in one pytest call with the rest so that there is one verdict.
# The book that the tests open in a browser is built of these copies: tests/quick_notebooks.py.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 10
test: $(READY)  ## run every test, the notebooks too, at the sizes in book/params/quick.yaml
	rm -rf $(QUICK)
	$(BIN)/python book/execute.py --prepare-only -f book/params/quick.yaml --out $(QUICK)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(QUICK) tests --nbmake --overwrite

faults: $(READY)  ## break things on purpose and see that nothing is lost; a quarter of an hour
	$(BIN)/python tests/faults.py --out book/faults.json

fuzz: $(READY)  ## try bad values for every parameter of every notebook; the counts are kept in book/results/fuzz
	$(BIN)/python tests/fuzz.py --out book/results/fuzz

links: book  ## try every link that leads to another site
	PYTHONPATH=_build/stage/book/_ext $(BIN)/python -m sphinx -b linkcheck -q _build/stage _build/links

lint: $(READY)  ## check the style with ruff, and who imports whom
	$(BIN)/ruff check .
	$(BIN)/lint-imports

lock: SHELL := bash
lock: $(READY)  ## renew requirements.lock from requirements.txt
	@! test -e $(BIN)/jupyter-lab || { echo '$(VENV) holds JupyterLab, which is not for the lock: delete it first'; exit 1; }
	$(BIN)/python -m pip install -qq -r requirements.txt
	@set -o pipefail; { echo '# Every package that .venv holds, with its version. Do not edit: change requirements.txt, then `make lock`, which runs'; \
	   echo '# `pip freeze` and leaves out this project, the packages of requirements-data.txt and local suffixes such as +cpu.'; \
	   $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip --exclude saelite --exclude saebook | sed -E 's/\+[a-z0-9.]+$$//' \
	   | grep -v -x -F -f requirements-data.txt; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## remove what was built; keep .venv and the cache of trained SAEs
	rm -rf _build $(QUICK) .pytest_cache .ruff_cache saelite.egg-info book/saebook.egg-info
