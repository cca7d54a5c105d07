"""The flips, frames on which a variant answers differently from torch: a list with both margins, and a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.graphs.gates import Logits, margins
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.storage.csv_files import write_csv
from pipeline.draw.sheets import Cell, sheet, write_png

SHOWN = 24  # flips on the sheet, of all variants together: those of which torch was surest
_COLUMNS, _SIDE = 3, 320  # pixels


@dataclass(frozen=True)
class Flip:
    """One frame that a variant calls something else than torch does."""

    row: Row
    variant: str
    torch: str  # torch's answer
    graph: str  # the variant's
    torch_margin: float  # by how much the best logit leads the second
    graph_margin: float


def flips_of(
    rows: Sequence[Row], torch_logits: Logits, graph_logits: Mapping[str, Logits], classes: Sequence[str]
) -> list[Flip]:
    """List every flip, by variant and then in the order of the rows.

    Args:
        rows: the n frames.
        torch_logits: (n, classes).
        graph_logits: of each variant, by its name, (n, classes).
        classes: names in the order of the logits.
    """
    from_torch, torch_margins = torch_logits.argmax(axis=1), margins(torch_logits)
    flips = []
    for name, logits in graph_logits.items():
        from_graph, graph_margins = logits.argmax(axis=1), margins(logits)
        for i in map(int, np.flatnonzero(from_graph != from_torch)):
            answers = classes[from_torch[i]], classes[from_graph[i]]
            flips.append(Flip(rows[i], name, *answers, float(torch_margins[i]), float(graph_margins[i])))
    return flips


def write_flips(flips: Sequence[Flip], project: Project) -> None:
    """Write `reports/flips.csv` and `reports/flips.png`; the sheet says so where nothing flips.

    Raises:
        DataError: a frame is missing or broken.
    """
    lines = [["path", "label", "variant", "torch", "graph", "torch_margin", "graph_margin"]]
    for flip in flips:
        both_margins = (f"{flip.torch_margin:.6f}", f"{flip.graph_margin:.6f}")
        lines.append([flip.row.path, flip.row.label, flip.variant, flip.torch, flip.graph, *both_margins])
    write_csv(project.flips_csv, lines)
    _write_sheet(flips, project)


def _write_sheet(flips: Sequence[Flip], project: Project) -> None:
    shown = sorted(flips, key=lambda flip: -flip.torch_margin)[:SHOWN]
    heading = f"{len(shown)} of {len(flips)} flips: torch's answer and margin > the variant's" if flips else "no flips"
    cells = [_cell(flip, project) for flip in shown]
    write_png(sheet(cells, heading, columns=_COLUMNS, side=_SIDE), project.flips_png)


def _cell(flip: Flip, project: Project) -> Cell:
    torch, graph = f"{flip.torch} {flip.torch_margin:.2g}", f"{flip.graph} {flip.graph_margin:.2g}"
    return Cell(read_frame(project, flip.row), f"{flip.variant}: {torch} > {graph}")
