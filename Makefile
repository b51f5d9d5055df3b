# `make demo` and `make test` work from a fresh clone: they make .venv, install archc into it, and run.
# A user's own Python: `make venv PYTHON=python3.12`. More pip options (an index of CPU wheels, say): `make venv PIP_ARGS=...`.
PYTHON ?= python3
PIP_ARGS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ORACLES := $(VENV)/.oracles
PYTEST := $(BIN)/python -m pytest -q

.PHONY: help venv demo test browser viewers llama-cpp slow nightly pictures lint wheel-check clean
.DEFAULT_GOAL := help

help:
	@echo "make demo         cost of a zoo model; compile, train (2 minutes), save and sample a tiny hybrid"
	@echo "make test         the default tests (minutes)"
	@echo "make slow         the slow tests, some of them in a browser"
	@echo "make browser      make sure that there is a Chromium"
	@echo "make viewers      Graphviz, Mermaid, Model Explorer and Netron (800 MB), for the nightly tests"
	@echo "make llama-cpp    llama.cpp's library (minutes), for the nightly tests"
	@echo "make nightly      the nightly tests, against mamba-ssm among others; kept in docs/nightly.txt"
	@echo "make pictures     draw the pictures of the docs, the gallery among them"
	@echo "make lint         ruff and mypy --strict"
	@echo "make wheel-check  build a wheel and use it in a clean environment outside the checkout"
	@echo "make venv         only install into .venv"

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "archc needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@echo "installing archc into $(VENV) (log: $(VENV)/install.log)"
	@$(BIN)/pip install -c constraints.txt $(PIP_ARGS) -e '.[dev]' >$(VENV)/install.log 2>&1 || \
	  { tail -n 20 $(VENV)/install.log >&2; exit 1; }
	@touch $@

demo: venv
	@$(BIN)/archc demo

test: venv
	$(PYTEST) -m "not slow and not nightly" -n $(JOBS)

# A real Chromium, for the tests that open pages.
browser:
	@.ci/browser

slow: venv browser
	$(PYTEST) -m "slow and not nightly" -n $(JOBS)

# What the nightly tests compare with beside transformers: mamba-ssm's own kernels, run on the CPU by Triton's
# interpreter. Its build would ask for CUDA, and its dependencies for another torch; neither is needed. And what a search's
# study is opened with: a PostgreSQL server, which comes in a wheel, and optuna-dashboard.
$(ORACLES): $(INSTALLED)
	@echo "installing mamba-ssm, PostgreSQL and optuna-dashboard, as oracles, into $(VENV) (log: $(VENV)/oracles.log)"
	@{ $(BIN)/pip install -c constraints.txt $(PIP_ARGS) setuptools wheel packaging ninja triton einops \
	  pgserver "psycopg[binary]" optuna-dashboard && \
	  MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE $(BIN)/pip install -c constraints.txt $(PIP_ARGS) \
	  --no-deps --no-build-isolation mamba-ssm; } >$(VENV)/oracles.log 2>&1 || \
	  { tail -n 20 $(VENV)/oracles.log >&2; exit 1; }
	@touch $@

# What exports of graphs are opened in. Tests skip, and say so, what cannot be installed.
viewers: venv
	-@.ci/viewers $(BIN)/python

# What exports of weights are run in. Tests skip, and say so, where it cannot be built.
llama-cpp: venv
	-@.ci/llama-cpp $(BIN)/python $(JOBS)

# The last output is kept in docs/nightly.txt.
nightly: $(ORACLES) browser viewers llama-cpp
	@bash -c 'set -o pipefail; { date -u +%F; $(PYTEST) -ra tests/kernels/test_mamba_ssm.py && $(PYTEST) -ra -m nightly -n $(JOBS); } 2>&1 | tee docs/nightly.txt'

pictures: venv browser
	$(BIN)/python docs/pictures.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p archc

wheel-check: venv
	@bash .ci/wheel-check $(BIN)/python

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
