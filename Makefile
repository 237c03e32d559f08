# make demo: install, run everything on the embedded dataset, print the accuracies. make test: check everything.
# make install: what `make test` needs too.
# make omniglot, ptb, ...: the table of that name in experiments/. make docs: the documentation as a site, site/index.html.
PYTHON ?= python3
VENV := .venv
PIPELINE := $(VENV)/.pipeline
DEV := $(VENV)/.dev
TABLES := $(notdir $(patsubst %/,%,$(dir $(wildcard experiments/*/dvc.yaml))))
# `dvc repro` ends with advice. Its settings do not fit: core.autostage adds to git's index, and --quiet hides errors.
BELOW_DVC := printf '\nAll stages are done. DVC may advise "git add" and "dvc push" above: the results need neither.\n\n'
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: demo $(TABLES) test lint docs install clean

demo: $(PIPELINE)
	dvc repro
	@$(BELOW_DVC)
	@python -m stages.report --table demo

$(TABLES): $(PIPELINE)
	dvc repro experiments/$@/dvc.yaml
	@$(BELOW_DVC)
	@python -m stages.report --table $@

# in two processes, each with one file of tests at a time, in the order of tests/conftest.py
test: lint docs
	python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

lint: $(DEV)
	ruff check matchnet pipeline stages tests benchmarks docs
	mypy
	python -m stages.resolve --check

# a warning, such as a link that leads nowhere, is an error
docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

install: $(DEV)

# .pipeline and .dev are extras of pyproject.toml. Modules are compiled when first imported, not all 18,000 at once.
$(PIPELINE) $(DEV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -e .git -o -e .dvc/config.local || git rev-parse --git-dir > /dev/null 2>&1 || \
	  printf '[core]\n    no_scm = true\n' > .dvc/config.local  # a ZIP of the repository: DVC asks for git otherwise
	@echo "installing into $(VENV): a minute or more, in silence (PyTorch, Ray and DVC are large)"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-compile -c constraints.txt -e ".[$(patsubst .%,%,$(notdir $@))]"
	touch $@ $(if $(filter $(DEV),$@),$(PIPELINE))

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache site
