"""What the data set holds, before you train on it: counts, sizes, brightness, and a contact sheet of every class."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import replacing_folder, write_json
from pipeline.base.frames import read_frame
from pipeline.base.manifest import SPLITS, Row
from pipeline.base.parallel import each
from pipeline.base.project import Project, safe_join
from pipeline.base.words import counted
from pipeline.draw.sheets import Cell, sheet, thumbnail, write_png
from pipeline.split.joined import JoinedGroup, joined_groups

FRAMES_ON_A_SHEET = 24
COLUMNS = 6
SIDE = 200  # pixels of a picture on a sheet
JSON, TEXT, SHEETS = "dataset.json", "dataset.txt", "classes"  # what the command writes into its folder
IMBALANCE = 2.0  # ratio of the largest to the smallest class that is worth a warning
BRIGHTNESS_BINS = 16  # of 256 levels
CLIPS_SHOWN, SIZES_SHOWN, JOINED_SHOWN = 40, 10, 40  # in the text; dataset.json has them all
_BARS = " ▁▂▃▄▅▆▇█"
_NO_WRAP = 1_000_000  # cells: wider than any table


@dataclass(frozen=True)
class DatasetReport:
    """What `dataset` counted and drew."""

    lines: tuple[str, ...]  # the text for the terminal, as in dataset.txt
    n_frames: int  # those that screening kept
    n_classes: int
    n_warnings: int
    folder: str

    @property
    def headline(self) -> str:
        """The closing line: the counts, and the folder of the sheets."""
        frames = f"{counted(self.n_frames, 'frame')} of {counted(self.n_classes, 'class', 'classes')}"
        return f"{frames}, {counted(self.n_warnings, 'warning')}; contact sheets in {self.folder}"


def dataset(project: Project, out: Path | None = None) -> DatasetReport:
    """Count the frames and draw a contact sheet of every class.

    Reads `data/frames.csv`, `data/split.csv` where it exists, and the frames to draw. Writes `dataset.txt`,
    `dataset.json` and `classes/<class>.png` into `out`, or into `reports/dataset/`.

    Raises:
        DataError: a manifest is missing or broken, a frame cannot be read, or `out` holds other files.
    """
    folder = project.dataset_reports if out is None else out
    _refuse_other_folder(folder)
    frames = manifest.read(project.frames_csv)
    split = manifest.read_split(project.split_csv) if project.split_csv.is_file() else []
    statistics = dataset_statistics(frames, split)
    lines = statistics_as_text(statistics)
    with replacing_folder(folder) as temporary:
        write_json(temporary / JSON, statistics)
        (temporary / TEXT).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        for label in statistics["classes"]:
            _draw_class(label, [row for row in frames if row.label == label and row.kept], project, temporary)
    n_frames = sum(counts["frames"] for counts in statistics["classes"].values())
    shown_folder = project.relative(folder) if out is None else str(out)
    return DatasetReport(tuple(lines), n_frames, len(statistics["classes"]), len(statistics["warnings"]), shown_folder)


def _refuse_other_folder(folder: Path) -> None:
    """Refuse a folder with files that this command did not write, since the folder is replaced as a whole."""
    if not folder.exists():
        return
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    has_ours = (folder / JSON).is_file()
    foreign = [name for name in names if not (has_ours and _is_ours(name))]
    if foreign or not folder.is_dir():
        problem = f"holds {foreign[0]}" if foreign else "is a file"
        raise DataError(f"{folder}: {problem}; expected a new folder, or one that `pipe dataset` made")


def _is_ours(name: Path) -> bool:
    return name.as_posix() in (JSON, TEXT) or (name.parent.as_posix() == SHEETS and name.suffix == ".png")


def _draw_class(label: str, rows: Sequence[Row], project: Project, folder: Path) -> None:
    if not rows:
        return
    positions = np.unique(np.linspace(0, len(rows) - 1, FRAMES_ON_A_SHEET).round().astype(int))
    cells = list(each(partial(_cell, project), [rows[position] for position in positions], label))
    heading = f"{label}: {len(cells)} of {len(rows)} frames"
    write_png(sheet(cells, heading, columns=COLUMNS, side=SIDE), safe_join(folder, f"{SHEETS}/{label}.png"))


def _cell(project: Project, row: Row) -> Cell:
    name = Path(row.source).name
    title = name if row.time_seconds is None else f"{row.time_seconds:.1f} s {name}"
    return Cell(thumbnail(read_frame(project, row), SIDE), title)


def dataset_statistics(frames: Sequence[Row], split: Sequence[Row]) -> dict[str, Any]:
    """Count frames by class, clip, side, size and brightness. Every list and mapping is sorted.

    Args:
        frames: rows of `data/frames.csv`.
        split: rows of `data/split.csv`; empty before the split.

    Returns:
        `classes` (by name: clips, groups, frames that screening kept, frames that it dropped, kept frames of each
        side, copies for training), `clips`, `dropped` (by reason), `resolutions` (kept frames by size), `brightness`
        (by class: kept frames in each bin of 16 levels of mean luma), `joined` (groups of several recordings, and why),
        `warnings`.
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
        "joined": [_joined(group) for group in joined_groups(split)],
        "warnings": [*_imbalance(classes), *_stale(frames, split)],
    }


def statistics_as_text(statistics: Mapping[str, Any]) -> list[str]:
    """The statistics as lines for a terminal."""
    classes, clips = statistics["classes"], statistics["clips"]
    sides = [side for side in SPLITS if any(side in counts["sides"] for counts in classes.values())]
    head = ["class", "clips", "frames", "dropped", *sides, *(["copies"] if sides else [])]
    lines = _table([head, *(_class_cells(label, counts, sides) for label, counts in classes.items())])
    head = ["clip", "class", "frames", "dropped", *(["side"] if sides else [])]
    cells = [[clip[name] for name in ("source", "label", "frames", "dropped")] for clip in clips[:CLIPS_SHOWN]]
    if sides:
        cells = [[*row, ", ".join(clip["sides"])] for row, clip in zip(cells, clips, strict=False)]
    lines += ["", *_table([head, *cells])]
    lines += _more(clips, CLIPS_SHOWN)
    sizes = [[n, size] for size, n in statistics["resolutions"].items()]
    lines += ["", *_table([["frames", "pixels"], *sizes[:SIZES_SHOWN]]), *_more(sizes, SIZES_SHOWN)]
    bars = [[label, f"|{_bar(counts)}|"] for label, counts in statistics["brightness"].items()]
    lines += ["", *_table([["class", "brightness, dark to light"], *bars])]
    if statistics["dropped"]:
        lines += ["", *_table([["dropped", "reason"], *([n, reason] for reason, n in statistics["dropped"].items())])]
    lines += _joined_as_text(statistics["joined"])
    return [*lines, "", *(f"warning: {warning}" for warning in statistics["warnings"])]


def _joined(group: JoinedGroup) -> dict[str, Any]:
    return {"group": group.name, "label": group.label, "reason": group.reason, "sources": list(group.sources)}


def _joined_as_text(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The groups of several recordings, why they are one, and how to say no."""
    if not groups:
        return []
    cells = [[len(group["sources"]), group["group"], group["reason"]] for group in groups[:JOINED_SHOWN]]
    how = "to take a recording out, give it a group of its own in data/groups.csv; dataset.json lists the recordings"
    return ["", *_table([["joined", "group", "because"], *cells]), *_more(groups, JOINED_SHOWN), how]


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
    """One block character a bin; a bin that is not empty shows at least the lowest block."""
    top = max(counts)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // top) if top else 0] for count in counts)


def _table(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lay rows out in columns, integers to the right; a CJK character takes two cells of the terminal."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for cell in rows[-1]:
        table.add_column(justify="right" if isinstance(cell, int) else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # Text, since a string could hold markup
    drawn = io.StringIO()
    Console(file=drawn, width=_NO_WRAP, color_system=None).print(table)
    return [line.rstrip() for line in drawn.getvalue().splitlines()]
