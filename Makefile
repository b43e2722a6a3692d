# Everything a reader needs. No target wants an activated environment; all of it goes to .venv and _build, which git ignores.

PYTHON  ?= python3
PROFILE ?= smoke
PORT    ?= 8000
MINUTES ?= 60
STUDIES ?= --all
PARALLEL ?= 2
BRANCH  ?= main
BIN     := .venv/bin
# uv lies beside the environment, whose packages it makes equal to the lock.
UV      := .venv/uv/bin/uv

# A container's user may have no home, or one that cannot be written. pip, uv and Jupyter then keep
# their files beside the environment.
ifneq ($(shell [ -n "$$HOME" ] && [ -d "$$HOME" ] && [ -w "$$HOME" ] && echo yes),yes)
export HOME := $(CURDIR)/.venv/home
endif

.DEFAULT_GOAL := help
.PHONY: help install system address release book pdf lint test test-slow test-real test-slurm test-browser serve lab look bench study clean

# By who calls them. A target that is added gets its line here.
help:
	@echo "To read the book:"
	@echo "  make book        execute every page and build the book into _build/html (PROFILE=smoke, gpu or paper; paper needs YES=1)"
	@echo "  make pdf         the built book as one PDF, _build/astroformer-re-examined.pdf; Debian's chromium prints it"
	@echo "  make serve       open the book at http://127.0.0.1:$(PORT) (PORT=...)"
	@echo "To use it on your images:"
	@echo "  make install     install into .venv; then .venv/bin/astroformer (the others do it when needed; PYTHON=... chooses the interpreter)"
	@echo "  make lab         open the pages in JupyterLab, where they have sliders and menus (PORT=..., OPTIONS=--no-browser)"
	@echo "To run the studies, here or on GPU nodes (book/at_scale.ipynb has the commands for a cluster):"
	@echo "  make bench       measure training steps in five minutes (KEEP=name adds them to book/ledger/speed/name.jsonl)"
	@echo "  make study       train what the studies lack, for MINUTES=60, from a copy of the last commit (STUDIES=--all PARALLEL=2)"
	@echo "To change it (CONTRIBUTING.md):"
	@echo "  make test        check format, types and the floors of the house, then run the tests"
	@echo "  make lint        only these checks"
	@echo "  make test-slow   only the tests that take minutes: kills, limits, ten thousand malformed inputs"
	@echo "  make test-real   training and evaluating on the real image archives, where they are present"
	@echo "  make test-slurm  run the workflow under a Slurm that the tests start (as root, with Debian's slurm-wlm and munge)"
	@echo "  make test-browser  every page of the built book in Debian's chromium: accessibility, width, weight, keyboard, print"
	@echo "  make look        screenshots of every page, wide and narrow, light and dark, into _build/look"
	@echo "  make system      install the system's packages that some checks need (chromium, slurm-wlm, munge; as root on Debian)"
	@echo "  make clean       remove the book and what was executed for it; the environment and training runs stay"
	@echo "To publish it:"
	@echo "  make release     one archive for Zenodo: sources, ledger, pages, checksums, how to cite; from a commit whose book is built"
	@echo "  make address     write where the sources are published into buttons and pages (URL=https://github.com/OWNER/REPOSITORY BRANCH=main)"

install: .venv/.installed

# Versions and hashes come from requirements.lock alone; the project itself is installed in place.
.venv/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: install Python 3.11 or later, or name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed and $(PYTHON) is $$($(PYTHON) -V 2>&1): name another with make PYTHON=python3.12" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@[ -x $(UV) ] || { echo "installing uv"; $(BIN)/python -m pip install --quiet --disable-pip-version-check --target .venv/uv uv; }
	@echo "installing the packages of requirements.lock into .venv (about 6 GB the first time)"
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# Only `make look`, `make pdf` and the tests marked `browser` or `slurm` need them; without them they say so and the rest goes on.
system:
	@$(call need,chromium,chromium,the browser checks)
	@$(call need,slurmctld,--no-install-recommends slurm-wlm munge,the tests under Slurm)

# A program, the packages that bring it, and what is skipped without them.
need = PATH="$$PATH:/usr/sbin" command -v $(1) >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(2) >/dev/null; } || \
		echo "$(1) is missing and cannot be installed here: run \`apt-get install $(2)\` as root; $(3) are skipped until then" >&2

book: install
	@$(BIN)/astroformer reproduce --profile $(PROFILE) $(if $(YES),--yes)

lint: install
	@$(BIN)/ruff format --check --quiet . || { echo "run \`.venv/bin/ruff format .\`" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/pyrefly check --summary=none
	@$(BIN)/lint-imports --no-logo

test: lint
	@$(BIN)/python -m pytest --durations 40 --durations-min 10

test-slow: install
	@$(BIN)/python -m pytest -m "slow and not real and not slurm" --durations 5

test-real: install
	@$(BIN)/python -m pytest -m real -n 0 -s -rs || { status=$$?; [ $$status -eq 5 ] || exit $$status; \
		echo "skipped: there is no test on real images (pytest collected none)"; }   # 5: nothing collected, nothing failed

test-slurm: install
	@$(BIN)/python -m pytest -m slurm -n 0 -s -rs tests/workflow || { status=$$?; [ $$status -eq 5 ] || exit $$status; \
		echo "skipped: there is no test under Slurm (pytest collected none)"; }

# Two browsers, each with half of the pages; the order of tests/conftest.py is that of other files.
test-browser: install
	@[ -f _build/html/index.html ] || { echo "There is no book yet: run \`make book\` first." >&2; exit 1; }
	@if $(BIN)/python -c 'import sys; from astroformer.reproduce import screenshots as look; sys.exit(not look.find_browser())'; then \
		$(BIN)/python -m pytest -m built -n 2 --dist worksteal -rs tests/browser; else \
		echo "skipped: Debian's chromium is not installed (\`make system\` does it, as root)"; fi

bench: install
	@$(BIN)/astroformer bench --time-budget 300 $(if $(KEEP),--keep $(KEEP))

serve: install
	@[ -f _build/html/index.html ] || { echo "There is no book yet: run \`make book\` first." >&2; exit 1; }
	@echo "The book is at http://127.0.0.1:$(PORT); Ctrl-C stops."
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

# The kernel is that of .venv, whichever kernels the user has: Jupyter looks there first.
lab: install
	@$(BIN)/python -m jupyterlab --notebook-dir . --port $(PORT) $(OPTIONS) book/your_galaxies.ipynb

pdf: install
	@$(BIN)/python -m astroformer.reproduce.pdf

release: install
	@$(BIN)/python -m astroformer.reproduce.release

address: install
	@$(BIN)/python -m astroformer.reproduce.address "$(URL)" --branch "$(BRANCH)"

look: install
	@$(BIN)/python -m astroformer.reproduce.screenshots

# The sources of the last commit are copied, with an environment of their own, so that editing the tree cannot change a study
# that runs; records, checkpoints and images are those of this tree. A second call works from the same copy, beside the first.
STUDY   := _build/study
study:
	@[ -d $(STUDY)/.git ] || git clone --quiet --local . $(STUDY)
	@busy=$$(pgrep -f '$(CURDIR)/[_]build/study/.venv/bin/' | wc -l); \
		if [ $$busy -gt 0 ]; then echo "another study runs from $(STUDY): the copy stays at its commit"; \
		else git -C $(STUDY) fetch --quiet origin HEAD && git -C $(STUDY) checkout --quiet --detach FETCH_HEAD; fi
	@$(MAKE) --no-print-directory -C $(STUDY) install
	@cd $(STUDY) && ASTROFORMER_DATA="$${ASTROFORMER_DATA:-$(CURDIR)/data}" ASTROFORMER_RUNS="$${ASTROFORMER_RUNS:-$(CURDIR)/runs}" \
		ASTROFORMER_LOCAL_LEDGER="$${ASTROFORMER_LOCAL_LEDGER:-$(CURDIR)/book/ledger/local}" \
		$(CURDIR)/$(STUDY)/.venv/bin/astroformer study run $(STUDIES) --time-budget $(MINUTES) --parallel $(PARALLEL) \
		|| [ $$? -eq 1 ]   # 1: the time was over before the runs were

clean:
	rm -rf _build
