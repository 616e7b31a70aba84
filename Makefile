# Everything is installed into .venv, from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
# The folder that the UI shows: the checkout when it has a frnr.toml, else the demo.
DIR ?= $(if $(wildcard frnr.toml),.,demo)
# Of the UI.
PORT ?= 3000

.PHONY: demo ui test lint e2e screenshots browser docs bench fuzz audit lock clean

demo: .venv/installed
	$(BIN)/frnr demo

# Whoever reaches the UI can launch runs, and it has no login: nobody else's machine may reach it.
ui: .venv/installed
	@test -e $(DIR)/frnr.toml || { echo "There is no $(DIR)/frnr.toml to show: run 'make demo', or write one."; exit 1; }
	@$(BIN)/python -m tools.ready_for_ui $(DIR) $(PORT)
	mkdir -p $(DIR)/.dagster && cp dagster.yaml $(DIR)/.dagster/
	cd $(DIR) && DAGSTER_HOME="$$PWD/.dagster" "$(CURDIR)/$(BIN)/dagster" dev -w "$(CURDIR)/workspace.yaml" --host 127.0.0.1 --port $(PORT)

test: lint
	$(BIN)/pytest --numprocesses 4 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# The tables of docs/data_dictionary.md, from the schemas.
docs: .venv/installed
	$(BIN)/python -m tools.data_dictionary

# An operator's first day, click by click; a machine without a browser skips it, and says so.
e2e: .venv/e2e-installed browser
	@if command -v chromium > /dev/null; then $(BIN)/pytest e2e --exitfirst; \
	else echo "e2e skipped: there is no browser; install the Debian package chromium."; fi

# The README's pictures, from the UI on the demo.
screenshots: .venv/e2e-installed browser
	$(BIN)/python -m e2e.screenshots

# Debian's Chromium, when nobody has installed it and we may.
browser:
	@command -v chromium > /dev/null || test "$$(id -u)" != 0 || { apt-get update -q && \
		apt-get install -qy --no-install-recommends chromium; } || echo "The Debian package chromium cannot be installed."

.venv/e2e-installed: .venv/installed requirements-e2e.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-e2e.lock
	@touch $@

bench: .venv/installed
	$(BIN)/python -m bench

fuzz: .venv/installed
	$(BIN)/python -m fuzz

# Known vulnerabilities of what requirements.lock pins; without a database to ask, it says that it was skipped.
audit: .audit-venv/installed
	$(PYTHON) tools/audit.py .audit-venv/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip

.audit-venv/installed: requirements-audit.lock
	$(PYTHON) -m venv .audit-venv
	.audit-venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements-audit.lock
	@touch $@

# Debian splits the part of Python that makes environments into a package of its own.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it, as in make demo PYTHON=python3.12."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "Python's ensurepip is missing; installing the Debian package python3-venv."; \
		test "$$(id -u)" = 0 || { echo "Not root: run 'sudo apt-get install python3-venv' and try again."; exit 1; }; \
		apt-get update -q && apt-get install -qy python3-venv; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Each lock is for every supported Python, with markers where they differ and without the address of any registry.
COMPILE := .lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
lock:
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/pip install --quiet uv
	$(COMPILE) --group dev pyproject.toml --output-file requirements.lock
	$(COMPILE) --group audit --output-file requirements-audit.lock
	$(COMPILE) --group e2e --constraint requirements.lock --output-file requirements-e2e.lock

clean:
	rm -rf .venv .lock-venv .audit-venv .dagster demo build *.egg-info
