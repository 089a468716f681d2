# make reproduce: train the networks and draw Figures 21-26. make test: run the checks. make help: list all targets.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
FACENET = facenet-pytorch==2.6.0  # for tests only; installed alone because it requires an old torch

SHORT = --preset demo --set epochs=8 --set compress=9  # instead of 12 and 6: the learning rate ends at the same value
ALONE = OMP_NUM_THREADS=1  # two processes at a time with one thread each, because threads that share a core wait for each other

.PHONY: help install reproduce test test-latest sync execute lab lab-check slides site browse clean

help: ## List these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# pyproject.toml is not among these files: nbdev_export writes it again every time, with the same content
$(VENV)/.installed: settings.ini constraints.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'  # Python compiles what is imported
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps $(FACENET)
	@touch $@

install: $(VENV)/.installed ## Create .venv with the pinned development packages

reproduce: install ## Train the networks on generated images and draw Figures 21 to 26 in figures/demo
	$(BIN)/inception-repro reproduce $(SHORT) --runs runs --weights weights --out figures/demo

test: install ## Check that the exported files are up to date, run every notebook and the tests (not the slow ones)
	$(BIN)/python nbs/_build.py check
	PATH="$(abspath $(BIN)):$$PATH" $(ALONE) $(BIN)/nbdev_test --n_workers 2
	$(ALONE) $(BIN)/python -m pytest tests -q -n 2 --dist worksteal -m 'not slow'

.venv-latest/.installed: settings.ini setup.py
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install -q --disable-pip-version-check build
	@touch $@

test-latest: .venv-latest/.installed ## Run all tests, the slow ones too, on the built wheel with the newest release of every dependency
	rm -rf build dist
	.venv-latest/bin/python -m build -q  # build the wheel from the source archive, as pip would
	.venv-latest/bin/python -m pip install -q --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	.venv-latest/bin/python -m pip install -q --disable-pip-version-check "$$(ls dist/*.whl)[test]"
	.venv-latest/bin/python -m pip install -q --disable-pip-version-check --no-deps $(FACENET)
	cd tests && $(ALONE) ../.venv-latest/bin/python -m pytest . -q -n 2 --dist worksteal -p no:cacheprovider

sync: install ## Export the package, clean and fold the notebooks, render the README
	$(BIN)/python nbs/_build.py sync

execute: install ## Run every notebook and keep the new outputs
	$(BIN)/nbdev_export
	$(BIN)/python nbs/_build.py execute

lab: install ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab --ServerApp.root_dir=. nbs/index.ipynb

lab-check: install ## Run a notebook in JupyterLab, and check what headless Chromium shows
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt selenium
	$(BIN)/python -m benchmarks.browser

slides: install ## Write a presentation for every lesson to _slides
	$(BIN)/python nbs/_slides.py

.venv-docs/.installed: settings.ini constraints.txt setup.py
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

site: .venv-docs/.installed ## Build the documentation site in _docs from the committed notebooks, and check its links
	.venv-docs/bin/python site/build.py

browse: .venv-docs/.installed ## Open every page of _docs in headless Chromium, wide and narrow, and report errors
	.venv-docs/bin/python site/browse.py

clean: ## Delete the environments and the build folders
	rm -rf .venv .venv-latest .venv-docs build dist _docs _slides *.egg-info
