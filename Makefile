# The commands of the project. `make demo` and `make test` set up whatever is missing first.

BIN := .venv/bin
# Network namespaces need root; nothing else does.
# No bytecode: root would leave directories in the tree that its owner cannot remove.
AS_ROOT := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo) env PYTHONDONTWRITEBYTECODE=1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check root-tests bench soak matrix fuzz man screenshots clean

help:
	@echo 'make demo [ARGS="--handovers 2"]  a call with a change of network in the middle (root or sudo)'
	@echo 'make demo ARGS="--unprivileged"   the same with the laptop of an ordinary user, between Wi-Fi and an IPv4 hotspot'
	@echo 'make test                         everything that is checked: make check, and the tests on real networks (root or sudo)'
	@echo 'make check                        format, lint, types, import contracts, unit tests'
	@echo 'make docs                         the documentation as HTML in docs/_build, warnings are errors (part of make check)'
	@echo 'make bench [SECTION=data_plane]   benchmarks; bench/report.md and report.json (root or sudo)'
	@echo 'make soak [SECONDS=300] [SEED=7]   calls one after the other while everything goes wrong; a seed repeats it (root or sudo)'
	@echo 'make matrix [ARGS="--only TLS"]   calls with other phones, in every way there is; all of them go to docs/matrix.md'
	@echo 'make fuzz [TARGET=mh] [SECONDS=60] bad input for every target, or one, under atheris (which it installs)'
	@echo 'make man                          manual pages, in packaging/man'
	@echo 'make setup                        Debian packages and .venv, where missing'
	@echo 'make screenshots                  snapshots and pictures of the user interface, anew'
	@echo 'make clean                        removes what the commands above have made, except .venv'

setup:
	@scripts/setup

demo: setup
	$(AS_ROOT) $(CURDIR)/$(BIN)/softphone demo $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py examples/*/*.py
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs
	$(BIN)/python -m pytest -q -m "not root and not interop" --numprocesses=auto --dist=worksteal

docs: setup
	$(BIN)/sphinx-build -q -W --keep-going -j auto docs docs/_build

# One after the other, also under `make -j`: many tests on real networks judge times.
test: check
	$(MAKE) --no-print-directory root-tests

root-tests: setup
	$(AS_ROOT) $(BIN)/python -m pytest -q -m "(root or interop) and not alone" -p no:cacheprovider -n 2 --dist=loadfile
	$(AS_ROOT) $(BIN)/python -m pytest -q -m "(root or interop) and alone" -p no:cacheprovider

bench: setup
	$(AS_ROOT) $(BIN)/python -m bench $(addprefix --section ,$(SECTION))

soak: setup
	$(AS_ROOT) $(BIN)/python -m sip_test_env.soak --seconds $(or $(SECONDS),300) $(addprefix --seed ,$(SEED))

matrix: setup
	$(BIN)/python -m tests.interop.matrix $(or $(ARGS),--write docs/matrix.md)

# Apache-2.0, so for developers only and no part of `dev`.
fuzz: setup
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install -q -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(or $(TARGET),all) $(or $(SECONDS),60)

man: setup
	$(BIN)/python -m mobility.commandline.manual softphone.commands.parser:parser packaging/man/softphone.1
	$(BIN)/python -m mobility.commandline.manual mobility.cli:parser packaging/man/mobility.1

# What tests/ui/test_snapshots.py compares with, and what docs/tui.md shows.
screenshots: setup
	$(BIN)/python -m tests.ui.still

clean:
	rm -rf packaging/man .fuzz build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
