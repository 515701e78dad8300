# Every target does the set-up that it needs; `make demo` and `make test` are all that a fresh clone asks for.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP = -m pip --disable-pip-version-check --quiet
INSTALL = requirements/install.py
PARALLEL = -n 3 --dist worksteal
# What hangs on no library's version, and takes its time.
NO_VERSIONS = $(addprefix --ignore=tests/kernel/test_,conformance.py kill_campaign.py large_buffers.py \
  library_environments.py liveness.py process_tree.py replay_dataset.py supervisor.py)
LIGHT_TESTS = tests/launcher tests/kernel
SOLVER_TESTS = tests/arz_model tests/kernel
VENV = .venv/installed
IMAGE_VENV = .image-venv/installed
# $(call with-python,VERSIONS,FOLDER,TESTS): TESTS under each of VERSIONS that this machine has, in FOLDER/VERSION.
with-python = for version in $(1); do \
	  found=$$($(PYTHON) tests/interpreters.py $$version) || { echo "Python $$version is not here: skipped"; continue; }; \
	  echo "Python $$version: $(3)"; \
	  $(MAKE) --no-print-directory $(2)/$$version/installed FOUND="$$found" || exit 1; \
	  $(2)/$$version/bin/python -m pytest -q $(PARALLEL) -m "not alone" $(3) || exit 1; \
	done

.DEFAULT_GOAL := help
.PHONY: cuda-compiler help demo test test-fast test-image test-light mutants check format docs bench validate campaign results \
        lock outdated clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

demo: $(VENV) ## the main job from end to end on the embedded Kaggle
	@.venv/bin/kaglaunch demo

test: $(VENV) ## every test
	@.venv/bin/python -m pytest -q $(PARALLEL) -m "not alone"
	@.venv/bin/python -m pytest -q -m alone

test-fast: $(VENV) ## the tests that take seconds
	@.venv/bin/python -m pytest -q -n 2 -m "not slow and not alone"

test-image: $(IMAGE_VENV) ## kernel and arz_model with the versions of Kaggle's image
	@.image-venv/bin/python -m pytest -q $(PARALLEL) $(NO_VERSIONS) tests/kernel tests/arz_model

test-light: ## without the training extra under Python 3.12 and 3.13; solver and parent under 3.12; where these are
	@$(call with-python,3.12 3.13,.light-venv,$(LIGHT_TESTS))
	@$(call with-python,3.12,.solver-venv,$(SOLVER_TESTS))

mutants: $(VENV) ## whether the tests of the safety rules notice each change of a rule (20 minutes)
	@.venv/bin/python -m tests.mutation

check: $(VENV) ## formatting, lint, types, import contracts, generated docs
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo >.import-contracts.log 2>&1 || { cat .import-contracts.log; exit 1; }
	@.venv/bin/python -m docs.generate --check
	@echo "check: all good"

format: $(VENV) ## format and mend what can be mended
	@.venv/bin/ruff format --quiet .
	@.venv/bin/ruff check --fix --quiet .

docs: $(VENV) ## write the generated pages of docs/
	@.venv/bin/python -m docs.generate

bench: $(VENV) ## docs/speed.md: speed, as ratios measured side by side
	@.venv/bin/python -m benchmarks

validate: $(VENV) ## docs/validation.md from runs
	@.venv/bin/python -m benchmarks.validate

campaign: $(VENV) .campaign-libraries/installed ## what docs/proofs.md tells: floods, watched or not; faults of publishing; environments and algorithms that are killed
	@.venv/bin/python -W ignore -m benchmarks.watching
	@.venv/bin/python -W ignore -m benchmarks.publishing --pairs 24
	@.venv/bin/python -W ignore -m benchmarks.publishing --replay --pairs 6
	@PYTHONPATH=$(CURDIR)/.campaign-libraries .venv/bin/python -W ignore -m benchmarks.conformance
	@.venv/bin/python -W ignore -m benchmarks.kills

results: $(VENV) ## train agents and compare them with tuned baselines: docs/results.md
	@.venv/bin/python -W ignore -m benchmarks.results

cuda-compiler: .cuda-venv/installed ## what tests need to compile the GPU kernels, no GPU needed (700 MB)

outdated: $(VENV) ## pins of development.txt that are behind the index; raise one by pip, make test, make lock
	@.venv/bin/python -m pip --disable-pip-version-check list --outdated

lock: ## pin what is installed now in .venv and .image-venv
	@.venv/bin/python $(PIP) freeze --exclude-editable | sed 's/+cpu$$//' >requirements/development.txt
	@.image-venv/bin/python $(PIP) freeze --exclude-editable | sed 's/+cpu$$//' >requirements/image.txt

clean: ## remove both environments and every cache
	@rm -rf .venv .image-venv .light-venv .solver-venv .cuda-venv .bench-venv .campaign-libraries .ruff_cache .mypy_cache .pytest_cache .hypothesis .import_linter_cache
	@find arz_model -name "*.nb[ci]" -delete

$(VENV): pyproject.toml requirements/development.txt
	@echo "Setting up .venv (1.4 GB and some minutes, the first time)…"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "Python 3.11 to 3.13 is needed; set PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv .venv
	@.venv/bin/python $(INSTALL) -r requirements/development.txt
	@.venv/bin/python $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# Environments of other libraries, beside those of .venv: no test needs them.
.campaign-libraries/installed: requirements/campaign.txt $(VENV)
	@echo "Bringing in SUMO, MuJoCo, Box2D and Atari (1 GB, the first time)…"
	@.venv/bin/python $(PIP) install --no-deps --upgrade --target .campaign-libraries -r requirements/campaign.txt
	@touch $@

.cuda-venv/installed:
	@$(PYTHON) -m benchmarks.ptx --install

$(IMAGE_VENV): requirements/image.txt
	@echo "Setting up .image-venv (about a minute, the first time)…"
	@$(PYTHON) -m venv .image-venv
	@.image-venv/bin/python $(INSTALL) -r requirements/image.txt
	@touch $@

# Python 3.12 and 3.13 take the pins of development.txt that launching and its tests need: nothing that trains.
.light-venv/%/installed: pyproject.toml requirements/light.txt requirements/development.txt
	@$(FOUND) -m venv .light-venv/$*
	@.light-venv/$*/bin/python $(INSTALL) -r requirements/light.txt -c requirements/development.txt
	@.light-venv/$*/bin/python $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# The versions of Kaggle's image without torch: its wheel for the CPU is not to be had for every Python.
.solver-venv/%/installed: requirements/image.txt
	@$(FOUND) -m venv .solver-venv/$*
	@grep -vE '^(torch|stable_baselines3|sb3_contrib)==' requirements/image.txt >.solver-venv/requirements.txt
	@.solver-venv/$*/bin/python $(INSTALL) --no-deps -r .solver-venv/requirements.txt
	@touch $@
