"""A copy of the code that the code digest reads, so that a test may change the copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base import code_digest


def copy_of_the_code(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the code into `root` and let the code digest read the copy; returns the folder `pipeline` of the copy."""
    for package in ("pipeline", "runtime"):
        shutil.copytree(code_digest.CODE_ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "CODE_ROOT", root)
    return root / "pipeline"
