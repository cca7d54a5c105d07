"""What is in the data, before anybody trains on it: counts, sizes, brightness, and a contact sheet of every class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import replacing_folder, write_json
from pipeline.base.frames import read_frame
from pipeline.base.manifest import SPLITS, Row
from pipeline.base.parallel import each
from pipeline.base.project import Project, safe_join
from pipeline.draw.sheets import Cell, sheet, thumbnail, write_png

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
    name = Path(row.source).name
    title = name if row.time_seconds is None else f"{row.time_seconds:.1f} s {name}"
    return Cell(thumbnail(read_frame(project, row), SIDE), title)


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
    copies = Counter(row.label for row in split if row.is_copy and row.split == "train")
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
    known = {row.path for row in split if not row.is_copy}
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
