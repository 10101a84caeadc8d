# Needs Python 3.11 or newer and make, nothing else.
#   make run    serve on http://127.0.0.1:8080   (ARGS="--port 9000" for flags)
#   make test   all checks and tests             (ARGS="-k resume" for pytest)
#   make bench  us and our peers on the same work (ARGS="--quick", "--only W1,W3")
#   make lock   the tested versions into requirements*.lock; make locked  an environment of just those
#   make audit  known vulnerabilities of the locked versions; make sbom  what they are, as CycloneDX
#   make figures  what the core promises, measured (ARGS="pause abort" for some)
#   make chaos  real faults, judged from histories: three seeds, then the mutants (about 19 minutes)
#   make soak   the same for an hour, on one set of processes   (ARGS="--minutes 600")
#   make fuzz   an hour of mutated inputs, to every parser and to a server   (ARGS="--minutes 5")

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --editable

figures: $(VENV)/.test
	$(BIN)/python -m bench.figures $(ARGS)

bench: $(VENV)/.run
	@exec $(BIN)/python -m bench.run $(ARGS)

chaos: $(VENV)/.test
	$(BIN)/python -m tests.chaos $(or $(ARGS),--seed 1,2,3 --seconds 215 \
		--least-sessions 2000 --least-faults 300)
	$(BIN)/python -m tests.chaos --mutants

soak: $(VENV)/.test
	$(BIN)/python -m tests.chaos.soak $(ARGS)

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: run test lint figures bench chaos soak fuzz lock locked audit sbom clean

run: $(VENV)/.run
	@exec $(BIN)/python run.py $(ARGS)

# The nodes of tests start from compiled modules, whatever the environment says.
test: export PYTHONDONTWRITEBYTECODE =
test: lint
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not alone" --durations 20 $(ARGS)
	$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal \
	--python-version 3.11 --generate-hashes setup.cfg --extra otel

lock: $(VENV)/.tools
	$(COMPILE) -o requirements.lock
	$(COMPILE) --extra test -c requirements.lock -o requirements-test.lock

locked: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-test.lock
	$(PIP) . --no-deps
	@touch $(VENV)/.test $(VENV)/.run

audit: $(VENV)/.tools
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements-test.lock

SBOM ?= sbom.json
sbom: $(VENV)/.tools
	$(BIN)/cyclonedx-py requirements --output-reproducible -o $(SBOM) requirements.lock

$(VENV)/.tools: | $(BIN)/python
	$(BIN)/python -m pip install --quiet uv pip-audit cyclonedx-bom
	@touch $@

clean:
	rm -rf .fuzz bench/.cache bench/peers/*/node_modules $(VENV) build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache sbom.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "tokenwire needs Python 3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -f $@; exit 1; }  # Debian has it in python3-venv

$(VENV)/.run: setup.cfg | $(BIN)/python
	$(PIP) .
	@touch $@

$(VENV)/.test: setup.cfg | $(BIN)/python
	$(PIP) '.[test]'
	@touch $@ $(VENV)/.run

# Where it cannot be had, inputs are made by dice.
$(VENV)/.fuzz: $(VENV)/.test
	-$(BIN)/python -m pip install --quiet --only-binary :all: 'atheris>=3'
	@touch $@
