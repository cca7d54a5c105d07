"""Which pictures of `pipe explain` a page may show: those of the network that it reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.project import Project
from pipeline.base.report_digest import files_written, hashes_of


@dataclass(frozen=True)
class Explanations:
    """The pictures in `reports/explain/`."""

    shown: tuple[Path, ...]  # the evidence first, then in the order of their names
    n_left_out: int  # pictures of another network, and those that `pipe explain` did not draw


def explanations_of(checkpoint_sha256: str, project: Project) -> Explanations:
    """Find the pictures that `pipe explain` drew from a checkpoint, by its note of them."""
    drawn = files_written(project.explain_json, {project.relative(project.checkpoint): checkpoint_sha256})
    paths = [path for path in project.explanations.glob("*.png") if path.is_file()]
    hashes = hashes_of(paths, project)
    shown = [path for path in paths if drawn.get(project.relative(path)) == hashes[project.relative(path)]]
    shown.sort(key=lambda path: (not path.stem.startswith("evidence"), path.stem))
    return Explanations(tuple(shown), len(paths) - len(shown))
