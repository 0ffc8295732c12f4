# Two commands do all the set-up: `make demo` and `make test`. They need Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
RUNS ?= 1000
ROWS ?= 10000
NODE_MODULES := tests/world/oidc/node_modules/.package-lock.json
PIP_COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-emit-options --no-header --strip-extras --allow-unsafe

# What was compiled is kept, whatever the shell says: each process of the tests would compile all of them otherwise.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo demo-service test test-long lint docs manual package pictures coverage mutants chaos workers month bench audit node browser screenshots lock clean

demo: .venv/core  ## onboard and refresh a dozen clients against a local OAuth server
	@$(BIN)/python -m tests.world.demo

demo-service: .venv/service  ## the HTTP service with those clients, until Ctrl-C; it prints its address and a key
	@$(BIN)/python -m tests.world.demo_service

test: .venv/dev $(NODE_MODULES)  ## all tests that take a second or less, on four processes: each waits much
	$(BIN)/python -m pytest -n 4 --dist loadfile -m "not long" $(PYTEST_FLAGS)

test-long: .venv/dev $(NODE_MODULES)  ## those that take minutes: kills, crowds of processes, simulated days, the docs, every case and more examples
	$(BIN)/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder -m "long or hypothesis" --hypothesis-profile long $(PYTEST_FLAGS)

lint: .venv/dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/core  ## write what is made of providers/catalog and of the source: index, docs/providers.md, docs/provider-list.md, docs/messages.md
	$(BIN)/python -m docs.generate

manual: .venv/completion  ## completion and manual pages, into share/
	$(BIN)/python -m docs.manual share

pictures: .venv/core  ## the program at work, as the README and docs/airtable-start.md show it
	$(BIN)/python -m docs.pictures

package: .venv/dev  ## wheel and sdist, into dist/
	$(BIN)/python -m build

chaos: .venv/dev  ## RUNS kills of real runs, and as many lives of a table in an operator's hands
	$(BIN)/python -m tests.chaos --runs $(RUNS) $(if $(SEED),--seed $(SEED)) $(if $(ROUND),--round $(ROUND))
	CHAOS=$(RUNS) $(BIN)/python -m pytest -n 2 --dist load tests/chaos/test_operator.py

workers: .venv/dev  ## ROWS rows of PostgreSQL in the hands of eight workers, two of which are killed
	$(BIN)/python -m tests.workers --rows $(ROWS)

month: .venv/dev  ## thirty days of 300 clients, run every hour: which messages came
	$(BIN)/python -m pytest -s tests/notifiers/simulated_month.py $(PYTEST_FLAGS)

# Without the tests that draw lots: a line that only chance finds is not covered.
coverage: .venv/dev  ## what no test runs of the code that a token's life hangs on; fails where there is any
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n 2 --dist loadfile --quiet -m "not hypothesis" --ignore tests/world_tests \
		--ignore tests/test_docs.py $(PYTEST_FLAGS) >.coverage-log || { tail --lines 50 .coverage-log; exit 1; }
	@find . -maxdepth 1 -name '.coverage.*' -empty -delete  # of processes that tests kill
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

mutants: .venv/dev  ## break each step of a refresh on purpose, and see which test notices
	@$(BIN)/python -m tests.mutants

bench: .venv/bench  ## speed, as ratios within one run; SECTIONS="idle workers" measures these alone
	$(BIN)/python -m bench.run $(SECTIONS)

# Strict: without it, packages that the service does not know or that cannot be asked about count as clean.
audit: .venv/dev  ## known vulnerabilities in what is locked, and licences
	$(BIN)/python -m tests.licences
	@for lock in requirements.txt requirements/completion.txt requirements/postgres.txt requirements/notify.txt requirements/service.txt requirements/dev.txt requirements/bench.txt requirements/node.txt; do \
		$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement $$lock || { \
			echo "$$lock: a package above has a known vulnerability, or pypi.org/pypi/NAME/VERSION/json cannot be reached" \
				"from here: nothing was checked then. Run it where it can be." >&2; exit 1; }; \
	done

node: $(NODE_MODULES)  ## the certified OAuth server of the tests

# Debian's packages, for the whole machine: where they are missing, only root can add them.
browser:  ## Chromium and its driver, for the tests of a login in a browser
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "Chromium is missing, and there is no apt-get here: install chromium and chromedriver of one version, both on PATH." >&2; exit 1; \
	elif [ "$$(id -u)" != 0 ]; then \
		echo "Chromium is missing, and only root can install it: run \`sudo make browser\`, or \`make test-long\` without it," \
			"which then leaves out the logins in a browser." >&2; exit 1; \
	fi; \
	apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends chromium chromium-driver || { \
		echo "Chromium could not be installed; the reason is above. apt-get needs to reach Debian's mirrors." >&2; exit 1; }

screenshots: .venv/dev  ## the pictures in docs/images: the page, the report and a table with made-up clients
	@$(BIN)/python -m tests.world.screenshots

lock: .venv/dev  ## pin what requirements/*.in ask for, with hashes
	$(PIP_COMPILE) --output-file requirements.txt requirements/core.in
	$(PIP_COMPILE) --output-file requirements/completion.txt requirements/completion.in
	$(PIP_COMPILE) --output-file requirements/postgres.txt requirements/postgres.in
	$(PIP_COMPILE) --output-file requirements/notify.txt requirements/notify.in
	$(PIP_COMPILE) --output-file requirements/service.txt requirements/service.in
	$(PIP_COMPILE) --output-file requirements/dev.txt requirements/dev.in
	$(PIP_COMPILE) --output-file requirements/bench.txt requirements/bench.in
	$(PIP_COMPILE) --output-file requirements/node.txt requirements/node.in

clean:  ## what was installed or built here
	rm -rf .venv tests/world/oidc/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/core: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	@touch $@

.venv/completion .venv/service: .venv/%: requirements/%.txt .venv/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv/dev: requirements/dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@touch $@ .venv/core

.venv/bench: requirements/bench.txt .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/bench.txt
	@touch $@

# Node and npm of the system where there are any, else those that a Python package carries.
$(NODE_MODULES): tests/world/oidc/package-lock.json | .venv/bin/python
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/node.txt
	@PATH="$$PATH:$$PWD/.venv/bin" npm ci --loglevel error --no-audit --no-fund --prefix tests/world/oidc || { \
		echo "npm ci failed: the tests' OAuth server (tests/world/oidc) could not be installed. The reason is above; npm needs" \
			"to reach its registry (npm config get registry), and Node 18 or newer." >&2; exit 1; }
	@touch $@
