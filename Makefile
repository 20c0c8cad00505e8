# Everything a person or CI runs. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIN = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header

# The tests start hundreds of processes: without this, each would compile all modules again where it is set.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-live test unit faults-short faults soak image bench bench-peers check format lock dist wheel audit clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/runtime: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/runtime
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.txt
	@touch $@

setup: $(VENV)/runtime  ## make the virtual environment in .venv

demo: setup  ## a local Kafka, the three scripts, the counts, and the proof that they are exact
	@$(BIN)/unique-users demo

demo-live: setup  ## the same with a stream that never ends, and a live page of it, until Ctrl-C
	@$(BIN)/unique-users demo --live

test: $(VENV)/dev  ## the tests except the slow ones, on a real broker that they start and stop: 4 minutes on two cores
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal -m "not slow" --ignore tests/docs

unit: $(VENV)/dev  ## the tests that need no broker: 40 seconds on two cores
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal -m "not slow" tests/unit

faults-short: $(VENV)/dev  ## the slow tests, mainly each fault in its short form: 20 minutes on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m slow

faults: $(VENV)/dev  ## the whole fault matrix, five times from different seeds: an hour to an hour and a half
	$(BIN)/python tests/faults/matrix.py --times 5

soak: $(VENV)/dev  ## 30 minutes of mixed faults
	$(BIN)/python tests/faults/soak.py --minutes 30

image: $(VENV)/dev  ## build the container image with Buildah, run compose.yaml with it until the counts are exact; as root
	$(BIN)/python tests/containers/image.py --starts 5

bench: $(VENV)/dev  ## time the pipeline and other engines with 1,000,000 frames, median of 5, and what metrics cost: 10 minutes
	$(BIN)/python bench/pipeline.py --runs 5 --metrics --peers bytewax,quix-rekeyed --peers-once faust \
		--json docs/performance/pipeline.json --plot docs/performance/pipeline.svg

bench-peers: $(VENV)/dev  ## other engines at the same job, measured, and killed ten times each: less than 20 minutes; needs a JDK and Maven
	$(BIN)/python bench/engines.py speed --json docs/performance/engines.json
	$(BIN)/python bench/engines.py kills --json docs/performance/engines.json
	$(BIN)/python tests/docs/engines_document.py
	$(BIN)/python bench/engines.py table docs/performance/engines.json

check: $(VENV)/dev  ## linter, formatter, types, import contracts, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/docs

format: $(VENV)/dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/dev  ## re-pin the dependencies of pyproject.toml, with checksums
	$(PIN) --extra local --extra dashboard pyproject.toml -o requirements.txt
	$(PIN) --extra all pyproject.toml -o requirements-all.txt
	$(PIN) --extra dev pyproject.toml -o requirements-dev.txt
	$(PIN) --extra librdkafka --extra dashboard pyproject.toml -o requirements-image.txt
	$(PIN) --extra librdkafka --extra dashboard --extra postgres pyproject.toml -o requirements-image-postgres.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' | $(PIN) - -o requirements-build.txt

dist: $(VENV)/dev  ## the wheel and the sdist in dist/, the list of what they need in sbom/: the same bytes each time
	rm -rf dist sbom && mkdir sbom
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/uv build --quiet --python $(BIN)/python --no-build-isolation
	$(BIN)/twine check --strict dist/*
	$(BIN)/cyclonedx-py requirements requirements-all.txt --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-format JSON --spec-version 1.6 --validate --output-file sbom/unique-users.cdx.json

wheel: $(VENV)/dev  ## what each extra promises, from the wheel in dist/ alone; WHEEL_PYTHON=3.12 tests on another Python
	WHEEL=$$(ls dist/*.whl) $(BIN)/python -m pytest tests/integration/test_wheel.py

audit: $(VENV)/dev  ## known vulnerabilities of what is pinned; fails where it cannot ask PyPI about them
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements-all.txt
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements-dev.txt

clean:  ## remove the virtual environment and the local Kafka's data; stop the broker first
	rm -rf $(VENV) data dist sbom
