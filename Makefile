# The Disconnect Lab: `make lab` to learn, `make test` to test.
# With a python of your choice: make lab PYTHON=python3.13

VENV   := .venv
PY     := $(VENV)/bin/python
PYTHON :=
# Six processes for two cores (tests/conftest.py); those that drive one JupyterLab stay together.
PARALLEL := --numprocesses=auto --dist=loadgroup
# What needs neither a browser nor a kernel, nor tens of seconds.
QUICK  := not browser and not notebooks and not slow
# What fails beside others is tried once more by itself, and is shown both times: the machine may have been too busy.
pytest  = $(1) -m pytest $(PARALLEL) $(2) || \
	$(1) -m pytest --last-failed --last-failed-no-failures=none --numprocesses=0 $(2)
PIP    := $(PY) -m pip --quiet --disable-pip-version-check
# The tests start hundreds of Python processes: compiled modules are kept, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help lab test quick soak lowest check notebooks bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make lab        open the notebooks in JupyterLab (makes $(VENV) first, where need be)'
	@echo 'make test       run every test, in six processes on two cores'
	@echo 'make quick      run the tests that need neither a browser nor a kernel, nor tens of seconds'
	@echo 'make soak       repeat what must never fail: minutes, for CI and before a release'
	@echo 'make lowest     run the tests with the lowest versions that pyproject.toml admits'
	@echo 'make check      formatting, lint, types'
	@echo 'make notebooks  run all the notebooks and write them, with outputs, as HTML to build/'
	@echo 'make bench      print the benchmarks (30 minutes: one plays the whole matrix 50 times)'
	@echo 'make clean      remove $(VENV), build/ and the caches'

lab: $(VENV)/.lab
	@$(PY) -m labkit doctor --brief
	@$(PY) -m labkit lab

test: $(VENV)/.dev
	$(call pytest,$(PY))

soak: $(VENV)/.dev
	$(call pytest,$(PY),-m soak)

quick: $(VENV)/.dev
	$(call pytest,$(PY),-m '$(QUICK)')

# Of what the lab itself needs the lowest; of the tools that test it, those that are pinned.
lowest: $(VENV)/.dev
	@$(PY) -m uv venv --quiet --clear --python $(PY) $(VENV)-lowest
	@$(PY) -m uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct \
		--editable '.[asgi,notebooks]' $$(sed -n 's/;.*//; /^[a-z].*==/p' requirements-dev.txt)
	$(call pytest,$(VENV)-lowest/bin/python,-m '$(QUICK)')

check: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy --python-version 3.11
	$(PY) -m mypy --python-version 3.13

notebooks: $(VENV)/.dev
	@# Without the encryption each kernel warns that its port on loopback can be listened to.
	$(PY) -m nbconvert --log-level=WARN --KernelManager.transport_encryption=auto \
		--to html --execute --output-dir build notebooks/*.ipynb
	@ls build/*.html

bench: $(VENV)/.dev
	@for script in benchmarks/*.py; do $(PY) $$script || exit; done

clean:
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . '(' -name __pycache__ -o -name .ipynb_checkpoints ')' -prune -exec rm -rf {} +

# --- The environment -------------------------------------------------------------------------------------------------

# Prints the first python that is new enough and can make an environment; or "none" and what was wrong with the others.
SEARCH = for p in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	command -v $$p >/dev/null 2>&1 || continue; \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	$$p -c 'import ensurepip, venv' >/dev/null 2>&1 || { bare=$${bare:-$$p}; continue; }; \
	echo $$p; exit; done; echo none $$bare

NO_VENV   = $(word 2,$(found)) cannot make environments: install its venv module \
	(on Debian and Ubuntu: apt install python3-venv), then try again
NO_PYTHON = no Python 3.11 or newer is here$(if $(PYTHON), ($(PYTHON) is not)): install one (python.org has it), or \
	name it with PYTHON=/path/to/python3, then try again

# An environment whose python has gone is made anew.
ifneq ($(shell test -x $(PY) || echo gone),)
.PHONY: $(VENV)/.made
endif

$(VENV)/.made:
	$(eval found := $(shell $(SEARCH)))
	$(if $(filter none,$(found)),$(error $(if $(word 2,$(found)),$(NO_VENV),$(NO_PYTHON))))
	@echo 'Making $(VENV) with $(found).'
	@$(found) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.lab: $(VENV)/.made requirements.txt pyproject.toml
	@echo 'Installing the pinned requirements; the first time, this takes a minute.'
	@$(PIP) install -r requirements.txt
	@touch $@

# These include the requirements above.
$(VENV)/.dev: $(VENV)/.made requirements.txt requirements-dev.txt pyproject.toml
	@echo 'Installing the pinned requirements of the lab and of its tests; the first time, this takes a minute or two.'
	@$(PIP) install -r requirements-dev.txt
	@touch $(VENV)/.lab $@
