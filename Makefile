# Two commands: `make demo` (clips in, a verified bundle out) and `make test`. Everything else serves them.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin

.PHONY: demo install test check trials trial-arm trial-telemetry clean

demo: .venv/train
	rm -rf build/demo
	git clone --quiet . build/demo
	cd build/demo && PATH="$(BIN):$$PATH" pipe demo

install: .venv/train

test: .venv/test
	PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist worksteal

check: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -q tests/house
	$(BIN)/python -m tests.house.marks

# Long trials that are run by hand; docs/testing.md has what they gave. The first and second read PIPE_SHARED.
trials: .venv/test
	$(BIN)/python -m tests.trials.every_recording
	$(BIN)/python -m tests.trials.mutated_recordings 2000
	rm -rf build/killed && mkdir -p build/killed
	$(BIN)/python -m tests.trials.killed_extractions build/killed 50
	$(BIN)/python -m tests.trials.mutant_bundles

# On emulated ARM processors, with the demo's bundle. Needs root and Debian's packages mmdebstrap and qemu-user-static.
trial-arm: .venv/test build/demo/dist/bundle.zip
	$(BIN)/python -m tests.trials.arm build/demo/dist/bundle.zip

build/demo/dist/bundle.zip:
	$(MAKE) demo

# Whom the chain, the device's commands and DVC call. Needs root and iproute2.
trial-telemetry: .venv/test
	$(BIN)/python -m tests.trials.telemetry

# One stamp per extra, renewed when what is to be installed changes.
.venv/%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf build .venv
