# `make demo`, `make test`, `make benchmark`. Each makes its own environment in .venv first; the
# benchmark's peers get one of their own, since PyBOP and PyBaMM disagree on versions.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?=
BENCHMARK_ARGS ?= --quick
PEERS ?= .venv-peers
# where the real data lies, if it lies beside the checkout
ifneq ($(wildcard ../shared/data),)
export BATTERYLAB_TEST_DATA ?= $(abspath ../shared)
endif

.PHONY: demo test sanitize benchmark lint build clean

demo: $(VENV)/.built
	$(BIN)/batterylab demo $(DEMO_ARGS)

test: $(VENV)/.tested
	$(BIN)/python -m pytest -n auto $(TEST_ARGS)

sanitize: $(VENV)/.tested
	PYTHON=$(BIN)/python .ci/sanitize $(TEST_ARGS)

benchmark: $(VENV)/.tested $(PEERS)/.made
	BATTERYLAB_PEERS=$(abspath $(PEERS)/bin/python) $(BIN)/python benchmarks/fits.py $(BENCHMARK_ARGS)

lint: $(VENV)/.linted
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	touch $@

$(PEERS)/.made:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check pybop
	touch $@

$(VENV)/.built: $(VENV)/.made pyproject.toml setup.py $(wildcard ext/*)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# the package is there already: only what the extras need is installed, nothing is built again
$(VENV)/.tested: $(VENV)/.built
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'batterylab[test,gpl-readers]'
	touch $@

$(VENV)/.linted: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'batterylab[test,gpl-readers,lint]'
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build demo *.egg-info batterylab/_kernels/*.so
