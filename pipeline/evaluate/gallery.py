"""The pictures of an evaluation in `reports/plots/`, and `pictures.json`, which lists the frames that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from pipeline.evaluate.dvc_tables import Tables, curve_rows, read_curves, write_tables
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.predictions import Predictions
from pipeline.evaluate.projection import SEED, to_plane

PICTURES_JSON = "pictures.json"
SHOWN = 24  # mistakes, and least sure frames
CLASSES_SHOWN = 40
FRAMES_OF_CLASS = 6
_COLUMNS, _SIDE = 4, 240  # pixels
_CLASS_SIDE = 160  # pixels

Sheet = NDArray[np.uint8]  # (height, width, 3) RGB


@dataclass(frozen=True)
class GalleryContents:
    """The numbers and frames that the pictures show."""

    evaluation: Evaluation
    tables: Tables
    kept: Predictions  # for the held-out frames that screening kept
    originals: Sequence[Row]  # the kept frames of all sides, without augmented copies
    features: Predictions  # for a sample of the originals
    training: Predictions  # for a few random frames that the network learned from


@dataclass(frozen=True)
class ShownFrame:
    """A frame on a sheet, as `pictures.json` lists it."""

    path: str
    label: str
    predicted: str
    confidence: float

    @property
    def title(self) -> str:
        """The confidence, the predicted class, and in brackets the true one."""
        return f"{self.confidence:.0%} {self.predicted} ({self.label})"

    def to_json(self) -> dict[str, Any]:
        """The values by the names of the fields."""
        return asdict(self)


def draw_gallery(contents: GalleryContents, n_montage: int, folder: Path, project: Project) -> None:
    """Draw every picture, and write `curves.csv` and `pictures.json`.

    The same contents and installed fonts give the same bytes.

    Args:
        contents: what the pictures show.
        n_montage: frames on the sheet of random frames, at most.
        folder: where the pictures go.
        project: where the frames and the curves of the training lie.

    Raises:
        DataError: a frame is missing or broken.
    """
    classes = contents.evaluation.classes
    _draw_charts(contents, folder)
    curves = read_curves(project.train_reports / "plots" / "metrics")
    if curves:
        charts.draw_curves(curves, folder / "curves.png")
        write_tables({"curves": curve_rows(curves)}, folder)
    listing = {"font": missing_font(classes), "features": _draw_features(contents, folder)}
    write_jpeg(classes_sheet(contents.originals, classes, project), folder / "classes.jpg")
    listing |= _draw_sheets(contents, n_montage, folder, project)
    write_json(folder / PICTURES_JSON, listing)


def _draw_charts(contents: GalleryContents, folder: Path) -> None:
    evaluation, tables = contents.evaluation, contents.tables
    charts.draw_confusion(
        evaluation.classes, evaluation.confusion, evaluation.confusion_normalised, folder / "confusion.png"
    )
    charts.draw_rankings(tables["roc"], tables["precision_recall"], folder / "roc.png")
    charts.draw_reliability(tables["reliability"], folder / "reliability.png")
    charts.draw_classes(evaluation.per_class, folder / "per_class.png")


def _draw_features(contents: GalleryContents, folder: Path) -> dict[str, Any]:
    sample = contents.features
    projection = to_plane(sample.embeddings.array())
    labels, sides = [row.label for row in sample.rows], [row.split for row in sample.rows]
    charts.draw_features(projection, labels, sides, folder / "features.png")
    return {
        "n_frames": len(sample.rows),
        "n_frames_of": len(contents.originals),
        "seed": SEED,
        "pca_shares": list(projection.pca_shares),
        "perplexity": projection.perplexity,
    }


def _draw_sheets(contents: GalleryContents, n_montage: int, folder: Path, project: Project) -> dict[str, Any]:
    kept, classes = contents.kept, contents.evaluation.classes
    of_training = "training frames, which the network knows"
    sheets = {
        "montage": montage(kept, classes, n_montage, project),
        "montage_training": montage(contents.training, classes, n_montage, project, kind=of_training),
        "mistakes": mistakes(kept, classes, project),
        "least_sure": least_sure(kept, classes, project),
    }
    for name, (sheet_hwc, _) in sheets.items():
        write_jpeg(sheet_hwc, folder / f"{name}.jpg")
    listed = {name: [frame.to_json() for frame in frames] for name, (_, frames) in sheets.items()}
    n_mistakes = int((kept.predicted != kept.truth).sum())
    return {"montage": listed.pop("montage"), "n_mistakes": n_mistakes, **listed}


def montage(
    kept: Predictions, classes: Sequence[str], n: int, project: Project, *, kind: str = "held-out frames"
) -> tuple[Sheet, list[ShownFrame]]:
    """Draw frames at random, the same ones every time, titled `predicted (true)` (study 003).

    Args:
        kept: the frames to draw from, with their predictions.
        classes: the names of the classes, by their numbers.
        n: frames, at most.
        project: where the frames lie.
        kind: what the frames are, for the heading.

    Returns:
        The sheet, and its frames in reading order.
    """
    positions = np.random.default_rng(0).choice(len(kept.rows), min(n, len(kept.rows)), replace=False)
    frames = _shown(kept, classes, positions)
    titles = [f"{frame.predicted} ({frame.label})" for frame in frames]
    heading = f"{len(frames)} random {kind}: predicted (true)"
    return _sheet(kept, positions, titles, heading, project), frames


def mistakes(kept: Predictions, classes: Sequence[str], project: Project) -> tuple[Sheet, list[ShownFrame]]:
    """Draw the frames that the network calls wrong, the most confident first.

    Args:
        kept: the frames to look in, with their predictions.
        classes: the names of the classes, by their numbers.
        project: where the frames lie.

    Returns:
        The sheet, and its frames in reading order.
    """
    wrong = np.flatnonzero(kept.predicted != kept.truth)
    worst = wrong[np.argsort(-kept.probabilities.max(axis=1)[wrong], kind="stable")][:SHOWN]
    frames = _shown(kept, classes, worst)
    heading = f"{len(worst)} of {len(wrong)} mistakes: confidence predicted (true)" if len(wrong) else "no mistakes"
    return _sheet(kept, worst, [frame.title for frame in frames], heading, project), frames


def least_sure(kept: Predictions, classes: Sequence[str], project: Project) -> tuple[Sheet, list[ShownFrame]]:
    """Draw the frames whose likeliest class has the lowest probability, right or wrong, the least sure first.

    Args:
        kept: the frames to look in, with their predictions.
        classes: the names of the classes, by their numbers.
        project: where the frames lie.

    Returns:
        The sheet, and its frames in reading order.
    """
    order = np.argsort(kept.probabilities.max(axis=1), kind="stable")[:SHOWN]
    frames = _shown(kept, classes, order)
    heading = f"the {len(frames)} least sure: confidence predicted (true)"
    return _sheet(kept, order, [frame.title for frame in frames], heading, project), frames


def classes_sheet(rows: Sequence[Row], classes: Sequence[str], project: Project) -> Sheet:
    """Draw a row of frames for every class, spread over its clips and sides.

    Args:
        rows: kept originals; at least one.
        classes: the names of the classes; of very many the first that have rows are drawn.
        project: where the frames lie.
    """
    by_class: dict[str, list[Row]] = {name: [] for name in classes}
    for row in rows:
        by_class[row.label].append(row)
    return stack([_class_strip(of_class, project) for of_class in by_class.values() if of_class][:CLASSES_SHOWN])


def _class_strip(rows: Sequence[Row], project: Project) -> Sheet:
    ordered = sorted(rows, key=lambda row: (row.group, row.path))
    positions = np.linspace(0, len(ordered) - 1, min(FRAMES_OF_CLASS, len(ordered))).round().astype(int)
    cells = [_cell(project, ordered[i], _origin(ordered[i]), _CLASS_SIDE) for i in positions]
    heading = f"{ordered[0].label}: {len(rows)} frames of {len({row.group for row in rows})} clips or photos"
    return sheet(cells, heading, columns=FRAMES_OF_CLASS, side=_CLASS_SIDE)


def _origin(row: Row) -> str:
    """The side of a frame, the name of its clip or photo, and its time."""
    time = "" if row.time_seconds is None else f" {row.time_seconds:.1f} s"
    return f"{row.split} {PurePosixPath(row.source).name}{time}"


def _shown(kept: Predictions, classes: Sequence[str], positions: NDArray[np.intp]) -> list[ShownFrame]:
    return [
        ShownFrame(
            path=kept.rows[i].path,
            label=kept.rows[i].label,
            predicted=classes[int(kept.probabilities[i].argmax())],
            confidence=float(kept.probabilities[i].max()),
        )
        for i in positions
    ]


def _cell(project: Project, row: Row, title: str, side: int) -> Cell:
    # Reduced at once: a sheet's worth of whole frames would be 150 MB of 1080p, 600 MB of 4K.
    return Cell(thumbnail(read_frame(project, row), side), title)


def _sheet(
    kept: Predictions, positions: NDArray[np.intp], titles: Sequence[str], heading: str, project: Project
) -> Sheet:
    cells = [_cell(project, kept.rows[i], title, _SIDE) for i, title in zip(positions, titles, strict=True)]
    return sheet(cells, heading, columns=_COLUMNS, side=_SIDE)
