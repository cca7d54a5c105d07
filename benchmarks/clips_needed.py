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
from pipeline.evaluate.intervals import width_of_share

CLASSES = (2, 5, 10)
WIDTHS = (0.4, 0.2, 0.1)
SHARE_RIGHT = 0.9
FEWEST_CLIPS = 2  # of a class: one in each of two folds
MOST_FOLDS = 5  # as many as the rarest class has clips, and no more than these
FEWEST_CLIPS_FOR_NONE = 10  # of all classes
RATES_FOR_NONE = (1 / (FEWEST_CLIPS_FOR_NONE + 1), 0.05)  # the first that is offered, and what params.yaml asks for


def main() -> None:
    """Print the table."""
    print("\n".join(table()))


def table() -> list[str]:
    """The lines of a Markdown table: a row for each wish, a column for each number of classes."""
    rows = {
        **{f"an interval of all clips of {100 * width:.0f} points": _by_classes(width) for width in WIDTHS},
        **{
            f"an interval of each class of {100 * width:.0f} points": [_for_width(width, 1)] * len(CLASSES)
            for width in WIDTHS
        },
        **{f'"none of the classes", at {100 * rate:.0f} % false alarms': _for_rate(rate) for rate in RATES_FOR_NONE},
        "int8, of photos": [_frames_for_int8()] * len(CLASSES),
    }
    header = " | ".join(f"{n_classes} classes" for n_classes in CLASSES)
    return [
        f"| clips of each class for | {header} |",
        "|---" * (len(CLASSES) + 1) + "|",
        *(f"| {wish} | {' | '.join(map(str, clips))} |" for wish, clips in rows.items()),
    ]


def _by_classes(width: float) -> list[int]:
    return [_for_width(width, n_classes) for n_classes in CLASSES]


def _for_width(width: float, n_classes: int) -> int:
    """The clips of each class for an interval over so many classes."""
    n_clips = FEWEST_CLIPS
    while width_of_share(SHARE_RIGHT, n_classes * n_clips, min(MOST_FOLDS, n_clips)) > width:
        n_clips += 1
    return n_clips


def _for_rate(rate: float) -> list[int]:
    """The clips of each class for 1 / (clips + 1) to be no larger than a rate of false alarms."""
    n_clips = math.ceil(1 / rate - 1e-9) - 1
    return [max(FEWEST_CLIPS, math.ceil(n_clips / n_classes)) for n_classes in CLASSES]


def _frames_for_int8() -> int:
    params = Path(__file__).parent.parent / "params.yaml"
    return read_section(params, "parity", ParityParams).int8.min_class_frames


if __name__ == "__main__":
    main()
