"""A copy of the code that a digest is taken of, so that a test may change it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.train import provenance


def copy_of_the_code(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the digest of the code be that of a copy in `root`; gives the copy's folder `pipeline`."""
    for folder in provenance.CODE_FOLDERS:
        shutil.copytree(provenance.CODE_ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "CODE_ROOT", root)
    return root / "pipeline"
