"""What is in the data, before anybody trains on it: counts, sizes, brightness, and a contact sheet of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import replacing_folder, write_json
from pipeline.base.manifest import Row
from pipeline.base.parallel import each
from pipeline.base.project import Project, safe_join
from pipeline.draw.sheets import Cell, sheet, thumbnail, write_png
from pipeline.survey import as_lines, survey
from runtime.errors import ImageError
from runtime.images import read_image

FRAMES_ON_A_SHEET = 24
COLUMNS = 6
SIDE = 200  # pixels of a picture on a sheet
JSON, TEXT, SHEETS = "dataset.json", "dataset.txt", "classes"  # what a folder of ours holds


@dataclass(frozen=True)
class DatasetReport:
    """What `dataset` found."""

    lines: tuple[str, ...]  # for the terminal; dataset.txt has the same
    n_frames: int  # that screening kept
    n_classes: int
    n_warnings: int
    folder: str

    @property
    def headline(self) -> str:
        """The closing line: how much there is, and where it can be seen."""
        warnings = "1 warning" if self.n_warnings == 1 else f"{self.n_warnings} warnings"
        return f"{self.n_frames} frames of {self.n_classes} classes, {warnings}; contact sheets in {self.folder}"


def dataset(project: Project, out: Path | None = None) -> DatasetReport:
    """Count the frames and draw a contact sheet of every class.

    Reads `data/frames.csv`, the frames that it draws, and `data/split.csv` where there is one; writes `dataset.txt`,
    `dataset.json` and `classes/<class>.png` into `out`, or `reports/dataset/`.

    Raises:
        DataError: a manifest is missing or broken, a frame cannot be read, or `out` holds something else.
    """
    folder = project.dataset_reports if out is None else out
    _refuse_other_folder(folder)
    frames = manifest.read(project.frames_csv)
    value = survey(frames, manifest.read_split(project.split_csv) if project.split_csv.is_file() else [])
    lines = as_lines(value)
    with replacing_folder(folder) as temporary:
        write_json(temporary / JSON, value)
        (temporary / TEXT).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        for label in value["classes"]:
            _draw_class(label, [row for row in frames if row.label == label and row.kept], project, temporary)
    n_frames = sum(counts["frames"] for counts in value["classes"].values())
    shown = project.relative(folder) if out is None else str(out)
    return DatasetReport(tuple(lines), n_frames, len(value["classes"]), len(value["warnings"]), shown)


def _refuse_other_folder(folder: Path) -> None:
    """The folder is replaced as a whole, so all that is in it must be ours."""
    if not folder.exists():
        return
    others = sorted(path for path in folder.rglob("*") if not path.is_dir() and not _is_ours(path.relative_to(folder)))
    if others or not folder.is_dir():
        found = f"holds {others[0].relative_to(folder)}" if others else "is a file"
        raise DataError(f"{folder}: {found}; expected a new folder, or one that `pipe dataset` made")


def _is_ours(name: Path) -> bool:
    return name.as_posix() in (JSON, TEXT) or (name.parent.as_posix() == SHEETS and name.suffix == ".png")


def _draw_class(label: str, rows: Sequence[Row], project: Project, folder: Path) -> None:
    if not rows:
        return
    places = np.unique(np.linspace(0, len(rows) - 1, FRAMES_ON_A_SHEET).round().astype(int))
    shown = [rows[place] for place in places]
    cells = list(each(partial(_cell, project), shown, label))
    heading = f"{label}: {len(cells)} of {len(rows)} frames"
    write_png(sheet(cells, heading, columns=COLUMNS, side=SIDE), safe_join(folder, f"{SHEETS}/{label}.png"))


def _cell(project: Project, row: Row) -> Cell:
    try:
        pixels_hwc = read_image(safe_join(project.root, row.path), max_pixels=row.width * row.height)
    except ImageError as error:
        raise DataError(f"{error}; run `pipe extract` again") from error
    name = Path(row.source).name
    title = name if row.time_seconds is None else f"{row.time_seconds:.1f} s {name}"
    return Cell(thumbnail(pixels_hwc, SIDE), title)
