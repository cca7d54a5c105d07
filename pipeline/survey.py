"""What rows say of a data set: counts by class, clip and side, sizes, brightness, and what deserves a warning."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.base.leakage import is_copy
from pipeline.base.manifest import SPLITS, Row

IMBALANCE = 2.0  # largest class by smallest, from which on it is worth a warning
BRIGHTNESS_BINS = 16  # of 256 levels
CLIPS_SHOWN, SIZES_SHOWN = 40, 10  # as text; the survey itself has them all
_BARS = " ▁▂▃▄▅▆▇█"


def survey(frames: Sequence[Row], split: Sequence[Row]) -> dict[str, Any]:
    """Count; every list and mapping is sorted, so that the same rows give the same survey.

    Args:
        frames: rows of `data/frames.csv`.
        split: rows of `data/split.csv`; empty before the split.

    Returns:
        `classes` (by name: clips, groups, frames that screening kept, frames that it dropped, kept frames of each
        side, copies that are trained on), `clips`, `dropped` (by reason), `resolutions` (kept frames by size),
        `brightness` (by class: kept frames in each 16 levels of mean luma), `warnings`.
    """
    sides = {row.path: row.split for row in split}
    copies = Counter(row.label for row in split if is_copy(row) and row.split == "train")
    by_class = _grouped(frames, lambda row: row.label)
    by_clip = _grouped(frames, lambda row: (row.label, row.source))
    classes = {label: _class_counts(rows, sides) | {"copies": copies[label]} for label, rows in by_class.items()}
    return {
        "classes": classes,
        "clips": [_clip_counts(rows, sides) for rows in by_clip.values()],
        "dropped": dict(sorted(Counter(row.drop_reason for row in frames if not row.kept).items())),
        "resolutions": _resolutions(frames),
        "brightness": {label: _brightness(rows) for label, rows in by_class.items()},
        "warnings": [*_imbalance(classes), *_stale(frames, split)],
    }


def as_lines(value: Mapping[str, Any]) -> list[str]:
    """A survey as text, for a terminal."""
    classes, clips = value["classes"], value["clips"]
    sides = [side for side in SPLITS if any(side in counts["sides"] for counts in classes.values())]
    head = ["class", "clips", "frames", "dropped", *sides, *(["copies"] if sides else [])]
    lines = _table([head, *(_class_cells(label, counts, sides) for label, counts in classes.items())])
    head = ["clip", "class", "frames", "dropped", *(["side"] if sides else [])]
    cells = [[clip[name] for name in ("source", "label", "frames", "dropped")] for clip in clips[:CLIPS_SHOWN]]
    if sides:
        cells = [[*row, ", ".join(clip["sides"])] for row, clip in zip(cells, clips, strict=False)]
    lines += ["", *_table([head, *cells])]
    lines += _more(clips, CLIPS_SHOWN)
    sizes = [[n, size] for size, n in value["resolutions"].items()]
    lines += ["", *_table([["frames", "pixels"], *sizes[:SIZES_SHOWN]]), *_more(sizes, SIZES_SHOWN)]
    bars = [[label, f"|{_bar(counts)}|"] for label, counts in value["brightness"].items()]
    lines += ["", *_table([["class", "brightness, dark to light"], *bars])]
    if value["dropped"]:
        lines += ["", *_table([["dropped", "reason"], *([n, reason] for reason, n in value["dropped"].items())])]
    return [*lines, "", *(f"warning: {warning}" for warning in value["warnings"])]


def _more(rows: Sequence[object], shown: int) -> list[str]:
    return [f"… and {len(rows) - shown} more in dataset.json"] if len(rows) > shown else []


def _grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return {name: groups[name] for name in sorted(groups)}


def _class_counts(rows: Sequence[Row], sides: Mapping[str, str]) -> dict[str, Any]:
    kept = [row for row in rows if row.kept]
    return {
        "clips": len({row.source for row in rows}),
        "groups": len({row.group for row in rows}),
        "frames": len(kept),
        "dropped": len(rows) - len(kept),
        "sides": _by_side(kept, sides),
    }


def _clip_counts(rows: Sequence[Row], sides: Mapping[str, str]) -> dict[str, Any]:
    kept = sum(row.kept for row in rows)
    return {
        "source": rows[0].source,
        "label": rows[0].label,
        "group": rows[0].group,
        "frames": kept,
        "dropped": len(rows) - kept,
        "sides": list(_by_side(rows, sides)),
    }


def _by_side(rows: Sequence[Row], sides: Mapping[str, str]) -> dict[str, int]:
    counts = Counter(sides[row.path] for row in rows if row.path in sides)
    return {side: counts[side] for side in SPLITS if counts[side]}


def _resolutions(frames: Iterable[Row]) -> dict[str, int]:
    counts = Counter((row.width, row.height) for row in frames if row.kept)
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {f"{width} x {height}": n for (width, height), n in by_count}


def _brightness(rows: Iterable[Row]) -> list[int]:
    levels = [row.brightness for row in rows if row.kept and row.brightness is not None]
    counts, _ = np.histogram(levels, bins=BRIGHTNESS_BINS, range=(0, 256))
    return [int(count) for count in counts]


def _imbalance(classes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    ordered = sorted(classes, key=lambda label: classes[label]["frames"])
    few, many = ordered[0], ordered[-1]
    n_few, n_many = classes[few]["frames"], classes[many]["frames"]
    empty = [f"{label}: screening kept no frame; film it again" for label in ordered if not classes[label]["frames"]]
    if empty or n_many < IMBALANCE * n_few:
        return empty
    return [
        f"{many} has {n_many} frames, {few} has {n_few}: {n_many / n_few:.1f} times as many; "
        f"a network may neglect {few}; film more of it, and read the accuracy per class"
    ]


def _stale(frames: Sequence[Row], split: Sequence[Row]) -> list[str]:
    known = {row.path for row in split if not is_copy(row)}
    if not split or known == {row.path for row in frames}:
        return []
    return ["data/split.csv does not have the frames of data/frames.csv; run `pipe split` again"]


def _class_cells(label: str, counts: Mapping[str, Any], sides: Sequence[str]) -> list[Any]:
    by_side = [counts["sides"].get(side, 0) for side in sides]
    return [
        label,
        counts["clips"],
        counts["frames"],
        counts["dropped"],
        *by_side,
        *([counts["copies"]] if sides else []),
    ]


def _bar(counts: Sequence[int]) -> str:
    """Block characters; what is not empty shows at least the lowest."""
    top = max(counts)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // top) if top else 0] for count in counts)


def _table(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Columns as wide as a terminal shows them: a CJK character takes two cells. Numbers stand to the right."""
    from rich.cells import cell_len

    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(cell_len(text) for text in column) for column in zip(*texts, strict=True)]
    lines = []
    for row, cells in zip(texts, rows, strict=True):
        padding = [" " * (width - cell_len(text)) for width, text in zip(widths, row, strict=True)]
        joined = [
            gap + text if isinstance(cell, int) else text + gap
            for gap, text, cell in zip(padding, row, cells, strict=True)
        ]
        lines.append("  ".join(joined).rstrip())
    return lines
