"""Every key of `reports/evaluate.json`, recomputed from planted answers by scikit-learn or by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from pipeline.base import manifest
from pipeline.base.files import read_json, write_json
from pipeline.base.manifest import Row
from pipeline.base.numbers.checked_values import Interval
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.evaluate import predictions, stage
from pipeline.evaluate.advice import too_few
from pipeline.evaluate.evaluation import GroupNumbers
from pipeline.evaluate.paired import PairedTest
from pipeline.evaluate.params import EvaluateParams
from pipeline.network.calibration import Calibration, UnknownThresholds
from pipeline.network.embeddings import Embeddings
from pipeline.network.network import build_network
from pipeline.network.params import ModelParams
from pipeline.network.preprocess import Preprocess
from tests.support import numbers_by_hand as by_hand
from tests.support.checkpoints import Untrained, a_known_score, checkpoint_of
from tests.support.small_project import ROOT

CHANNELS, SIZE = 6, 64
TEMPERATURE, THRESHOLD, CLIP_THRESHOLD, RATE = 1.7, 0.5, 0.8, 0.1
K = 5  # of params.yaml
FRAMES_OF_A_CLIP = 3


@dataclass(frozen=True)
class Planted:
    """Frames with the answers that a network is to give, test frames first."""

    rows: list[Row]
    classes: tuple[str, ...]
    logits: np.ndarray  # (n, classes) float32
    features: np.ndarray  # (n, CHANNELS) float32

    @property
    def scores(self) -> np.ndarray:
        """The known scores (n,)."""
        return a_known_score(CHANNELS)(self.features)

    def of(self, side: str, *, kept: bool = True) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row.split == side and (row.kept or not kept)]

    def truth(self, positions: Sequence[int]) -> np.ndarray:
        return np.array([self.classes.index(self.rows[i].label) for i in positions])


def planted(test: Sequence[int], n_classes: int, frames: int, *, seed: int, whole: bool = False) -> Planted:
    """Test clips of the given classes, and four training clips of every class; `whole` logits are often tied."""
    generator = np.random.default_rng(seed)
    classes = tuple(f"class {index}" for index in range(n_classes))
    clips = [("test", of_class, frames) for of_class in test]
    clips += [("train", of_class, FRAMES_OF_A_CLIP) for of_class in range(n_classes) for _ in range(4)]
    rows, logits, features = [], [], []
    for clip, (side, of_class, length) in enumerate(clips):
        liking = generator.normal(0, 1, n_classes)
        for frame in range(length):
            source = f"data/raw/{classes[of_class]}/{clip:03}.mp4"
            path = f"data/frames/{side}/{clip:03}_{frame}.jpg"
            # Every fifth clip of several frames loses its last one to screening.
            kept = not (side == "test" and frame == length - 1 > 0 and clip % 5 == 0)
            digest = f"{clip:064x}"
            row = Row(path, classes[of_class], source, digest, source, width=1, height=1, split=side, kept=kept)
            rows.append(row if kept else dataclasses.replace(row, drop_reason="blurred"))
            scores = liking + generator.normal(0, 1, n_classes) + 1.2 * np.eye(n_classes)[of_class]
            logits.append(scores.round() if whole else scores)
            features.append(generator.normal(0, 1, CHANNELS) + np.eye(n_classes, CHANNELS)[of_class])
    return Planted(rows, classes, np.array(logits, np.float32), np.array(features, np.float32))


# Of n clips n // 2 are tested, so that q tested ones need 2 q.
HALF_IS_TESTED = {"ratio": "1:1", "val": None, "rounding": "nearest", "counts": None, "folds": None, "hold_out": None}
CASES = {
    "clips with screened-out frames": planted([0, 1, 2] * 3, 3, FRAMES_OF_A_CLIP, seed=0),
    "ties": planted([0, 1, 2, 0, 1], 3, FRAMES_OF_A_CLIP, seed=1, whole=True),
    "a class that nobody held out": planted([0, 1, 0, 1], 3, FRAMES_OF_A_CLIP, seed=2),
    "one class": planted([1, 1], 2, FRAMES_OF_A_CLIP, seed=3),
    "two frames": planted([0, 1], 2, 1, seed=4),
    "two frames, tied": planted([0, 1], 2, 1, seed=5, whole=True),
    "forty photos of seven classes": planted([photo % 7 for photo in range(40)], 7, 1, seed=6),
}


def judged(case: Planted, project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run `evaluate` with a network that gives the planted answers, and read its report."""
    manifest.write_split(sorted(case.rows, key=lambda row: row.path), project.split_csv)
    write_json(project.split_json, {"protocol": "grouped", "optimistic": "planted", "asked": HALF_IS_TESTED})
    values = read_section(project.params_yaml, "model", ModelParams).model_dump() | {"arch": "small_cnn"}
    fresh, pretrained = (ModelParams.model_validate(values | {"weights": name}) for name in ("none", "imagenet"))
    state = build_network(fresh, SIZE, len(case.classes)).state_dict()
    preprocess = Preprocess(SIZE, "squash", 1.0, (0.0,) * 3, (1.0,) * 3)  # type: ignore[arg-type]
    calibration = Calibration(TEMPERATURE, None, UnknownThresholds(THRESHOLD, CLIP_THRESHOLD, RATE), None)
    checkpoint = checkpoint_of(state, Untrained(case.classes, pretrained, preprocess, calibration))
    replace(checkpoint, known_score=a_known_score(CHANNELS)).write(project.checkpoint)
    index_of_path = {row.path: i for i, row in enumerate(case.rows)}

    def answers(_: Any, frames: Any, *__: Any) -> tuple[Embeddings, np.ndarray]:
        asked = [index_of_path[row.path] for row in frames.rows]
        return Embeddings(list(case.features[asked])), case.logits[asked]

    monkeypatch.setattr(predictions, "infer_frozen", answers)
    monkeypatch.setattr(stage, "draw_gallery", lambda *_: None)
    stage.evaluate(read_section(ROOT / "params.yaml", "evaluate", EvaluateParams), project)
    value: dict[str, Any] = read_json(project.evaluate_json)
    return value


def expected(case: Planted) -> dict[str, Any]:
    """The same keys, by other means."""
    positions, every = case.of("test"), case.of("test", kept=False)
    truth, p = case.truth(positions), by_hand.softmax(case.logits[positions], TEMPERATURE)
    predicted = np.array([by_hand.first_largest(row) for row in p])
    predicted_of_all = [by_hand.first_largest(case.logits[i]) for i in every]
    indices = range(len(case.classes))
    of_class = [by_hand.of_class(truth, predicted, index) for index in indices]
    counts = [[int(((truth == row) & (predicted == column)).sum()) for column in indices] for row in indices]
    roc = by_hand.areas(by_hand.roc_area, truth, p, case.classes)
    plain = by_hand.softmax(case.logits[positions], 1.0)
    return {
        "n_frames": len(positions),
        "top1": sklearn_metrics.accuracy_score(truth, predicted),
        "top1_all_frames": sklearn_metrics.accuracy_score(case.truth(every), predicted_of_all),
        "top5": by_hand.in_the_first_five(truth, p) if len(case.classes) > 5 else None,
        "balanced_accuracy": np.mean([numbers["recall"] for numbers in of_class if numbers["support"]]),
        "macro_f1": np.mean([numbers["f1"] for numbers in of_class]),
        **by_hand.calibration(truth, p),
        "uncalibrated": by_hand.calibration(truth, plain),
        "reliability": {"calibrated": by_hand.bins(truth, p), "uncalibrated": by_hand.bins(truth, plain)},
        "auc": roc["macro"],
        "roc_auc": roc,
        "average_precision": by_hand.areas(by_hand.average_precision, truth, p, case.classes),
        "confusion": counts,
        "confusion_normalised": [[n / max(sum(row), 1) for n in row] for row in counts],
        "classes": list(case.classes),
        "temperature": TEMPERATURE,
        "unknown": {"frame": THRESHOLD, "clip": CLIP_THRESHOLD, "false_alarms": RATE},
        "left_out_classes": None,
        "estimate": "holdout",
        "n_folds": None,
        "refit": "none",
        "protocol": "grouped",
        "optimistic": "planted",
        **_by_clip(case, positions, truth, p, of_class),
        **_baselines(case, positions, truth, p),
        "too_few": _too_few(case, positions, truth, p),
    }


def _by_clip(
    case: Planted, positions: list[int], truth: np.ndarray, p: np.ndarray, of_class: list[dict[str, float]]
) -> dict[str, Any]:
    names = [case.rows[i].group for i in positions]
    verdicts = by_hand.groups(names, truth, p)
    n_right = sum(true == answer for true, answer, _ in verdicts.values())
    per_class = {}
    for index, name in enumerate(case.classes):
        own = [answer == index for true, answer, _ in verdicts.values() if true == index]
        interval = by_hand.exact_interval(sum(own), len(own)) if own else [0.0, 1.0]
        per_class[name] = of_class[index] | {
            "groups": len(own), "groups_right": sum(own), "groups_ci95": interval,
        }  # fmt: skip
    n_clips = {name: len({row.group for row in case.rows if row.label == name and row.kept}) for name in case.classes}
    intervals = {name: numbers["groups_ci95"] for name, numbers in per_class.items()}
    order = {
        name: (round(low - high, 9), round(per_class[name]["recall"], 9), n_clips[name])
        for name, (low, high) in intervals.items()
    }
    widest = min(order, key=lambda name: order[name])
    tested = int(per_class[widest]["groups"])
    more = by_hand.clips_to_halve(int(per_class[widest]["groups_right"]), tested)
    film = max(more, 2 * (tested + more) - n_clips[widest])
    is_below = [bool(score < THRESHOLD) for score in case.scores[positions]]
    device = _as_device(case)
    return {
        "n_groups": len(verdicts),
        "group_top1": n_right / len(verdicts),
        "group_top1_ci95": by_hand.exact_interval(n_right, len(verdicts)),
        "groups_right": n_right,
        "group_top1_by_vote": np.mean([true == vote for true, _, vote in verdicts.values()]),
        "per_class": per_class,
        "film_more": {
            "class": widest,
            "held_out": more,
            "film": film,
            "sentence": f"To halve the widest interval of a class, film about {film} more clips of {widest}, "
            f"of which {more} are held out as now",
        },
        "unknown_false_alarms": {
            "frames": np.mean(is_below),
            "groups": device["refused"] / device["n_clips"],
        },
        "as_device": device,
    }


def _as_device(case: Planted) -> dict[str, Any]:
    """The answers of the device for whole clips, one after the other."""
    counts = {"right": 0, "wrong": 0, "refused": 0}
    every = case.of("test", kept=False)
    clips = {case.rows[i].group for i in every}
    for clip in clips:
        frames = [i for i in every if case.rows[i].group == clip]
        scores = [float(case.scores[i]) for i in frames]
        if sum(scores) / len(scores) < CLIP_THRESHOLD:
            counts["refused"] += 1
            continue
        known = [i for i, score in zip(frames, scores, strict=True) if score >= THRESHOLD] or frames
        means = by_hand.softmax(case.logits[known], TEMPERATURE).mean(axis=0)
        is_right = case.classes[by_hand.first_largest(means)] == case.rows[frames[0]].label
        counts["right" if is_right else "wrong"] += 1
    return {"n_clips": len(clips), **counts, "right_ci95": by_hand.exact_interval(counts["right"], len(clips))}


def _too_few(case: Planted, positions: list[int], truth: np.ndarray, p: np.ndarray) -> str | None:
    """The sentence about too few clips, which has tests of its own, from counts by hand."""
    verdicts = by_hand.groups([case.rows[i].group for i in positions], truth, p)
    n_right = sum(true == answer for true, answer, _ in verdicts.values())
    interval = Interval(*by_hand.exact_interval(n_right, len(verdicts)))
    counts = [sum(true == index for true, _, _ in verdicts.values()) for index in range(len(case.classes))]
    return too_few(GroupNumbers(len(verdicts), n_right, n_right, interval), min(counts))


def _baselines(case: Planted, positions: list[int], truth: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    known = case.of("train")
    shares = by_hand.neighbours_shares(
        case.features[known], case.truth(known), case.features[positions], K, len(case.classes)
    )
    names = [case.rows[i].group for i in positions]
    ours, theirs = (
        {name: true == answer for name, (true, answer, _) in by_hand.groups(names, truth, of_frames).items()}
        for of_frames in (p, shares)
    )
    better, worse = (
        sum(first[name] and not second[name] for name in first) for first, second in ((ours, theirs), (theirs, ours))
    )
    n = better + worse
    # Twice the binomial's tail at a half, from the more extreme of the two counts on.
    tail = sum(math.comb(n, count) for count in range(max(better, worse), n + 1)) / 2**n
    chance = 1.0 if better == worse else min(1.0, 2 * tail)
    paired = PairedTest(len(ours), better, worse, (better - worse) / len(ours), chance)
    return {
        # Every class has as many training frames: of equally common ones the first in the manifest counts.
        "baseline_majority": np.mean(truth == 0),
        "baseline_knn": np.mean(shares.argmax(axis=1) == truth),
        "trained_against_knn": paired.to_json(),
    }


APART = {"top1_ci95", "counterfactual"}  # have tests of their own below
ORIGIN = {"made_from", "wrote", "digest"}  # hashes, in tests of `report_digest`


@pytest.mark.parametrize("name", CASES)
def test_every_number_is_that_of_scikit_learn_or_of_a_hand_calculation(
    name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, wanted = judged(CASES[name], project, monkeypatch), expected(CASES[name])
    wanted["checkpoint_sha256"] = hashlib.sha256(project.checkpoint.read_bytes()).hexdigest()
    values = {key: value for key, value in report.items() if not key.endswith("_reason")}
    assert set(values) == set(wanted) | APART | ORIGIN  # a new number has to be computed here too
    for key, value in wanted.items():
        assert_same(values[key], value, key)


def assert_same(found: Any, wanted: Any, where: str) -> None:
    """Equal in every part, numbers to nine digits."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted) or set(found) == set(wanted), where
        for key in wanted:
            assert_same(found[key], wanted[key], f"{where}/{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for index, (part, wanted_part) in enumerate(zip(found, wanted, strict=True)):
            assert_same(part, wanted_part, f"{where}/{index}")
    elif wanted is None or isinstance(wanted, str):
        assert found == wanted, where
    else:
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9), where


@pytest.mark.parametrize("key", ["top1", "per_class", "reliability", "roc_auc", "film_more"])
def test_the_comparison_notices_a_number_that_is_off(key: str) -> None:
    def off(value: Any) -> Any:
        """The same with its last number a little larger."""
        if isinstance(value, dict):
            *_, last = [name for name, part in value.items() if not isinstance(part, str)]
            return value | {last: off(value[last])}
        return [*value[:-1], off(value[-1])] if isinstance(value, list) else value + 1e-6

    value = expected(CASES["clips with screened-out frames"])[key]
    assert_same(value, value, key)
    with pytest.raises(AssertionError):
        assert_same(off(value), value, key)


def test_the_interval_over_forty_photos_is_that_of_the_binomial_it_resamples(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 are drawn from 40 photos and two more, one right and one wrong: the number of right ones is binomial."""
    from scipy import stats

    value = judged(CASES["forty photos of seven classes"], project, monkeypatch)
    share = (round(40 * value["top1"]) + 1) / 42
    exact = stats.binom.ppf([0.025, 0.975], 40, share) / 40
    assert value["top1_ci95"] == pytest.approx(exact, abs=1 / 40 + 1e-9)
    assert value["top1_ci95"][0] < value["top1"] < value["top1_ci95"][1]


@pytest.mark.parametrize("name", ["clips with screened-out frames", "forty photos of seven classes"])
def test_the_counterfactual_is_that_of_a_probe_on_all_standardised_features(
    name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    value = judged(case, project, monkeypatch)["counterfactual"]
    positions = sorted((i for i, row in enumerate(case.rows) if row.kept), key=lambda i: case.rows[i].path)
    features = case.features[positions].astype(np.float64)
    labels, groups = ([getattr(case.rows[i], key) for i in positions] for key in ("label", "group"))
    for key, kind, of_group in (("shuffled", StratifiedKFold, None), ("grouped", StratifiedGroupKFold, groups)):
        shares = []
        for seed in range(3):
            folds = kind(value["n_folds"], shuffle=True, random_state=seed).split(labels, labels, of_group)
            shares.append(by_hand.probe_accuracy(features, labels, folds))
        assert value[key] == pytest.approx(np.mean(shares), abs=1.5 / len(positions)), key
    assert value["difference"] == pytest.approx(value["shuffled"] - value["grouped"])
    assert (value["n_frames"], value["n_groups"]) == (len(positions), len(set(groups)))
