#!/usr/bin/env bash
# Checks the toolchain on a machine with an NVIDIA GPU, in 8 minutes at most: docs/machines.md.
#
#   scripts/gpu_check.sh OUT [--wheels FOLDER] [--only PART]... [--dry-run]
#
# PYTHON names the Python to use (default: that of .venv where there is one, else python3). Packages that this Python
# lacks are taken from FOLDER, without a network, and put into the environment OUT/venv. The machine stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
exec "$PYTHON" -m tests.trials.gpu_check "$@"
