# `make search` runs the main job, `make test` the tests; each makes .venv first and installs what it needs.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
INSTALLED := $(VENV)/.installed

.PHONY: search test cluster coverage check format docs clean

search: $(INSTALLED)  ## Evolution discovers, trains and saves a CNN on real handwritten digits; about a minute on 2 cores
	$(RUN)nanonas search --config configs/fast.yaml

test: check  ## Everything that has to hold before a change lands
	$(RUN)python -m pytest -n 2

cluster: $(INSTALLED)  ## The tests that need Ray, on a simulated cluster of four nodes
	$(RUN)python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[ray]"
	$(RUN)python -m pytest tests/engine/test_cluster.py

coverage: $(INSTALLED)  ## The tests again, with the lines and branches that they reach; fails below the floor in pyproject.toml
	$(RUN)python -m pytest -n 2 --cov --cov-report=term

check: $(INSTALLED)  ## Lint, format, types
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy

format: $(INSTALLED)
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

docs: $(INSTALLED)  ## The documentation as a site that needs no network: site/index.html
	$(RUN)python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(RUN)mkdocs build --strict

# torch goes first and pinned, so that nothing else picks another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(RUN)python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
