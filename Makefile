# One environment, .venv, is made from the locked requirements at the first use and kept until they
# change. What can be known beforehand is refused in one line, by $(error).
#
# PYTHON   the interpreter for .venv; left out, the newest supported one on the PATH
# PORT     where `make serve` listens; left out, CHARRNN_PORT, then 8000
# WORKERS  how many processes share the tests; left out, one for each core
# TEXT     for `make bench`: a text to train on for 82 seconds and 10 minutes, as tinyshakespeare
# NAMES    for `make bench`: a list of names, likewise

versions := 3.13 3.12 3.11
host := $(or $(CHARRNN_HOST),127.0.0.1)
port := $(or $(PORT),$(CHARRNN_PORT),8000)
WORKERS ?= auto

# What would send packages elsewhere or change what is installed. Mirrors and proxies stay.
unexport PIP_CONSTRAINT PIP_DRY_RUN PIP_EDITABLE PIP_NO_DEPS PIP_PREFIX PIP_PYTHON PIP_REPORT
unexport PIP_REQUIREMENT PIP_ROOT PIP_TARGET PYTHONHOME PYTHONPATH
export PIP_USER := 0

# The tests start hundreds of processes; each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve test prove bench pictures lint lock clean anew

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

serve: .venv/.runtime ## run the service; PORT=8001 for another port than 8000
	$(if $(refusal),$(error cannot listen on port $(port) of $(host), $(refusal): try `make serve PORT=$(other_port)`))
	@exec env CHARRNN_HOST="$(host)" CHARRNN_PORT="$(port)" \
	    .venv/bin/python -m gunicorn -c gunicorn.conf.py wsgi:app

test: lint ## check style and types, then run the tests
	@$(pytest)

prove: .venv/.tests ## run the long proofs in full
	@CHARRNN_PROVE=1 $(pytest) -m prove -o faulthandler_timeout=7200

bench: .venv/.bench ## measure everything, for docs/performance.md and scaling.md; TEXT=, NAMES= for quality too
	@rm -rf build/bench
	@.venv/bin/python benchmarks/generate.py --json build/bench/generate.json
	@.venv/bin/python benchmarks/train.py --json build/bench/train.json
	@.venv/bin/python benchmarks/service.py --json build/bench/service.json
	@.venv/bin/python benchmarks/scaling.py --json build/bench/scaling.json
	@.venv/bin/python benchmarks/choices.py --json build/bench/choices.json
	@.venv/bin/python benchmarks/memory.py --json build/bench/memory.json --svg docs/growth.svg
	@$(if $(TEXT)$(NAMES),.venv/bin/python benchmarks/quality.py --json build/bench/quality.json \
	    $(if $(TEXT),--text "$(TEXT)") $(if $(NAMES),--names "$(NAMES)"))
	@$(if $(TEXT),.venv/bin/python benchmarks/quality.py --json build/bench/quality-82.json --text "$(TEXT)" \
	    --random-seeds 3 -- --batch-size 64 --processes 2)
	@$(if $(TEXT),.venv/bin/python benchmarks/quality.py --json build/bench/quality-600.json --text "$(TEXT)" \
	    --seconds 600 -- --cell gru --hidden-size 512 --dropout 0.4 --batch-size 64 \
	    --learning-rate 0.012 --processes 2)
	@.venv/bin/python benchmarks/report.py build/bench

pictures: .venv/.tests ## draw the pictures of docs/ and README.md anew, in four minutes; with chromium the page's too
	@for name in unrolled distance temperature units; do \
	    .venv/bin/python examples/understanding/$$name.py || exit 1; done
	@.venv/bin/python examples/page_pictures.py

lint: .venv/.tests ## check style and types
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

lock: ## write the locked requirements; UPGRADE=1 for the newest versions
	$(if $(shell uv --version 2>/dev/null),,$(error the locks are written by uv: try `pip install uv`))
	@$(compile) -o requirements.txt
	@$(compile) --group dev -c requirements.txt -o tests/requirements.txt

clean: ## remove .venv, caches and builds; weights and training runs stay
	@rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

pytest = OPENBLAS_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

compile = uv pip compile --quiet --universal --generate-hashes --fork-strategy fewest \
    --python-version $(lastword $(versions)) --no-emit-index-url --no-emit-find-links \
    --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) pyproject.toml --extra serve

# Why the port can't be had; empty when it can.
bind := import socket; socket.create_server(("$(host)", int("$(port)")), \
    family=socket.AF_INET6 if ":" in "$(host)" else socket.AF_INET)
refusal = $(shell [ ! -x .venv/bin/python ] || .venv/bin/python -c '$(bind)' 2>&1 | \
    sed -n '$${s/^[A-Za-z.]*: //; s/\[Errno[^]]*\] //; s/ .while.*//; p;}')
other_port = $(if $(filter 8001,$(port)),8002,8001)

# The first interpreter that runs $(1) without an error.
first = $(shell for python in $(if $(PYTHON),"$(PYTHON)",$(versions:%=python%) python3); do \
    "$$python" -c '$(1)' >/dev/null 2>&1 && echo "$$python" && break; done)
supported := import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(versions)".split())
python = $(call first,import ensurepip; import venv; $(supported))

# Why there is none: too old, too new, or without the module that Debian packages separately.
bare_python = $(call first,$(supported))
package = $(shell "$(bare_python)" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
range := Python $(lastword $(versions)) to $(firstword $(versions))
no_python = $(if $(bare_python),$(bare_python) has no venv module: try `apt install $(package)`,$(if \
    $(PYTHON),PYTHON=$(PYTHON) is not $(range),$(range) is not on the PATH): install it \
    or name it, as in `make $(MAKECMDGOALS) PYTHON=/path/to/python3`)

# Not empty when .venv is half made, has lost its interpreter, or is not of the PYTHON asked for.
name := import sys; print(sys.version)
anew := $(shell [ -e .venv/.made ] && [ ! -e .venv/.installing ] && \
    have=$$(.venv/bin/python -c '$(name)' 2>/dev/null) && \
    { [ -z "$(PYTHON)" ] || [ "$$have" = "$$("$(PYTHON)" -c '$(name)' 2>/dev/null)" ]; } || \
    echo anew)

# .venv/.made        the environment exists
# .venv/.installing  pip is at work in it, or was when something stopped it
# .venv/.runtime     it holds all of requirements.txt
# .venv/.tests       it holds all of tests/requirements.txt, which has the runtime in it

# .venv/.bench       it holds the peers of the benchmarks too; without them these measure us alone

.venv/.made: $(anew)
	$(if $(python),,$(error $(no_python)))
	@echo "Making .venv with $(python)"
	@trap 'exit 130' INT; log=$$("$(python)" -m venv --clear .venv 2>&1) || \
	    { echo "$$log" | tail -n 1 >&2; exit 1; }
	@touch $@

.venv/.runtime: requirements.txt .venv/.made
	$(install)
	@touch $@

.venv/.tests: tests/requirements.txt .venv/.made
	$(install)
	@touch .venv/.runtime $@

peers := import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    print(*project["optional-dependencies"]["bench"])

.venv/.bench: pyproject.toml .venv/.runtime
	@echo "Installing the peers of the benchmarks (.venv/pip.log)"
	@trap 'exit 130' INT; .venv/bin/python -m pip install --disable-pip-version-check --no-input \
	    $$(.venv/bin/python -c '$(peers)') >.venv/pip.log 2>&1 && touch $@ || \
	    echo "They could not be installed (.venv/pip.log): the tables go without them" >&2

define install
@echo "Installing $< (.venv/pip.log)"
@touch .venv/.installing
@trap 'exit 130' INT; .venv/bin/python -m pip install --disable-pip-version-check --no-input \
    --require-hashes -r $< >.venv/pip.log 2>&1 || \
    { echo "$< could not be installed: is the network up? .venv/pip.log tells more" >&2; exit 1; }
@rm .venv/.installing
endef
