# make demo: install, run everything on the embedded dataset, print the accuracies. make test: check everything.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: demo table1 omniglot test lint install clean

demo: $(INSTALLED)
	python -m stages.select glyphs
	dvc repro
	@python -m stages.report --table

table1: $(INSTALLED)
	python -m stages.select table1
	dvc repro
	@python -m stages.report --table

omniglot: $(INSTALLED)
	python -m stages.select omniglot
	dvc repro
	@python -m stages.report --table

test: lint
	python -m pytest -m "not slow"

lint: $(INSTALLED)
	ruff check matchnet pipeline stages tests benchmarks
	mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
