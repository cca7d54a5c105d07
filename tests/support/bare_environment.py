"""An environment that says nothing about this machine but where programs and the home folder are."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def bare_environment(home: Path) -> dict[str, str]:
    """Return the variables of a person's first login.

    onnxruntime sends and writes nothing where a variable says that a build server runs it (CI, GITHUB_ACTIONS and
    others). A test that inherited one of these could not see what a person's machine does.
    """
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": programs, "HOME": str(home), "LANG": "C.UTF-8"}
