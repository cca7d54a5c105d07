"""Judge the checkpoint on the held-out frames, in float32: per frame, per clip, and against baselines."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.base.errors import DataError
from pipeline.base.files import read_json, replacing_folder, sha256_of, write_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.evaluate import clip_verdicts, intervals, metrics
from pipeline.evaluate.counterfactual import counterfactual, thinned
from pipeline.evaluate.dvc_tables import headline_numbers, plot_tables, write_tables
from pipeline.evaluate.gallery import Exhibits, draw_gallery
from pipeline.evaluate.metrics import precision_recall_areas, roc_areas
from pipeline.evaluate.params import EvaluateParams
from pipeline.evaluate.predictions import Judged, gathered, judge, write_predictions
from pipeline.evaluate.projection import sampled
from pipeline.network.checkpoint import Checkpoint, read_checkpoint
from pipeline.network.inference import forbid_tf32
from pipeline.network.network import Network, build_network

_RANDOM_START = "the backbone started from random weights"

Ask = Callable[[Sequence[Row]], Judged]  # the trained network


@dataclass(frozen=True)
class EvaluateReport:
    """The headline numbers of `reports/evaluate.json`."""

    n_frames: int
    n_groups: int
    top1: float
    group_top1: float
    group_top1_ci95: tuple[float, float]
    optimistic: str | None

    @property
    def headline(self) -> str:
        """One line: the clip verdicts with their interval first, since that is what a new clip will see."""
        low, high = self.group_top1_ci95
        caveat = f"; optimistic: {self.optimistic}" if self.optimistic else ""
        return (
            f"{self.group_top1:.1%} of {self.n_groups} held-out clips right (95 % interval {low:.0%} to {high:.0%}), "
            f"{self.top1:.1%} of {self.n_frames} frames{caveat}; reports/evaluate.json"
        )


def evaluate(params: EvaluateParams, project: Project) -> EvaluateReport:
    """Write `reports/evaluate.json`, `reports/metrics.json`, `reports/predictions.csv` and `reports/plots/`.

    Raises:
        DataError: no held-out frame, a class that the checkpoint does not know, or inputs that are missing or broken.
        LeakageError: a group sits on two sides.
    """
    rows = read_split_without_leaks(project)
    forbid_tf32()
    checkpoint = read_checkpoint(project.checkpoint)
    network = checkpoint.network()
    ask = functools.partial(
        judge, checkpoint=checkpoint, network=network, project=project, batch_size=params.batch_size
    )
    everything = ask([row for row in rows if row.split == "test"])
    kept = everything.where(np.array([row.kept for row in everything.rows]))
    if not kept.rows:
        raise DataError(f"{project.split_csv}: screening left no test frame; expected at least one")
    training = [row for row in rows if row.split == "train" and row.kept and not row.parent]
    split_report = read_json(project.split_json)
    initial = _initial(kept, rows, checkpoint, network, project, params.batch_size)
    value = {
        **_frame_and_group_numbers(kept, everything, checkpoint.classes, _held_out_share(rows)),
        **_calibration(kept, checkpoint),
        **_baselines(kept, training, initial, checkpoint, params.knn_neighbours),
        **_protocol(split_report, checkpoint, project),
        **_counterfactual(initial),
        "checkpoint_sha256": sha256_of(project.checkpoint),
    }
    tables = plot_tables(kept, checkpoint.classes)
    originals = _originals(rows)
    known = list(initial.values()) if checkpoint.model.freeze == "all" else []
    features = _features(originals, kept, known, ask)
    write_predictions(everything, checkpoint.classes, project)
    with replacing_folder(project.plots) as folder:
        write_tables(tables, folder)
        draw_gallery(Exhibits(value, tables, kept, originals, features), params.montage_frames, folder, project)
    write_json(project.metrics_json, headline_numbers(value, project))
    write_json(project.evaluate_json, value)
    return EvaluateReport(
        value["n_frames"],
        value["n_groups"],
        value["top1"],
        value["group_top1"],
        tuple(value["group_top1_ci95"]),
        value["optimistic"],
    )


def _held_out_share(rows: Sequence[Row]) -> float:
    """The held-out groups' share of all groups."""
    held_out = {row.group for row in rows if row.kept and row.split == "test"}
    return len(held_out) / len({row.group for row in rows if row.kept and row.split != "unused"})


def _frame_and_group_numbers(
    kept: Judged, everything: Judged, classes: Sequence[str], held_out_share: float
) -> dict[str, Any]:
    predicted = kept.probabilities.argmax(axis=1)
    groups = [row.group for row in kept.rows]
    interval = intervals.cluster_bootstrap_interval(groups, predicted == kept.truth, seed=0)
    numbers = metrics.frame_numbers(kept.truth, kept.probabilities)
    top1_all_frames = float((everything.probabilities.argmax(axis=1) == everything.truth).mean())
    said = clip_verdicts.group_verdicts(groups, kept.truth, kept.probabilities)
    groups_of_class = clip_verdicts.groups_per_class(said, classes)
    frames_of_class = metrics.per_class(kept.truth, predicted, classes)
    roc = roc_areas(kept.truth, kept.probabilities, classes)
    return {
        "n_frames": len(kept.rows),
        **clip_verdicts.numbers_over_groups(said),
        "film_more": clip_verdicts.film_more(groups_of_class, held_out_share),
        "top1": numbers.pop("top1"),
        "top1_all_frames": top1_all_frames,
        "top1_ci95": interval,
        "top1_ci95_reason": None
        if interval
        else f"{len(said)} groups; a bootstrap needs at least {intervals.GROUPS_FOR_A_BOOTSTRAP}",
        **numbers,
        "top5_reason": None if len(classes) >= 6 else f"{len(classes)} classes; needs at least 6",
        "auc": roc.macro,
        "auc_reason": None if roc.macro is not None else "a class has no held-out frame",
        "roc_auc": roc.as_json(),
        "average_precision": precision_recall_areas(kept.truth, kept.probabilities, classes).as_json(),
        "per_class": {name: frames_of_class[name] | groups_of_class[name] for name in classes},
        "confusion": metrics.confusion(kept.truth, predicted, len(classes)),
        "confusion_normalised": metrics.normalised_confusion(kept.truth, predicted, len(classes)).tolist(),
        "classes": list(classes),
    }


def _calibration(kept: Judged, checkpoint: Checkpoint) -> dict[str, Any]:
    """What was fitted on validation frames, and what it changes; all other numbers are with the temperature."""
    before = metrics.probabilities_of(kept.logits, None)
    numbers = metrics.frame_numbers(kept.truth, before)
    groups = [row.group for row in kept.rows]
    return {
        "temperature": checkpoint.temperature,
        "temperature_reason": checkpoint.temperature_reason,
        "unknown_threshold": checkpoint.unknown_threshold,
        "unknown_threshold_reason": checkpoint.unknown_threshold_reason,
        "unknown_false_alarms": clip_verdicts.false_alarms(groups, kept.logits, checkpoint.unknown_threshold),
        "unknown_false_alarms_reason": checkpoint.unknown_threshold_reason,
        "uncalibrated": {name: numbers[name] for name in ("ece", "mse", "nll")},
        "reliability": {
            "calibrated": metrics.reliability(kept.truth, kept.probabilities),
            "uncalibrated": metrics.reliability(kept.truth, before),
        },
    }


def _initial(
    kept: Judged, rows: Sequence[Row], checkpoint: Checkpoint, network: Network, project: Project, batch_size: int
) -> dict[str, Judged]:
    """By side, the kept original frames as the pretrained backbone sees them before training.

    Nothing where it started from random weights.
    """
    if checkpoint.model.weights == "none":
        return {}
    sides: dict[str, list[Row]] = {}
    for row in _originals(rows):
        sides.setdefault(row.split, []).append(row)
    if checkpoint.model.freeze == "all":  # a frozen backbone has seen the test frames as before training
        del sides["test"]
        seen = {"test": kept.where(np.array([not row.parent for row in kept.rows]))}
    else:
        network = build_network(checkpoint.model, checkpoint.preprocess.size, len(checkpoint.classes)).eval()
        seen = {}
    return seen | {side: judge(of_side, checkpoint, network, project, batch_size) for side, of_side in sides.items()}


def _originals(rows: Sequence[Row]) -> list[Row]:
    """The kept frames of the three sides, without the copies that augmentation made of them."""
    return [row for row in rows if row.kept and not row.parent and row.split != "unused"]


def _features(originals: Sequence[Row], kept: Judged, known: Sequence[Judged], ask: Ask) -> Judged:
    """A sample of the originals as the trained network sees them; of those that it has not seen yet it is asked."""
    wanted = [originals[place] for place in sampled(len(originals))]
    others = [row for row in wanted if row.split != "test"]
    asked = [] if known or not others else [ask(others)]
    return gathered(known or [*asked, kept], wanted)


def _baselines(
    kept: Judged, training: Sequence[Row], initial: Mapping[str, Judged], checkpoint: Checkpoint, n_neighbours: int
) -> dict[str, Any]:
    """What two rules that need no training get: the commonest class, and the nearest neighbours' class."""
    commonest = Counter(row.label for row in training).most_common(1)[0][0]
    majority = float((kept.truth == checkpoint.classes.index(commonest)).mean())
    if not initial:
        return {"baseline_majority": majority, "baseline_knn": None, "baseline_knn_reason": _RANDOM_START}
    return {
        "baseline_majority": majority,
        "baseline_knn": _knn_accuracy(initial["train"], initial["test"], n_neighbours),
        "baseline_knn_reason": None,
    }


def _counterfactual(initial: Mapping[str, Judged]) -> dict[str, Any]:
    """What a careless shuffle of all frames would have claimed."""
    if not initial:
        return {"counterfactual": None, "counterfactual_reason": _RANDOM_START}
    rows = sorted((row for side in initial.values() for row in side.rows), key=lambda row: row.path)
    some = gathered(initial.values(), rows[thinned(len(rows))])
    labels, groups = [row.label for row in some.rows], [row.group for row in some.rows]
    value, reason = counterfactual(some.embeddings, labels, groups)
    return {"counterfactual": value, "counterfactual_reason": reason or None}


def _knn_accuracy(known: Judged, held_out: Judged, n_neighbours: int) -> float:
    """Accuracy of the k nearest training frames by cosine distance of the pretrained features."""
    from sklearn import config_context
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier(min(n_neighbours, len(known.rows)), metric="cosine")
    neighbours.fit(known.embeddings, known.truth)
    with config_context(working_memory=64):  # MiB of distances at a time, instead of 1024
        return float((neighbours.predict(held_out.embeddings) == held_out.truth).mean())


def _protocol(split_report: dict[str, Any], checkpoint: Checkpoint, project: Project) -> dict[str, Any]:
    """How the sides were made, and every reason why the numbers flatter the model."""
    chosen = "the epoch was chosen on the test frames" if checkpoint.selection == "best_test" else None
    is_another = checkpoint.fingerprints["data"] not in (None, sha256_of(project.split_csv))
    resplit = "the split is not the one of the training, which may have seen these frames" if is_another else None
    reasons = [reason for reason in (split_report["optimistic"], chosen, resplit) if reason]
    return {"protocol": split_report["protocol"], "optimistic": "; ".join(reasons) or None}
