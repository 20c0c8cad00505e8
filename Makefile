# Everything a person or CI runs. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-live test unit faults-short faults soak image bench check format lock clean

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

test: $(VENV)/dev  ## the tests except the slow ones, on real brokers that they start and stop: 5 minutes on two cores
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal -m "not slow"

unit: $(VENV)/dev  ## the tests that need no broker: a minute on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow" tests/unit

faults-short: $(VENV)/dev  ## the slow tests, mainly each fault in its short form: 18 minutes on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m slow

faults: $(VENV)/dev  ## the whole fault matrix, five times from different seeds: an hour to an hour and a half
	$(BIN)/python tests/faults/matrix.py --times 5

soak: $(VENV)/dev  ## 30 minutes of mixed faults
	$(BIN)/python tests/faults/soak.py --minutes 30

image: $(VENV)/dev  ## build the container image with Buildah, run compose.yaml with it until the counts are exact; as root
	$(BIN)/python tests/containers/image.py --starts 5

bench: $(VENV)/dev  ## time the pipeline and other engines with 1,000,000 frames, median of 5: 20 minutes
	$(BIN)/python bench/pipeline.py --runs 5 --peers bytewax,quix-rekeyed --peers-once faust \
		--json docs/performance/pipeline.json --plot docs/performance/pipeline.svg

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
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --extra local --extra dashboard pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --extra dev --extra local --extra dashboard pyproject.toml -o requirements-dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --extra librdkafka --extra dashboard pyproject.toml -o requirements-image.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header - -o requirements-build.txt

clean:  ## remove the virtual environment and the local Kafka's data; stop the broker first
	rm -rf $(VENV) data
