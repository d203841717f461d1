# Each target first sets up what it needs in .venv: minutes the first time, then no time at all.
#   make lab ARGS="--no-browser --port=9000"        make test ARGS="tests/engine -k plate"
#   PYTHON=python3.12 make lab                      chooses the interpreter

PYTHON ?= python3
ARGS ?=
TARGETS := help setup lab test test-all book serve pdf classroom notebooks constraints clean
MISSING := pplkit needs Python 3.11 or newer, and there is no program "$(PYTHON)": install it, or name another with PYTHON=...

.PHONY: $(TARGETS)
$(TARGETS):
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo '$(MISSING)' >&2; exit 1; }
	@exec "$(PYTHON)" tools/make.py $@ $(ARGS)
