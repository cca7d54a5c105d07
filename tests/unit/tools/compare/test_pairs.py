"""Rows of a comparison are paired clip by clip: many frames of one clip are one piece of evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from pipeline.base.project import Project
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.compare import compare_all
from pipeline.tools.compare.pairs import RunPair, holm, pair_rows
from pipeline.tools.studies.dvc_experiments import list_experiments
from tests.support.experiment_project import plant_experiment

HEADER = "path,group,label,predicted,confidence,kept,logit_a,logit_b"


def predictions(right: Mapping[str, str], kept: str = "true") -> list[str]:
    """Lines of `predictions.csv` from a letter per frame of each clip: `+` for a right answer."""
    return [
        f"{clip}_{number}.jpg,{clip},a,{'a' if letter == '+' else 'b'},0.9,{kept},1.0,0.0"
        for clip, letters in right.items()
        for number, letter in enumerate(letters)
    ]


def plant(project: Project, name: str, lines: Sequence[str] | None, seed: int = 0, estimate: str = "holdout") -> None:
    values = {"n_frames": 4, "n_groups": 2, "top1": 0.5, "estimate": estimate}
    reports = {"reports/evaluate.json": json.dumps(values)}
    if lines is not None:
        reports["reports/predictions.csv"] = "\n".join([HEADER, *lines]) + "\n"
    plant_experiment(project, name, reports, seed=seed)


def compared(project: Project, **rows: Sequence[str]) -> tuple[list[RunPair], list[str]]:
    """The pairs of rows, each with the names of its experiments."""
    experiments = list_experiments(project)
    return pair_rows({row: [StudyRun(experiments[name]) for name in names] for row, names in rows.items()})


def test_a_clip_counts_once_however_many_frames_it_has(project: Project) -> None:
    plant(project, "first", predictions({"long": "-" * 40, "other": "+", "same": "+-"}))
    plant(project, "second", predictions({"long": "+" * 40, "other": "-", "same": "-+"}))
    (pair,), notes = compared(project, A=["first"], B=["second"])
    assert (pair.row, pair.against, pair.n_clips, pair.better, pair.worse, pair.p) == ("B", "A", 3, 1, 1, 1.0)
    assert pair.top1_difference == pytest.approx(39 / 43)
    assert pair.interval is None
    assert not notes


def test_p_is_that_of_an_exact_sign_test_over_the_clips_that_differ(project: Project) -> None:
    clips = [f"clip{number:02}" for number in range(40)]
    plant(project, "first", predictions({clip: "-" if number < 9 else "+" for number, clip in enumerate(clips)}))
    plant(
        project, "second", predictions({clip: "-" if number in (20, 21) else "+" for number, clip in enumerate(clips)})
    )
    (pair,), _ = compared(project, A=["first"], B=["second"])
    assert (pair.better, pair.worse) == (9, 2)
    assert pair.p == pytest.approx(stats.binomtest(9, 11).pvalue)
    assert pair.interval is not None
    assert pair.top1_difference == pytest.approx(7 / 40)
    assert pair.interval[0] < pair.top1_difference < pair.interval[1]


def test_rows_that_answer_alike_differ_by_nothing_but_the_interval_is_no_point(project: Project) -> None:
    lines = predictions({f"clip{number:02}": "+" for number in range(30)})
    plant(project, "first", lines)
    plant(project, "second", lines)
    (pair,), _ = compared(project, A=["first"], B=["second"])
    assert (pair.better, pair.worse, pair.p, pair.top1_difference) == (0, 0, 1.0, 0.0)
    assert pair.interval is not None
    assert pair.interval[0] < 0 < pair.interval[1]


def test_the_seeds_of_a_row_are_taken_together(project: Project) -> None:
    plant(project, "first", predictions({"a": "++", "b": "+-"}))
    plant(project, "second-s0", predictions({"a": "+-", "b": "++"}), seed=0)
    plant(project, "second-s1", predictions({"a": "++", "b": "--"}), seed=1)
    (pair,), _ = compared(project, A=["first"], B=["second-s0", "second-s1"])
    assert (pair.better, pair.worse) == (0, 1)  # of b one of two frames, half the time both and half the time none
    assert pair.top1_difference == pytest.approx(-0.5 / 4)


@pytest.mark.parametrize("letter", ["\u2028", "\u0085", "\x0c"])
def test_a_clip_counts_though_its_name_has_a_letter_that_python_ends_lines_at(project: Project, letter: str) -> None:
    plant(project, "first", predictions({f"od{letter}d": "-", "b": "+"}))
    plant(project, "second", predictions({f"od{letter}d": "+", "b": "+"}))
    (pair,), notes = compared(project, A=["first"], B=["second"])
    assert (pair.n_clips, pair.better, pair.worse) == (2, 1, 0)
    assert not notes


def test_screened_out_frames_decide_nothing(project: Project) -> None:
    plant(project, "first", [*predictions({"a": "+"}), *predictions({"b": "---"}, kept="false")])
    plant(project, "second", [*predictions({"a": "+"}), *predictions({"b": "+++"}, kept="false")])
    (pair,), _ = compared(project, A=["first"], B=["second"])
    assert (pair.n_clips, pair.better, pair.worse) == (1, 0, 0)


def test_rows_judged_on_other_frames_are_no_pair(project: Project) -> None:
    plant(project, "first", predictions({"a": "+", "b": "-"}))
    plant(project, "second", predictions({"a": "+", "c": "-"}))
    plant(project, "third", None)
    pairs, notes = compared(project, A=["first"], B=["second"], C=["third"])
    assert not pairs
    assert notes == [
        "C is in no pair: third has no reports/predictions.csv of this version.",
        "B and A were not judged on the same frames: no pair.",
    ]


def test_rows_that_folds_judged_are_compared_on_the_clips_that_both_have_whole(project: Project) -> None:
    plant(project, "first", predictions({"a": "+-", "b": "-", "c": "-", "cut": "-"}), estimate="folds")
    plant(project, "second", predictions({"a": "++", "b": "-", "d": "+", "cut": "++"}), estimate="folds")
    plant(project, "held-out", predictions({"a": "++", "b": "-", "d": "+", "cut": "++"}))
    plant(project, "others", predictions({"e": "+"}), estimate="folds")
    (pair,), notes = compared(project, A=["first"], B=["second"])
    assert (pair.n_clips, pair.better, pair.worse) == (2, 1, 0)  # a and b
    assert pair.top1_difference == pytest.approx(1 / 3)
    assert not notes
    for other in ("held-out", "others"):  # the negative controls
        pairs, notes = compared(project, A=["first"], C=[other])
        assert (pairs, notes) == ([], ["C and A were not judged on the same frames: no pair."])


def test_the_pairs_stand_below_the_table_and_in_a_file_of_their_own(project: Project) -> None:
    plant(project, "first", predictions({"a": "+", "b": "-"}))
    plant(project, "second", predictions({"a": "+", "b": "+"}))
    compare_all(project)
    folder = project.compare_reports / "experiments"
    assert "| second | first | 2 | 1 | 0 | 1 | 1 | +50.0 |  |" in (folder / "table.md").read_text(encoding="utf-8")
    assert (folder / "pairs.csv").read_text(encoding="utf-8").splitlines() == [
        "row,against,clips,better,worse,p,p_holm,top1_difference,low,high",
        "second,first,2,1,0,1.0,1.0,0.5,,",
    ]


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # as R's p.adjust(method = "holm") has it
        ([0.5, 0.9, 0.02], [1.0, 1.0, 0.06]),
    ],
)
def test_holm_multiplies_the_smallest_by_their_number_and_keeps_their_order(
    p_values: list[float], adjusted: list[float]
) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_of_many_equal_pairs_one_is_below_5_percent_in_5_of_100_tables_after_holm_and_often_before() -> None:
    tables = np.random.default_rng(0).uniform(size=(2000, 36))
    after = np.mean([min(holm(table.tolist())) < 0.05 for table in tables])
    assert after <= 0.065
    assert (tables.min(axis=1) < 0.05).mean() > 0.8


def test_the_pairs_of_a_page_are_adjusted_together(project: Project) -> None:
    clips = [f"clip{number:02}" for number in range(12)]
    right = {"first": 0, "second": 10, "third": 1}
    for row, n_right in right.items():
        plant(project, row, predictions({clip: "+" if i < n_right else "-" for i, clip in enumerate(clips)}))
    pairs, _ = compared(project, A=["first"], B=["second"], C=["third"])
    assert [pair.p for pair in pairs] == pytest.approx([2 / 2**10, 1.0, 2 / 2**9])
    assert [pair.p_holm for pair in pairs] == pytest.approx([6 / 2**10, 1.0, 4 / 2**9])
    compare_all(project)
    text = (project.compare_reports / "experiments" / "table.md").read_text(encoding="utf-8")
    assert "| second | first | 12 | 10 | 0 | 0.002 | 0.0059 |" in text
    assert "p (Holm) is adjusted for the 3 pairs" in text
