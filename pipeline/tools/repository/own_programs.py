"""An environment in which the programs of this Python are found first: `dvc.yaml` calls `pipe` or `python`."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def environment_with_own_programs() -> dict[str, str]:
    """Return the variables of this process, with the folder of this Python's programs first in the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path}
