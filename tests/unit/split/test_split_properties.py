"""Laws of the split on thousands of generated data sets, and for each law a planted fault that breaks it."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base.errors import LeakageError
from pipeline.base.leakage import refuse_leaks
from pipeline.base.manifest import Row
from pipeline.base.section import read_section
from pipeline.split.params import SplitParams
from pipeline.split.protocols import assign_sides, shares_of_ratio
from tests.support.command import ROOT
from tests.support.small_project import without_search

DEFAULTS = without_search(read_section(ROOT / "params.yaml", "split", SplitParams))
FRAMES_CSV = Path("data/frames.csv")
MANY = settings(deadline=None, max_examples=350, suppress_health_check=list(HealthCheck))
Assign = Callable[[Sequence[Row], Sequence[Row], SplitParams, Mapping[str, str], Path], dict[str, str]]


@dataclass(frozen=True)
class DataSet:
    """A generated data set, and how to split it."""

    frames: list[Row]
    copies: list[Row]
    params: SplitParams
    pins: dict[str, str]


def data_set(sizes: list[list[int]], n_copies: int, params: SplitParams, pins: dict[str, str]) -> DataSet:
    """`sizes` holds the frames of each clip of each class; some frames are screened out."""
    frames = [
        Row(
            path=f"data/frames/{label}/{clip}/{number}.jpg",
            label=f"class{label}",
            source=f"{label}/{clip}",
            source_sha256=f"{label}/{clip}",
            group=f"{label}/{clip}",
            time_seconds=float(number),
            kept=number == 0 or (number + clip) % 4 > 0,
        )
        for label, clips in enumerate(sizes)
        for clip, n_frames in enumerate(clips)
        for number in range(n_frames)
    ]
    copies = [
        replace(frame, path=f"{frame.path}.{copy}.jpg", parent=frame.path, transform="rotate_90")
        for frame in frames
        if frame.kept
        for copy in range(n_copies)
    ]
    return DataSet(frames, copies, params, pins)


def some_data_set() -> DataSet:
    """Big enough for every fault to show; pinned against what would be drawn."""
    data = data_set([[9, 1, 5, 2, 7, 3, 4, 6, 8, 2]] * 3, 2, DEFAULTS, {})
    side_of = assign_sides(data.frames, [], DEFAULTS, {}, FRAMES_CSV)
    drawn = {row.group: side_of[row.path] for row in data.frames}
    moved = next(group for group, side in drawn.items() if side == "train")
    return replace(data, pins={moved: "test"})


@st.composite
def data_sets(draw: st.DrawFn) -> DataSet:
    """Two or three classes of three to nine clips of unlike length."""
    sizes = draw(st.lists(st.lists(st.integers(1, 5), min_size=3, max_size=9), min_size=2, max_size=3))
    changes = {
        "ratio": draw(st.sampled_from(["8:2", "9:1", "1:1", "0.7:0.3"])),
        "val": draw(st.sampled_from([None, 0.1, 0.2, 0.5])),
        "rounding": draw(st.sampled_from(["nearest", "down"])),
        "seed": draw(st.integers(0, 3)),
    }
    params = DEFAULTS.model_copy(update=changes)
    return data_set(sizes, draw(st.integers(0, 2)), params, _some_pins(sizes, params, draw))


def _some_pins(sizes: list[list[int]], params: SplitParams, draw: st.DrawFn) -> dict[str, str]:
    """Sides for clips beyond the third of a class, so that every side can still be filled."""
    sides = list(shares_of_ratio(params))
    groups = [f"{label}/{clip}" for label, clips in enumerate(sizes) for clip in range(3, len(clips))]
    return draw(st.dictionaries(st.sampled_from(groups), st.sampled_from(sides))) if groups else {}


def sided(data: DataSet, assign: Assign) -> list[Row]:
    side_of = assign(data.frames, data.copies, data.params, data.pins, FRAMES_CSV)
    return [row.placed(row.group, side_of[row.path]) for row in [*data.frames, *data.copies]]


def check_no_group_is_on_two_sides(data: DataSet, assign: Assign) -> None:
    rows = sided(data, assign)
    sides = defaultdict(set)
    for row in rows:
        if row.split != "unused":
            sides[row.group].add(row.split)
    assert all(len(sides_of_group) == 1 for sides_of_group in sides.values())
    refuse_leaks(rows)


def check_shares_are_within_one_group(data: DataSet, assign: Assign) -> None:
    """Nearest rounding without pins; a side's least group may be taken from the others."""
    free = replace(data, params=data.params.model_copy(update={"rounding": "nearest"}), pins={})
    shares = shares_of_ratio(free.params)
    groups = {(row.label, row.group, row.split) for row in sided(free, assign) if not row.parent}
    counts = Counter((label, side) for label, _, side in groups)
    for label, n_groups in Counter(label for label, _, _ in groups).items():
        ideal = {side: n_groups * float(share) for side, share in shares.items()}
        forced = sum(1 for groups in ideal.values() if groups < 1)
        for side in shares:
            assert counts[label, side] >= 1
            assert abs(counts[label, side] - ideal[side]) < 1 + forced


def check_the_rows_order_does_not_matter(data: DataSet, assign: Assign) -> None:
    again = DataSet(list(data.frames), list(data.copies), data.params, dict(reversed(data.pins.items())))
    shuffle = random.Random(len(data.frames))
    shuffle.shuffle(again.frames)
    shuffle.shuffle(again.copies)
    assert {row.path: row.split for row in sided(again, assign)} == {row.path: row.split for row in sided(data, assign)}


def check_pinned_groups_stay(data: DataSet, assign: Assign) -> None:
    rows = sided(data, assign)
    assert all(row.split == data.pins[row.group] for row in rows if row.group in data.pins and not row.parent)
    frozen = {row.group: row.split for row in rows if not row.parent}
    bigger = [replace(row, path=f"new/{row.path}", group=f"new/{row.group}", source_sha256="") for row in data.frames]
    grown = DataSet([*data.frames, *bigger], [], data.params, frozen)
    assert all(row.split == frozen[row.group] for row in sided(grown, assign) if row.group in frozen)


def check_copies_follow_their_parents(data: DataSet, assign: Assign) -> None:
    rows = sided(data, assign)
    side = {row.path: row.split for row in rows if not row.parent}
    for row in rows:
        if row.parent:
            assert row.split == ("train" if side[row.parent] == "train" else "unused")


def check_every_frame_is_held_out_in_one_fold(data: DataSet, assign: Assign) -> None:
    held_out: Counter[str] = Counter()
    for fold in range(3):
        folded = replace(data, params=data.params.model_copy(update={"folds": 3, "fold": fold}), pins={})
        held_out.update(row.path for row in sided(folded, assign) if row.split == "test")
    assert held_out == Counter(row.path for row in data.frames)


Pins = Mapping[str, str]


def moved_frame(
    frames: Sequence[Row], copies: Sequence[Row], params: SplitParams, pins: Pins, frames_csv: Path
) -> dict[str, str]:
    """One frame of a clip is not where the others are."""
    side_of = assign_sides(frames, copies, params, pins, frames_csv)
    moved = next(row.path for row in frames if row.path.endswith("/1.jpg"))
    return side_of | {moved: "test" if side_of[moved] == "train" else "train"}


def lopsided(
    frames: Sequence[Row], copies: Sequence[Row], params: SplitParams, pins: Pins, frames_csv: Path
) -> dict[str, str]:
    """Two clips of a class train instead of being tested on."""
    side_of = assign_sides(frames, copies, params, pins, frames_csv)
    moved = sorted({row.group for row in frames if row.label == "class0" and side_of[row.path] == "test"})[:2]
    return side_of | {row.path: "train" for row in frames if row.group in moved}


def by_position(
    frames: Sequence[Row], copies: Sequence[Row], params: SplitParams, pins: Pins, frames_csv: Path
) -> dict[str, str]:
    """The side depends on the position of a clip's first row."""
    groups = list(dict.fromkeys(row.group for row in frames))
    side_of_group = {group: ("train", "test")[number % 2] for number, group in enumerate(groups)}
    return {row.path: side_of_group[row.group] for row in [*frames, *copies]}


def forgetful(
    frames: Sequence[Row], copies: Sequence[Row], params: SplitParams, pins: Pins, frames_csv: Path
) -> dict[str, str]:
    """Pins are ignored."""
    return assign_sides(frames, copies, params, {}, frames_csv)


def careless_copies(
    frames: Sequence[Row], copies: Sequence[Row], params: SplitParams, pins: Pins, frames_csv: Path
) -> dict[str, str]:
    """All copies train, whatever their parent does."""
    return assign_sides(frames, copies, params, pins, frames_csv) | {row.path: "train" for row in copies}


def same_fold(
    frames: Sequence[Row], copies: Sequence[Row], params: SplitParams, pins: Pins, frames_csv: Path
) -> dict[str, str]:
    """The first fold is held out whatever fold is asked for."""
    return assign_sides(frames, copies, params.model_copy(update={"fold": 0}), pins, frames_csv)


LAWS: dict[Callable[[DataSet, Assign], None], Assign] = {
    check_no_group_is_on_two_sides: moved_frame,
    check_shares_are_within_one_group: lopsided,
    check_the_rows_order_does_not_matter: by_position,
    check_pinned_groups_stay: forgetful,
    check_copies_follow_their_parents: careless_copies,
    check_every_frame_is_held_out_in_one_fold: same_fold,
}
by_name = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("check_"))


@by_name
@MANY
@given(data=data_sets())
def test_whatever_the_data_the_law_holds(law: Callable[[DataSet, Assign], None], data: DataSet) -> None:
    assert law(data, assign_sides) is None  # does not raise


@by_name
def test_a_planted_fault_breaks_the_law(law: Callable[[DataSet, Assign], None]) -> None:
    data = some_data_set()
    law(data, assign_sides)
    with pytest.raises((AssertionError, LeakageError)):
        law(data, LAWS[law])
