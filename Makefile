# make reproduce: train the four networks and redraw Figures 21-26. make test: everything that must hold. make help lists the rest.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
FACENET = facenet-pytorch==2.6.0  # its own requirements pin an old torch; a peer for tests only

ALONE = OMP_NUM_THREADS=1  # two processes at a time, one thread each: threads that share a core wait for each other

.PHONY: help install reproduce test test-latest sync execute lab clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: settings.ini constraints.txt setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps $(FACENET)
	@touch $@

install: $(VENV)/.installed ## Make .venv with the pinned development set

reproduce: install ## Train the four networks on the built-in images and draw Figures 21 to 26 in figures/demo
	$(BIN)/inception-repro reproduce --preset demo --runs runs --weights weights --out figures/demo

test: install ## Check that sources and products agree, run every notebook and every test
	$(BIN)/python nbs/_build.py check
	PATH="$(abspath $(BIN)):$$PATH" $(ALONE) $(BIN)/nbdev_test --n_workers 2
	$(ALONE) $(BIN)/python -m pytest tests -q -n 2

.venv-latest/.installed: settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install -q --disable-pip-version-check build
	@touch $@

test-latest: .venv-latest/.installed ## Run the tests on the built wheel with the newest releases, as `pip install` brings them
	rm -rf build dist
	.venv-latest/bin/python -m build -q  # the wheel from the source archive, as an installer would
	.venv-latest/bin/python -m pip install -q --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	.venv-latest/bin/python -m pip install -q --disable-pip-version-check "$$(ls dist/*.whl)[test]"
	.venv-latest/bin/python -m pip install -q --disable-pip-version-check --no-deps $(FACENET)
	cd tests && $(ALONE) ../.venv-latest/bin/python -m pytest . -q -n 2 -p no:cacheprovider

sync: install ## Export the notebooks, clean them, write the README
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python nbs/_build.py readme

execute: install ## Give every notebook fresh outputs
	$(BIN)/nbdev_export
	$(BIN)/python nbs/_build.py execute

lab: install ## Open the notebooks
	$(BIN)/jupyter lab --ServerApp.root_dir=. nbs/index.ipynb

clean: ## Remove what make made
	rm -rf .venv .venv-latest build dist *.egg-info
