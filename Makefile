# Few verbs, the same by hand and in CI. Each sets up what it needs; the second run starts in seconds.
.PHONY: setup ui demo check test fast bench docs lock clean

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

setup:
	@PYTHON="$(PYTHON)" scripts/setup

ui: setup
	@scripts/ui

demo: ui
	@scripts/setup --system crun
	@$(RUN)/cloister demo $(if $(CHECK),--check) $(if $(PORT),--port $(PORT))

check: setup
	@scripts/check

test: check
	@scripts/setup --system crun git busybox postgresql nodejs chromium r-cran-irkernel mosquitto fuse2fs
	@scripts/test

fast: setup
	@$(RUN)/pytest -q tests/unit

bench: ui
	@scripts/setup --system crun nodejs wrk chromium
	@$(RUN)/python -m benchmarks $(ONLY)

docs: setup
	@$(RUN)/python scripts/docs.py

lock: setup
	@scripts/lock

clean:
	@rm -rf .demo .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
