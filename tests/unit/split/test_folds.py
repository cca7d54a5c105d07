"""Folds: whole groups, every class inside and outside each fold, and no folds where the numbers forbid them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base.manifest import Row
from pipeline.base.section import read_section
from pipeline.split.folds import Folds, deal_folds, no_folds
from pipeline.split.params import HoldOut, SplitCounts, SplitParams
from tests.support.command import ROOT

DEFAULTS = read_section(ROOT / "params.yaml", "split", SplitParams)
MANY = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def frames_of(sizes: list[list[int]]) -> list[Row]:
    """`sizes` holds the kept frames of each clip of each class; every clip has a frame that screening dropped too."""
    return [
        Row(
            path=f"data/frames/{label}/{clip}/{number}.jpg",
            label=f"class{label}",
            source=f"{label}/{clip}",
            source_sha256=f"{label}/{clip}",
            group=f"{label}/{clip}",
            kept=number < n_frames,
        )
        for label, clips in enumerate(sizes)
        for clip, n_frames in enumerate(clips)
        for number in range(n_frames + 1)
    ]


@MANY
@given(st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=9), min_size=2, max_size=4), st.integers(0, 3))
def test_every_class_is_judged_and_learned_in_as_many_folds_as_its_rarest_has_clips(
    sizes: list[list[int]], seed: int
) -> None:
    folds = deal_folds(frames_of(sizes), DEFAULTS.model_copy(update={"seed": seed}))
    assert folds.n_folds == min(5, *map(len, sizes))
    of_class: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for group, fold in folds.fold_of.items():
        of_class[group.split("/")[0]][fold] += 1
    for counts in of_class.values():
        assert set(counts) == set(range(folds.n_folds))
        assert max(counts.values()) - min(counts.values()) <= 1


@MANY
@given(st.randoms())
def test_the_order_of_the_frames_changes_nothing(random: Any) -> None:
    frames = frames_of([[3, 1, 2, 4], [1, 1, 1], [2, 2, 2, 2, 2]])
    shuffled = random.sample(frames, len(frames))
    assert deal_folds(shuffled, DEFAULTS).fold_of == deal_folds(frames, DEFAULTS).fold_of


def test_a_class_with_one_clip_leaves_no_folds_and_blocks_is_named() -> None:
    folds = deal_folds(frames_of([[3], [1, 1, 1]]), DEFAULTS)
    assert folds.n_folds == 0
    assert folds.reason is not None
    assert "'class0' has one clip" in folds.reason
    assert "split.protocol: blocks" in folds.reason
    assert folds.to_json() == {"folds": None, "folds_reason": folds.reason}


def test_a_clip_without_kept_frames_counts_for_nothing_and_has_a_fold() -> None:
    frames = frames_of([[3, 0, 0], [1, 1, 1]])
    assert deal_folds(frames, DEFAULTS).reason is not None
    frames = frames_of([[3, 1, 0], [1, 1, 1]])
    folds = deal_folds(frames, DEFAULTS)
    assert folds.n_folds == 2
    assert "0/2" in folds.fold_of


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"protocol": "random"}, "split.protocol is random"),
        ({"protocol": "blocks"}, "split.protocol is blocks"),
        ({"protocol": "given"}, "split.protocol is given"),
        ({"folds": 3}, "split.folds says what is held out"),
        ({"counts": SplitCounts(train=1, val=1, test=1)}, "split.counts says what is held out"),
        ({"hold_out": HoldOut(session="monday")}, "split.hold_out says what is held out"),
    ],
)
def test_where_something_else_says_what_is_held_out_there_are_no_folds(changed: dict[str, Any], words: str) -> None:
    folds = deal_folds(frames_of([[1] * 6, [1] * 6]), DEFAULTS.model_copy(update=changed))
    assert folds.fold_of == {}
    assert words in (folds.reason or "")


def test_groups_of_several_classes_never_leave_a_head_without_a_class() -> None:
    frames = frames_of([[1] * 4, [1] * 4])
    # Three groups hold both classes, and each class has one group of its own.
    shared = [replace(row, group=row.group.split("/")[1]) if not row.group.endswith("/3") else row for row in frames]
    folds = deal_folds(shared, DEFAULTS)
    for fold in range(folds.n_folds):
        learned = {row.label for row in shared if row.kept and folds.fold_of[row.group] != fold}
        assert learned == {"class0", "class1"}
    # Where both clips of a class are one group, each fold would lack it or have nothing else of it.
    one_group = [replace(row, group="0") if row.label == "class0" else row for row in frames]
    assert deal_folds(one_group, DEFAULTS).n_folds == 0


def test_the_receipt_counts_the_groups_of_each_fold() -> None:
    assert deal_folds(frames_of([[1] * 5, [1] * 7]), DEFAULTS).to_json() == {
        "folds": {"n_folds": 5, "groups": [3, 3, 2, 2, 2]}
    }


def test_folds_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="contradict"):
        Folds(2, {"a": 2}, None)
    with pytest.raises(ValueError, match="contradict"):
        Folds(0, {}, None)
    assert no_folds("why").reason == "why"
