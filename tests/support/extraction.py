"""Running `extract` in a test, and reading what it wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.child_process import run_in_child
from pipeline.base.errors import PipeError
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.extract.params import ExtractParams
from pipeline.extract.stage import extract
from tests.support.command import ROOT


def extract_params(**changes: Any) -> ExtractParams:
    """The defaults of params.yaml with some changes."""
    defaults = read_section(ROOT / "params.yaml", "extract", ExtractParams)
    return ExtractParams.model_validate(defaults.model_dump() | changes)


def everything_in(folder: Path) -> dict[str, str]:
    """Each file below a folder with a digest of its content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def made_by(project: Project) -> dict[str, str]:
    """What a run leaves, without the recordings and the cache of clips."""
    made = {}
    for top in project.root.iterdir():
        if top.is_dir() and top != project.cache:
            made |= {f"{top.name}/{name}": digest for name, digest in everything_in(top).items()}
    return {name: digest for name, digest in made.items() if not name.startswith("data/raw/")}


def refusal(project: Project, **changes: Any) -> str:
    """The one line with which extract refuses to run; nothing is left behind."""
    before = made_by(project)
    with pytest.raises(PipeError) as caught:
        extract(extract_params(**changes), project)
    assert made_by(project) == before
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    return str(caught.value)


def entries(project: Project) -> dict[str, int]:
    """The entries of the clip cache, with the time at which each was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (project.cache / "clips").glob("[!.]*/recorded.json")}


def decoded_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of recordings that children decode from here on."""
    asked: list[str] = []

    def note(function: str, arguments: dict[str, Any], **others: Any) -> object:
        asked.extend(name for _, name in arguments["sources"])
        return run_in_child(function, arguments, **others)

    monkeypatch.setattr("pipeline.extract.decode_all.run_in_child", note)
    return asked
