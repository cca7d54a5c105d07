# Two commands: `make demo` (clips in, a verified bundle out) and `make test`. Everything else serves them.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin

.PHONY: demo install test lint check trials trial-studies trial-attacks trial-arm trial-telemetry trial-remotes lock clean

demo: .venv/train
	rm -rf build/demo
	git clone --quiet . build/demo
	cd build/demo && PATH="$(BIN):$$PATH" python -m pipeline demo

# `dvc repro` finds an empty data/raw then, and extract says how to fill it. Where DVC tracks recordings, `dvc pull` makes it.
install: .venv/train
	test -e data/raw.dvc || mkdir -p data/raw

test: .venv/test
	PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist worksteal

lint: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -q tests/house
	$(BIN)/python -m tests.house.marks

# Long trials that are run by hand; docs/testing.md has what they gave. Those that need real files read PIPE_SHARED.
trials: .venv/test
	PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m trial
	$(BIN)/python -m tests.trials.every_recording
	$(BIN)/python -m tests.trials.mutated_recordings 2000
	rm -rf build/killed && mkdir -p build/killed
	$(BIN)/python -m tests.trials.killed_extractions build/killed 50
	$(BIN)/python -m tests.trials.copies_of_clips
	$(BIN)/python -m tests.trials.mutant_bundles
	$(BIN)/python -m tests.trials.examples_without_vnni
	$(BIN)/python -m tests.trials.int8_without_vnni
	$(BIN)/python -m tests.trials.joined_photos
	$(BIN)/python -m tests.trials.phone_in_browser
	rm -rf build/wheel && $(BIN)/python -m tests.trials.demo_from_wheel build/wheel

# Every row of every study in small, half an hour and more.
trial-studies: .venv/test
	rm -rf build/rows
	PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m tests.trials.every_row build/rows

# Kills, weights, params and names that were made to do harm.
trial-attacks: .venv/test
	rm -rf build/attacks && mkdir -p build/attacks
	$(BIN)/python -m tests.trials.killed_stages build/attacks/kills
	$(BIN)/python -m tests.trials.hostile_weights build/attacks/weights
	$(BIN)/python -m tests.trials.hostile_yaml build/attacks/yaml
	$(BIN)/python -m tests.trials.hostile_names build/attacks/names

# On emulated ARM processors, with the demo's bundle. Needs root and Debian's packages mmdebstrap and qemu-user-static.
trial-arm: .venv/test build/demo/dist/bundle.zip
	$(BIN)/python -m tests.trials.arm build/demo/dist/bundle.zip

build/demo/dist/bundle.zip:
	$(MAKE) demo

# Whom the chain, the device's commands and DVC call. Needs root and iproute2.
trial-telemetry: .venv/test
	$(BIN)/python -m tests.trials.telemetry

# One stamp per extra, renewed when what is to be installed changes. Every file that pip fetches must have a hash of the lock.
.venv/%: pyproject.toml requirements/build.txt requirements/%.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/build.txt
	$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation --requirement requirements/$*.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Share a project over SSH and S3, with servers on this machine. Needs root, Debian's package openssh-server, and the network for pip.
trial-remotes: .venv/test
	$(BIN)/python -m tests.trials.remotes build/remotes

# Write the locks anew from pyproject.toml and constraints.txt, for every platform.
UV := build/uv/bin/python -m uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate
lock:
	test -x build/uv/bin/python || $(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet uv
	$(UV) --constraint constraints.txt --output-file requirements/build.txt requirements/build.in
	for extra in train test bench web; do \
		$(UV) --constraint constraints.txt --extra $$extra --output-file requirements/$$extra.txt pyproject.toml || exit 1; \
	done

clean:
	rm -rf build .venv
