"""The pictures of an evaluation in `reports/plots/`, and `pictures.json`, which says what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.files import write_json
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.draw.charts import missing_font
from pipeline.draw.sheets import Cell, sheet, stack, thumbnail, write_jpeg
from pipeline.evaluate import charts
from pipeline.evaluate.dvc_tables import Tables, curve_rows, write_tables
from pipeline.evaluate.predictions import Judged
from pipeline.evaluate.projection import SEED, projected

PICTURES_JSON = "pictures.json"


@dataclass(frozen=True)
class Exhibits:
    """What is drawn."""

    numbers: Mapping[str, Any]  # of reports/evaluate.json
    tables: Tables
    kept: Judged  # the held-out frames
    originals: Sequence[Row]  # the kept frames of all sides
    features: Judged  # a sample of these


def draw_gallery(exhibits: Exhibits, n_montage: int, folder: Path, project: Project) -> None:
    """Draw everything, and the table of the curves, into a folder; the same bytes for the same exhibits and fonts.

    Raises:
        DataError: a frame is missing or broken.
    """
    numbers = exhibits.numbers
    classes = numbers["classes"]
    _draw_charts(exhibits, folder)
    curves = charts.read_curves(project.train_reports / "plots" / "metrics")
    if curves:
        charts.draw_curves(curves, folder / "curves.png")
        write_tables({"curves": curve_rows(curves)}, folder)
    said = {"font": missing_font(classes), "features": _draw_features(exhibits, folder)}
    write_json(folder / PICTURES_JSON, said | _draw_sheets(exhibits, classes, n_montage, folder, project))


def _draw_charts(exhibits: Exhibits, folder: Path) -> None:
    numbers, tables = exhibits.numbers, exhibits.tables
    charts.draw_confusion(
        numbers["classes"], numbers["confusion"], numbers["confusion_normalised"], folder / "confusion.png"
    )
    charts.draw_rankings(tables["roc"], tables["precision_recall"], folder / "roc.png")
    charts.draw_reliability(tables["reliability"], folder / "reliability.png")
    charts.draw_classes(numbers["per_class"], folder / "per_class.png")


def _draw_features(exhibits: Exhibits, folder: Path) -> dict[str, Any]:
    sample = exhibits.features
    found = projected(sample.embeddings)
    labels, sides = [row.label for row in sample.rows], [row.split for row in sample.rows]
    charts.draw_features(found, labels, sides, folder / "features.png")
    return {
        "n_frames": len(sample.rows),
        "n_frames_of": len(exhibits.originals),
        "seed": SEED,
        "pca_shares": list(found.pca_shares),
        "perplexity": found.perplexity,
    }


def _draw_sheets(
    exhibits: Exhibits, classes: Sequence[str], n_montage: int, folder: Path, project: Project
) -> dict[str, Any]:
    kept = exhibits.kept
    of_classes = classes_sheet(exhibits.originals, classes, project)
    random, shown = montage(kept, classes, n_montage, project)
    wrong, worst, n_wrong = mistakes(kept, classes, project)
    unsure, least = least_sure(kept, classes, project)
    drawn = {"classes": of_classes, "montage": random, "mistakes": wrong, "least_sure": unsure}
    for name, sheet_hwc in drawn.items():
        write_jpeg(sheet_hwc, folder / f"{name}.jpg")
    return {"montage": shown, "n_mistakes": n_wrong, "mistakes": worst, "least_sure": least}


SHOWN = 24  # mistakes, and least sure ones
CLASSES_SHOWN = 40
FRAMES_OF_CLASS = 6
_COLUMNS, _SIDE = 4, 240  # pixels
_CLASS_SIDE = 160

Sheet = NDArray[np.uint8]  # (height, width, 3) RGB
Listed = list[dict[str, Any]]  # per frame its path, label, what it was predicted to be, and the confidence


def montage(kept: Judged, classes: Sequence[str], n: int, project: Project) -> tuple[Sheet, Listed]:
    """Frames drawn at random, the same ones every time, titled `predicted (true)` (study 003)."""
    drawn = np.random.default_rng(0).choice(len(kept.rows), min(n, len(kept.rows)), replace=False)
    shown = _listed(kept, classes, drawn)
    titles = [f"{one['predicted']} ({one['label']})" for one in shown]
    return _sheet(kept, drawn, titles, f"{len(shown)} random held-out frames: predicted (true)", project), shown


def mistakes(kept: Judged, classes: Sequence[str], project: Project) -> tuple[Sheet, Listed, int]:
    """The frames that were called wrong, the most confident answer first; and how many there are of all."""
    wrong = np.flatnonzero(kept.probabilities.argmax(axis=1) != kept.truth)
    worst = wrong[np.argsort(-kept.probabilities.max(axis=1)[wrong], kind="stable")][:SHOWN]
    shown = _listed(kept, classes, worst)
    titles = [f"{one['confidence']:.0%} {one['predicted']} ({one['label']})" for one in shown]
    heading = f"{len(worst)} of {len(wrong)} mistakes: confidence predicted (true)" if len(wrong) else "no mistakes"
    return _sheet(kept, worst, titles, heading, project), shown, len(wrong)


def least_sure(kept: Judged, classes: Sequence[str], project: Project) -> tuple[Sheet, Listed]:
    """The frames whose likeliest class is least likely, right or wrong."""
    order = np.argsort(kept.probabilities.max(axis=1), kind="stable")[:SHOWN]
    shown = _listed(kept, classes, order)
    titles = [f"{one['confidence']:.0%} {one['predicted']} ({one['label']})" for one in shown]
    return _sheet(kept, order, titles, f"the {len(shown)} least sure: confidence predicted (true)", project), shown


def classes_sheet(rows: Sequence[Row], classes: Sequence[str], project: Project) -> Sheet:
    """A row of frames for every class, spread over its clips and sides.

    Args:
        rows: kept originals; at least one.
        classes: their names; of very many the first that have rows are shown.
        project: where the frames lie.
    """
    by_class: dict[str, list[Row]] = {name: [] for name in classes}
    for row in rows:
        by_class[row.label].append(row)
    return stack([_class_strip(found, project) for found in by_class.values() if found][:CLASSES_SHOWN])


def _class_strip(rows: Sequence[Row], project: Project) -> Sheet:
    ordered = sorted(rows, key=lambda row: (row.group, row.path))
    places = np.linspace(0, len(ordered) - 1, min(FRAMES_OF_CLASS, len(ordered))).round().astype(int)
    cells = [_cell(project, ordered[i], _place(ordered[i]), _CLASS_SIDE) for i in places]
    heading = f"{ordered[0].label}: {len(rows)} frames of {len({row.group for row in rows})} clips or photos"
    return sheet(cells, heading, columns=FRAMES_OF_CLASS, side=_CLASS_SIDE)


def _cell(project: Project, row: Row, title: str, side: int) -> Cell:
    """Already as small as on the sheet: a sheet's worth of whole frames would be 150 MB of 1080p, 600 MB of 4K."""
    return Cell(thumbnail(read_frame(project, row), side), title)


def _place(row: Row) -> str:
    time = "" if row.time_seconds is None else f" {row.time_seconds:.1f} s"
    return f"{row.split} {PurePosixPath(row.source).name}{time}"


def _listed(kept: Judged, classes: Sequence[str], places: NDArray[np.intp]) -> Listed:
    return [
        {
            "path": kept.rows[i].path,
            "label": kept.rows[i].label,
            "predicted": classes[int(kept.probabilities[i].argmax())],
            "confidence": float(kept.probabilities[i].max()),
        }
        for i in places
    ]


def _sheet(
    kept: Judged, places: NDArray[np.intp], titles: Sequence[str], heading: str, project: Project
) -> NDArray[np.uint8]:
    cells = [_cell(project, kept.rows[i], title, _SIDE) for i, title in zip(places, titles, strict=True)]
    blank = Cell(np.full((8, _SIDE, 3), 255, np.uint8), "")
    return sheet(cells or [blank], heading, columns=_COLUMNS, side=_SIDE)
