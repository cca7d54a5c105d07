"""The result of the stage: it refuses numbers that contradict one another, and its JSON is the same to the byte."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pipeline.base.files import write_json
from pipeline.base.numbers.checked_values import Interval, ValueOrReason
from pipeline.base.project import Project
from pipeline.evaluate.evaluation import (
    Areas,
    Baselines,
    CalibrationNumbers,
    ClassFrames,
    ClassGroups,
    ClassNumbers,
    Counterfactual,
    Evaluation,
    FalseAlarms,
    FilmMore,
    FrameNumbers,
    GroupNumbers,
    HowJudged,
    LeftOutClasses,
    ProbabilityErrors,
    RecognisedClips,
    ReliabilityBin,
)
from pipeline.evaluate.paired import PairedTest
from pipeline.network.calibration import UnknownThresholds
from pipeline.network.clip_answers import ClipAnswers

HALF = ClassFrames(precision=0.5, recall=0.5, f1=0.5, support=2)
BIN = ReliabilityBin(confidence=0.625, accuracy=0.5, frames=4)
EVALUATION = Evaluation(
    classes=("flake", "片"),
    frames=FrameNumbers(
        n_frames=4,
        top1=0.5,
        top5=ValueOrReason(None, "2 classes; needs at least 6"),
        balanced_accuracy=0.5,
        macro_f1=0.5,
        errors=ProbabilityErrors(ece=0.125, mse=0.75, nll=1.25),
    ),
    top1_all_frames=0.375,
    top1_interval=ValueOrReason(None, "2 groups; a bootstrap needs at least 30"),
    groups=GroupNumbers(n_groups=2, groups_right=1, groups_right_by_vote=2, interval=Interval(0.125, 0.875)),
    how=HowJudged("folds", 2, "all"),
    as_device=ClipAnswers(2, right=1, wrong=0, refused=1, interval=Interval(0.125, 0.875)),
    film_more=FilmMore("片", held_out=6, film=9),
    roc_auc=Areas({"flake": 0.75, "片": None}, None, 0.5),
    average_precision=Areas({"flake": 0.75, "片": 0.25}, 0.5, 0.5),
    per_class={
        "flake": ClassNumbers(HALF, ClassGroups(1, 1, Interval(0.25, 1.0))),
        "片": ClassNumbers(HALF, ClassGroups(1, 0, Interval(0.0, 0.75))),
    },
    confusion=[[1, 1], [1, 1]],
    confusion_normalised=[[0.5, 0.5], [0.5, 0.5]],
    calibration=CalibrationNumbers(
        temperature=ValueOrReason(1.5, None),
        unknown=ValueOrReason(UnknownThresholds(0.25, 0.5, 0.125), None),
        false_alarms=ValueOrReason(FalseAlarms(frames=0.25, groups=0.0), None),
        left_out_classes=ValueOrReason(LeftOutClasses({"flake": RecognisedClips(3, 1)}), None),
        errors_before=ProbabilityErrors(ece=0.25, mse=1.0, nll=1.5),
        reliability=[BIN],
        reliability_before=[ReliabilityBin(confidence=0.75, accuracy=0.5, frames=4)],
    ),
    too_few="Too few clips to tell",
    baselines=Baselines(
        majority=0.5,
        knn=ValueOrReason(None, "the backbone started from random weights"),
        trained_against_knn=ValueOrReason(PairedTest(2, 1, 0, 0.5, 1.0), None),
    ),
    protocol="grouped",
    optimistic=None,
    counterfactual=ValueOrReason(
        Counterfactual(
            shuffled=0.75, grouped=0.5, difference=0.25, spread=0.125, n_frames=8, n_groups=6, n_folds=3, n_seeds=3
        ),
        None,
    ),
    checkpoint_sha256="0a",
)
REPORT = """\
{
  "n_frames": 4,
  "n_groups": 2,
  "group_top1": 0.5,
  "group_top1_ci95": [
    0.125,
    0.875
  ],
  "groups_right": 1,
  "group_top1_by_vote": 1.0,
  "estimate": "folds",
  "n_folds": 2,
  "refit": "all",
  "as_device": {
    "n_clips": 2,
    "right": 1,
    "wrong": 0,
    "refused": 1,
    "right_ci95": [
      0.125,
      0.875
    ]
  },
  "film_more": {
    "class": "片",
    "held_out": 6,
    "film": 9,
    "sentence": "To halve the widest interval of a class, film about 9 more clips of 片, of which 6 are held out as now"
  },
  "too_few": "Too few clips to tell",
  "top1": 0.5,
  "top1_all_frames": 0.375,
  "top1_ci95": null,
  "top1_ci95_reason": "2 groups; a bootstrap needs at least 30",
  "top5": null,
  "balanced_accuracy": 0.5,
  "macro_f1": 0.5,
  "ece": 0.125,
  "mse": 0.75,
  "nll": 1.25,
  "top5_reason": "2 classes; needs at least 6",
  "auc": null,
  "auc_reason": "a class has no held-out frame",
  "roc_auc": {
    "macro": null,
    "micro": 0.5,
    "per_class": {
      "flake": 0.75,
      "片": null
    }
  },
  "average_precision": {
    "macro": 0.5,
    "micro": 0.5,
    "per_class": {
      "flake": 0.75,
      "片": 0.25
    }
  },
  "per_class": {
    "flake": {
      "precision": 0.5,
      "recall": 0.5,
      "f1": 0.5,
      "support": 2,
      "groups": 1,
      "groups_right": 1,
      "groups_ci95": [
        0.25,
        1.0
      ]
    },
    "片": {
      "precision": 0.5,
      "recall": 0.5,
      "f1": 0.5,
      "support": 2,
      "groups": 1,
      "groups_right": 0,
      "groups_ci95": [
        0.0,
        0.75
      ]
    }
  },
  "confusion": [
    [
      1,
      1
    ],
    [
      1,
      1
    ]
  ],
  "confusion_normalised": [
    [
      0.5,
      0.5
    ],
    [
      0.5,
      0.5
    ]
  ],
  "classes": [
    "flake",
    "片"
  ],
  "temperature": 1.5,
  "temperature_reason": null,
  "unknown": {
    "frame": 0.25,
    "clip": 0.5,
    "false_alarms": 0.125
  },
  "unknown_reason": null,
  "unknown_false_alarms": {
    "frames": 0.25,
    "groups": 0.0
  },
  "unknown_false_alarms_reason": null,
  "left_out_classes": {
    "clips": 3,
    "recognised": 1,
    "per_class": {
      "flake": {
        "clips": 3,
        "recognised": 1
      }
    }
  },
  "left_out_classes_reason": null,
  "uncalibrated": {
    "ece": 0.25,
    "mse": 1.0,
    "nll": 1.5
  },
  "reliability": {
    "calibrated": [
      {
        "confidence": 0.625,
        "accuracy": 0.5,
        "frames": 4
      }
    ],
    "uncalibrated": [
      {
        "confidence": 0.75,
        "accuracy": 0.5,
        "frames": 4
      }
    ]
  },
  "baseline_majority": 0.5,
  "baseline_knn": null,
  "baseline_knn_reason": "the backbone started from random weights",
  "trained_against_knn": {
    "n_clips": 2,
    "better": 1,
    "worse": 0,
    "difference": 0.5,
    "p": 1.0,
    "verdict": "cannot tell",
    "sentence": "These clips do not show whether training made it better: training alone is right on 1 clip, the \
baseline alone on 0 (p = 1, exact McNemar test over 2 clips)"
  },
  "trained_against_knn_reason": null,
  "protocol": "grouped",
  "optimistic": null,
  "counterfactual": {
    "shuffled": 0.75,
    "grouped": 0.5,
    "difference": 0.25,
    "spread": 0.125,
    "n_frames": 8,
    "n_groups": 6,
    "n_folds": 3,
    "n_seeds": 3,
    "sentence": "a careless shuffle would have claimed 75.0%; on new clips expect 50.0%"
  },
  "counterfactual_reason": null,
  "checkpoint_sha256": "0a"
}
"""


def test_the_report_is_the_same_to_the_byte(project: Project) -> None:
    write_json(project.evaluate_json, EVALUATION.to_json())
    assert project.evaluate_json.read_text(encoding="utf-8") == REPORT


def test_the_headline_begins_with_the_clips(project: Project) -> None:
    assert EVALUATION.headline == (
        "1 of 2 clips right out of fold, 1 refused (95 % interval 12% to 88%), 50.0% of 4 frames; reports/evaluate.json"
    )
    held_out = dataclasses.replace(
        EVALUATION, how=HowJudged("holdout", None, "none"), as_device=ClipAnswers(2, 1, 1, 0, Interval(0.125, 0.875))
    )
    assert held_out.headline.startswith("1 of 2 held-out clips right (95 % interval 12% to 88%)")
    for protocol in ("random", "blocks"):
        divided = dataclasses.replace(held_out, protocol=protocol).headline
        assert divided.startswith("1 of 2 clips with held-out frames right (95 % interval 12% to 88%)")
    caveat = dataclasses.replace(EVALUATION, optimistic="one photograph per class").headline
    assert "; optimistic: one photograph per class; " in caveat


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ProbabilityErrors, (0.5, 2.5, 1.0), "mse: found 2.5; expected 0 to 2"),
        (ProbabilityErrors, (0.5, 1.5, -1.0), "nll: found -1.0; expected 0 or more"),
        (ClassFrames, (0.5, 1.5, 0.5, 1), "recall: found 1.5; expected a share from 0 to 1"),
        (ClassGroups, (3, 4, Interval(0.0, 1.0)), "groups_right: found 4; expected 0 to 3"),
        (GroupNumbers, (0, 0, 0, Interval(0.0, 1.0)), "n_groups: found 0; expected at least 1"),
        (GroupNumbers, (2, 3, 1, Interval(0.0, 1.0)), "groups_right: found 3; expected 0 to 2"),
        (GroupNumbers, (2, 1, 3, Interval(0.0, 1.0)), "groups_right_by_vote: found 3; expected 0 to 2"),
        (GroupNumbers, (2, 1, 1, Interval(0.6, 0.9)), r"expected a share inside its interval \[0.6, 0.9\]"),
        (ClipAnswers, (3, 1, 1, 0, Interval(0.0, 1.0)), "as_device: found a sum of 2; expected 3"),
        (ClipAnswers, (1, 2, -1, 0, Interval(0.0, 1.0)), "expected no negative count"),
        (FilmMore, ("a", 6, 5), "held_out: found 6; expected 1 to 5"),
        (Areas, ({"a": 1.5}, None, 0.5), "area: found 1.5; expected a share from 0 to 1"),
        (ReliabilityBin, (0.5, 0.5, 0), "frames: found 0; expected at least 1"),
        (FalseAlarms, (0.5, 1.5), "groups: found 1.5; expected a share from 0 to 1"),
        (Counterfactual, (0.75, 0.5, 0.5, 0.0, 8, 6, 3, 3), "difference: found 0.5; expected 0.25"),
    ],
)
def test_a_value_that_cannot_be_is_refused(kind: Any, values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(*values)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ("flake", "b")}, "per_class: found"),
        ({"roc_auc": Areas({"flake": 0.5}, None, 0.5)}, "roc_auc: found"),
        ({"confusion": [[1, 1], [1]]}, "expected 2 rows and columns"),
        ({"confusion": [[1, 1], [1, 2]]}, "confusion: found a sum of 5; expected 4"),
        ({"confusion": [[2, 0], [0, 2]]}, "top1: found 0.5; expected 1.0"),
        ({"frames": dataclasses.replace(EVALUATION.frames, n_frames=5)}, "support: found a sum of 4; expected 5"),
        ({"groups": GroupNumbers(3, 1, 1, Interval(0.0, 1.0))}, "groups: found a sum of 2; expected 3"),
        ({"groups": GroupNumbers(2, 2, 1, Interval(0.0, 1.0))}, "groups_right: found a sum of 1; expected 2"),
        (
            {"calibration": dataclasses.replace(EVALUATION.calibration, reliability=[BIN, BIN])},
            "reliability: found a sum of 8; expected 4",
        ),
    ],
)
def test_counts_that_do_not_add_up_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EVALUATION, **changed)
