# Two commands do everything: `make demo` and `make test`. Both keep their own virtual environment
# in .venv and rebuild only what has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard src/motet/kernels/native/*)

.PHONY: demo test lint format wheel clean
demo: $(VENV)/installed
	@$(BIN)/motet demo

test: $(VENV)/installed $(VENV)/tools
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(VENV)/installed $(VENV)/tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror src/motet/kernels/native/*.cpp src/motet/kernels/native/*.hpp
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pyright --pythonpath $(BIN)/python --project pyright-strict.json

format: $(VENV)/tools
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i src/motet/kernels/native/*.cpp src/motet/kernels/native/*.hpp

wheel: $(VENV)/created
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

$(VENV)/installed: pyproject.toml $(NATIVE) | $(VENV)/created
	@echo "Building the kernels, one copy for each instruction set (some minutes, once)"
	$(BIN)/pip install --quiet --editable . --config-settings=cmake.define.MOTET_EMULATE_TILES=ON
	@touch $@

$(VENV)/tools: pyproject.toml | $(VENV)/created
	$(BIN)/pip install --quiet 'pytest>=8' 'pytest-xdist>=3.6' 'hypothesis>=6' 'matplotlib>=3.8' \
	  ruff==0.17.6 pyright==1.1.414 clang-format==23.1.5
	@touch $@

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Motet needs Python 3.10 or newer; choose one with make PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	  || { echo "Python's headers are missing: apt install python3-dev"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "Python can't make virtual environments: apt install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --upgrade pip
	@touch $@

clean:
	rm -rf $(VENV) build dist
