"""The pictures of an evaluation in `reports/plots/`, and `pictures.json`, which says what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import evaluation_charts, frame_sheets
from pipeline.base.files import write_json
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.draw.charts import missing_font
from pipeline.draw.sheets import write_jpeg
from pipeline.judging import Judged
from pipeline.plot_tables import Tables, curve_rows, write_tables
from pipeline.projection import SEED, projected

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
    curves = evaluation_charts.read_curves(project.train_reports / "plots" / "metrics")
    if curves:
        evaluation_charts.draw_curves(curves, folder / "curves.png")
        write_tables({"curves": curve_rows(curves)}, folder)
    said = {"font": missing_font(classes), "features": _draw_features(exhibits, folder)}
    write_json(folder / PICTURES_JSON, said | _draw_sheets(exhibits, classes, n_montage, folder, project))


def _draw_charts(exhibits: Exhibits, folder: Path) -> None:
    numbers, tables = exhibits.numbers, exhibits.tables
    evaluation_charts.draw_confusion(
        numbers["classes"], numbers["confusion"], numbers["confusion_normalised"], folder / "confusion.png"
    )
    evaluation_charts.draw_rankings(tables["roc"], tables["precision_recall"], folder / "roc.png")
    evaluation_charts.draw_reliability(tables["reliability"], folder / "reliability.png")
    evaluation_charts.draw_classes(numbers["per_class"], folder / "per_class.png")


def _draw_features(exhibits: Exhibits, folder: Path) -> dict[str, Any]:
    sample = exhibits.features
    found = projected(sample.embeddings)
    labels, sides = [row.label for row in sample.rows], [row.split for row in sample.rows]
    evaluation_charts.draw_features(found, labels, sides, folder / "features.png")
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
    of_classes = frame_sheets.classes_sheet(exhibits.originals, classes, project)
    random, shown = frame_sheets.montage(kept, classes, n_montage, project)
    wrong, worst, n_wrong = frame_sheets.mistakes(kept, classes, project)
    unsure, least = frame_sheets.least_sure(kept, classes, project)
    for name, sheet in {"classes": of_classes, "montage": random, "mistakes": wrong, "least_sure": unsure}.items():
        write_jpeg(sheet, folder / f"{name}.jpg")
    return {"montage": shown, "n_mistakes": n_wrong, "mistakes": worst, "least_sure": least}
