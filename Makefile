# make help explains itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HARDWARE := yosys iverilog verilator opensta qflow-tech-osu018
FAST := not kernels and not models and not hardware and not fuzz
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help tools demo test check lint types fast fuzz package docs setup clean
.DEFAULT_GOAL := help

help: ## Show this help.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done tools ## Make .venv with Ladder and its pinned dependencies.

# ladder/__init__.py holds the version.
$(VENV)/.done: pyproject.toml constraints.txt ladder/__init__.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[hf,plot,dask,dev]'
	@touch $@

# What ladder hardware calls. Root installs it; others are told.
tools:
	@dpkg -s $(HARDWARE) >/dev/null 2>&1 || \
		{ test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq $(HARDWARE) >/dev/null; } || \
		echo "The tests of hardware need: apt-get install $(HARDWARE)"

demo: setup ## Fetch SmolLM2-135M, compile it as it is and in three plans, measure, ask.
	$(BIN)/python -m ladder.demo

# Measuring coverage makes tests a third slower, so it is measured on the fast ones.
test: setup lint types ## Everything: lint, types, the whole test suite, the fast tests' coverage.
	$(BIN)/pytest -n 2 --dist loadgroup -m '$(FAST)' --cov --cov-report=
	$(BIN)/pytest -n 2 --dist loadgroup -m 'not ($(FAST))'
	@echo "The fast tests cover $$($(BIN)/coverage report --format=total) % of the lines."

check: setup lint types fast ## Lint, types and the fast tests (a few minutes).

lint: setup ## ruff, its formatter included, and who may import whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: setup ## mypy, strict.
	$(BIN)/mypy

fast: setup ## Tests that need neither kernels, whole models nor hardware.
	$(BIN)/pytest -q -n 2 --dist loadgroup -m '$(FAST)'

fuzz: setup ## Fuzz every reader for half an hour, and compare random graphs for another.
	PYTHONPATH=tests:. $(BIN)/python -m fuzz.run --seed $$(date +%j%H%M) --minutes 30
	PYTHONPATH=tests:. $(BIN)/python -m fuzz.graphs --seed $$(date +%j%H%M) --minutes 15
	PYTHONPATH=tests:. $(BIN)/python -m fuzz.graphs --seed $$(date +%j%H%M) --minutes 15 --compile

package: setup ## Build wheels and sdist into dist, and try each wheel in an empty environment.
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv build/empty
	build/empty/bin/pip install --quiet --constraint constraints.txt dist/ladder-*.whl
	build/empty/bin/ladder --version
	build/empty/bin/python tests/try_package.py build
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist ./runtime
	$(PYTHON) -m venv build/device
	build/device/bin/pip install --quiet --constraint constraints.txt dist/ladder_runtime-*.whl
	build/device/bin/ladder run build/artifact --input build/input.npz
	! build/device/bin/ladder quantize build/model.onnx build/out.onnx

docs: $(VENV)/.docs ## Build the documentation into site/; a broken link is an error.
	$(BIN)/mkdocs build --strict

$(VENV)/.docs: $(VENV)/.done
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean: ## Remove .venv and what tools left behind (the cache stays: ladder cache clear).
	rm -rf $(VENV) build dist site *.egg-info runtime/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
