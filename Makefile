# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Whatever is missing is installed into .venv first (uv itself included); nothing is put elsewhere
# but uv's cache of downloaded and built packages.

VENV := .venv
UV := $(VENV)/bin/uv
PY := $(VENV)/bin/python
PYTHON ?= python3

# The default build of llama.cpp runs on every x86-64 machine since 2009 (SSE 4.2), so that a cached
# or copied build never dies of an illegal instruction. `make demo NATIVE=1` builds it for this
# processor (several times faster with real models). uv keeps the builds apart: the flags are part
# of its cache key. The multimodal library is left out.
ifdef NATIVE
CPU_FLAGS := -DGGML_NATIVE=ON
else
CPU_FLAGS := -DGGML_NATIVE=OFF;-DGGML_SSE42=ON;-DGGML_AVX=OFF;-DGGML_AVX2=OFF;-DGGML_BMI2=OFF;-DGGML_FMA=OFF;-DGGML_F16C=OFF
endif
LLAMA_FLAGS := --config-settings-package 'llama-cpp-python:cmake.args=$(CPU_FLAGS);-DLLAVA_BUILD=OFF' \
               --config-settings-package 'llama-cpp-python:build.targets=llama;llama-common'

INSTALLED := $(VENV)/.installed-$(if $(NATIVE),native,portable)

.PHONY: demo test bench lint lock words clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    a family room on a real homeserver, answered by a local model"
	@echo "make test    all tests, as CI runs them"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make bench   ratios measured side by side on this machine"
	@echo "make words   bring the translations up to date; make words NEW=fr begins one"
	@echo "make lock    resolve the dependencies again and write requirements/*.lock"

$(UV):
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check uv

$(INSTALLED): requirements/dev.lock requirements/build.lock pyproject.toml | $(UV)
	@echo "Installing into $(VENV); the first time this builds llama.cpp, which takes some minutes."
	$(UV) pip sync --quiet --require-hashes --python $(PY) --build-constraint requirements/build.lock \
	    $(if $(NATIVE),--reinstall-package llama-cpp-python) $(LLAMA_FLAGS) requirements/dev.lock
	$(UV) pip install --quiet --python $(PY) --no-deps --build-constraint requirements/build.lock --editable .
	rm -f $(VENV)/.installed-*
	touch $@

demo: $(INSTALLED)
	@$(VENV)/bin/hearth demo

test: lint
	$(PY) -m pytest

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(INSTALLED)
	$(PY) -m tests.bench

lock: | $(UV)
	$(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 requirements/build.in -o requirements/build.lock
	$(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 pyproject.toml -o requirements/hearth.lock
	$(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 pyproject.toml --extra local --extra a2a --group dev -o requirements/dev.lock

# The sentences of bots/ into each language's hearth.po, and from there into hearth.mo (docs/translating.md).
WORDS := -D hearth -d bots/locale
words: $(INSTALLED)
	$(VENV)/bin/pybabel -q extract --project Hearth --copyright-holder 'the people of Hearth' --add-comments Translators: \
	    --strip-comments --add-location file --width 100 --output-file $(VENV)/hearth.pot bots
	$(if $(NEW),$(VENV)/bin/pybabel -q init $(WORDS) --input-file $(VENV)/hearth.pot --width 100 --locale $(NEW))
	$(VENV)/bin/pybabel -q update $(WORDS) --input-file $(VENV)/hearth.pot --width 100 --previous --ignore-obsolete \
	    --ignore-pot-creation-date
	$(VENV)/bin/pybabel -q compile $(WORDS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
