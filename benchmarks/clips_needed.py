"""Print how many clips of each class are needed for what: `python benchmarks/clips_needed.py`.

The table is in docs/evaluate.md, and a test compares the two. Every clip is judged once, out of fold, and nine of ten
are right.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the checkout that the benchmark lies in

from export.graphs.params import ParityParams
from pipeline.base.section import read_section
from pipeline.evaluate.intervals import clips_for_width

CLASSES = (2, 5, 10)
WIDTHS = (0.4, 0.2, 0.1)
SHARE_RIGHT = 0.9
FEWEST_CLIPS = 2  # of a class: one in each of two folds
FEWEST_CLIPS_FOR_NONE = 10  # of all classes
RATES_FOR_NONE = (1 / (FEWEST_CLIPS_FOR_NONE + 1), 0.05)  # the first that is offered, and what params.yaml asks for


def main() -> None:
    """Print the table."""
    print("\n".join(table()))


def table() -> list[str]:
    """The lines of a Markdown table: a row for each wish, a column for each number of classes."""
    header = " | ".join(f"{n_classes} classes" for n_classes in CLASSES)
    of_all = {
        f"an interval of all clips of {100 * width:.0f} points": clips_for_width(SHARE_RIGHT, width) for width in WIDTHS
    }
    of_none = {
        f'"none of the classes", at {rate:.0%} false alarms': math.ceil(1 / rate - 1e-9) - 1 for rate in RATES_FOR_NONE
    }
    of_class = {
        f"an interval of each class of {100 * width:.0f} points": clips_for_width(SHARE_RIGHT, width)
        for width in WIDTHS
    }
    photos = {"int8, of photos": _frames_for_int8()}
    rows = [
        *(_row(wish, [math.ceil(clips / n_classes) for n_classes in CLASSES]) for wish, clips in of_all.items()),
        *(_row(wish, [clips] * len(CLASSES)) for wish, clips in of_class.items()),
        *(_row(wish, [math.ceil(clips / n_classes) for n_classes in CLASSES]) for wish, clips in of_none.items()),
        *(_row(wish, [clips] * len(CLASSES)) for wish, clips in photos.items()),
    ]
    return [f"| clips of each class for | {header} |", "|---" * (len(CLASSES) + 1) + "|", *rows]


def _row(wish: str, clips_by_classes: list[int]) -> str:
    return f"| {wish} | {' | '.join(str(max(FEWEST_CLIPS, clips)) for clips in clips_by_classes)} |"


def _frames_for_int8() -> int:
    params = Path(__file__).parent.parent / "params.yaml"
    return read_section(params, "parity", ParityParams).int8.min_class_frames


if __name__ == "__main__":
    main()
