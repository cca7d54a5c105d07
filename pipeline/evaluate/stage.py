"""Judge the checkpoint on the held-out frames, in float32: per frame, per clip, and against baselines."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.base.errors import DataError
from pipeline.base.files import exclusive, read_json, replacing_folder, sha256_of, write_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import UNUSED, Row
from pipeline.base.project import Project
from pipeline.base.report_digest import Hashes, files_below, hashes_of, write_report
from pipeline.evaluate import advice, clip_verdicts, intervals, metrics
from pipeline.evaluate.checked_values import ValueOrReason
from pipeline.evaluate.counterfactual import counterfactual, thinned
from pipeline.evaluate.dvc_tables import headline_numbers, plot_tables, write_tables
from pipeline.evaluate.evaluation import (
    Baselines,
    CalibrationNumbers,
    ClassNumbers,
    Counterfactual,
    Evaluation,
    FalseAlarms,
    FilmMore,
)
from pipeline.evaluate.gallery import GalleryContents, draw_gallery
from pipeline.evaluate.params import EvaluateParams
from pipeline.evaluate.predictions import Predictions, gather, judge, write_predictions
from pipeline.evaluate.projection import sample_positions
from pipeline.network.checkpoint import Checkpoint, read_checkpoint
from pipeline.network.inference import forbid_tf32
from pipeline.network.network import Network, build_network

_RANDOM_START = "the backbone started from random weights"

BySide = Mapping[str, Predictions]


@dataclass(frozen=True)
class _Inputs:
    """What the stage reads before it judges anything."""

    params: EvaluateParams
    project: Project
    made_from: Hashes  # of the files that the report is computed from
    rows: Sequence[Row]
    checkpoint: Checkpoint
    network: Network  # of the checkpoint

    @property
    def checkpoint_sha256(self) -> str:
        """The hash of the checkpoint that is judged."""
        return self.made_from[self.project.relative(self.project.checkpoint)] or ""

    def judge(self, rows: Sequence[Row], network: Network) -> Predictions:
        return judge(rows, self.checkpoint, network, self.project, self.params.batch_size)

    @functools.cached_property
    def originals(self) -> list[Row]:
        """The kept frames of the three sides, without the copies that augmentation made of them."""
        return [row for row in self.rows if row.kept and not row.parent and row.split != UNUSED]


@exclusive("pipe evaluate")
def evaluate(params: EvaluateParams, project: Project) -> Evaluation:
    """Write `reports/evaluate.json`, `reports/metrics.json`, `reports/predictions.csv` and `reports/plots/`.

    Raises:
        DataError: there is no held-out frame, a frame has a class that the checkpoint does not know, or an input is
            missing or broken.
        LeakageError: a group is on two sides.
    """
    made_from = hashes_of((project.checkpoint, project.split_csv, project.split_json), project)
    rows = read_split_without_leaks(project)
    forbid_tf32()
    checkpoint = read_checkpoint(project.checkpoint)
    inputs = _Inputs(params, project, made_from, rows, checkpoint, checkpoint.network())
    held_out = inputs.judge([row for row in rows if row.split == "test"], inputs.network)
    kept = held_out.where(np.array([row.kept for row in held_out.rows]))
    if not kept.rows:
        raise DataError(f"{project.split_csv}: screening left no test frame; expected at least one")
    untrained = _untrained_predictions(inputs, kept)
    evaluation = _evaluation(inputs, held_out, kept, untrained)
    tables = plot_tables(kept, checkpoint.classes)
    features = _feature_sample(inputs, kept, untrained)
    write_predictions(held_out, checkpoint.classes, project)
    with replacing_folder(project.plots) as folder:
        write_tables(tables, folder)
        contents = GalleryContents(evaluation, tables, kept, inputs.originals, features)
        draw_gallery(contents, params.montage_frames, folder, project)
    write_json(project.metrics_json, headline_numbers(evaluation, project))
    # metrics.json has the minutes of the training: its hash would make this report another one every time.
    wrote = hashes_of((project.predictions_csv, *files_below(project.plots)), project)
    write_report(project.evaluate_json, evaluation.to_json(), made_from=made_from, wrote=wrote)
    return evaluation


def _untrained_predictions(inputs: _Inputs, kept: Predictions) -> BySide:
    """By side, the predictions for the originals by the pretrained backbone as it was before training.

    There are none where the backbone started from random weights.
    """
    checkpoint = inputs.checkpoint
    if checkpoint.model.weights == "none":
        return {}
    sides: dict[str, list[Row]] = {}
    for row in inputs.originals:
        sides.setdefault(row.split, []).append(row)
    network, known = inputs.network, dict[str, Predictions]()
    if checkpoint.model.freeze == "all":  # training has not changed the backbone: the test frames are known
        del sides["test"]
        known["test"] = kept.where(np.array([not row.parent for row in kept.rows]))
    else:
        network = build_network(checkpoint.model, checkpoint.preprocess.size, len(checkpoint.classes)).eval()
    return known | {side: inputs.judge(rows, network) for side, rows in sides.items()}


def _evaluation(inputs: _Inputs, held_out: Predictions, kept: Predictions, untrained: BySide) -> Evaluation:
    classes = inputs.checkpoint.classes
    verdicts = clip_verdicts.group_verdicts(kept.groups, kept.truth, kept.probabilities)
    frames_of_class = metrics.per_class(kept.truth, kept.predicted, classes)
    groups_of_class = clip_verdicts.groups_per_class(verdicts, classes)
    per_class = {name: ClassNumbers(frames_of_class[name], groups_of_class[name]) for name in classes}
    split_report = read_json(inputs.project.split_json)
    return Evaluation(
        classes=classes,
        frames=metrics.frame_numbers(kept.truth, kept.probabilities),
        top1_all_frames=float((held_out.predicted == held_out.truth).mean()),
        top1_interval=intervals.cluster_bootstrap_interval(kept.groups, kept.predicted == kept.truth, seed=0),
        groups=clip_verdicts.numbers_over_groups(verdicts),
        film_more=_film_more(per_class, inputs.rows, split_report),
        roc_auc=metrics.roc_areas(kept.truth, kept.probabilities, classes),
        average_precision=metrics.precision_recall_areas(kept.truth, kept.probabilities, classes),
        per_class=per_class,
        confusion=metrics.confusion(kept.truth, kept.predicted, len(classes)),
        confusion_normalised=metrics.normalised_confusion(kept.truth, kept.predicted, len(classes)).tolist(),
        calibration=_calibration(kept, inputs.checkpoint),
        baselines=_baselines(inputs, kept, untrained),
        protocol=split_report["protocol"],
        optimistic=_optimistic(inputs, split_report["optimistic"]),
        counterfactual=_counterfactual(untrained),
        checkpoint_sha256=inputs.checkpoint_sha256,
    )


def _film_more(per_class: Mapping[str, ClassNumbers], rows: Sequence[Row], split_report: Mapping[str, Any]) -> FilmMore:
    clips_for = advice.clips_for_hold_out(split_report, rows)
    return advice.film_more(per_class, advice.clips_of_class(rows), clips_for)


def _calibration(kept: Predictions, checkpoint: Checkpoint) -> CalibrationNumbers:
    before = metrics.probabilities_of(kept.logits, None)
    threshold = ValueOrReason(checkpoint.unknown_threshold, checkpoint.unknown_threshold_reason)
    return CalibrationNumbers(
        temperature=ValueOrReason(checkpoint.temperature, checkpoint.temperature_reason),
        unknown_threshold=threshold,
        false_alarms=_false_alarms(kept, threshold),
        errors_before=metrics.probability_errors(kept.truth, before),
        reliability=metrics.reliability(kept.truth, kept.probabilities),
        reliability_before=metrics.reliability(kept.truth, before),
    )


def _false_alarms(kept: Predictions, threshold: ValueOrReason[float]) -> ValueOrReason[FalseAlarms]:
    if threshold.value is None:
        return ValueOrReason(None, threshold.reason)
    return ValueOrReason(clip_verdicts.false_alarms(kept.groups, kept.logits, threshold.value), None)


def _baselines(inputs: _Inputs, kept: Predictions, untrained: BySide) -> Baselines:
    """The accuracies of always answering the commonest class, and of the nearest neighbours' class."""
    training = [row for row in inputs.originals if row.split == "train"]
    commonest = Counter(row.label for row in training).most_common(1)[0][0]
    majority = float((kept.truth == inputs.checkpoint.classes.index(commonest)).mean())
    if not untrained:
        return Baselines(majority, ValueOrReason(None, _RANDOM_START))
    accuracy = _knn_accuracy(untrained["train"], untrained["test"], inputs.params.knn_neighbours)
    return Baselines(majority, ValueOrReason(accuracy, None))


def _knn_accuracy(known: Predictions, held_out: Predictions, n_neighbours: int) -> float:
    """Accuracy of the k nearest training frames by cosine distance of the pretrained features."""
    from sklearn import config_context
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier(min(n_neighbours, len(known.rows)), metric="cosine")
    neighbours.fit(known.embeddings, known.truth)
    with config_context(working_memory=64):  # MiB of distances at a time, instead of 1024
        return float((neighbours.predict(held_out.embeddings) == held_out.truth).mean())


def _optimistic(inputs: _Inputs, caveat: str | None) -> str | None:
    """Every reason why the numbers flatter the network, the split's own caveat first."""
    checkpoint = inputs.checkpoint
    chosen = "the epoch was chosen on the test frames" if checkpoint.selection == "best_test" else None
    is_another = checkpoint.fingerprints["data"] not in (None, sha256_of(inputs.project.split_csv))
    resplit = "the split is not the one of the training, which may have seen these frames" if is_another else None
    return "; ".join(reason for reason in (caveat, chosen, resplit) if reason) or None


def _counterfactual(untrained: BySide) -> ValueOrReason[Counterfactual]:
    if not untrained:
        return ValueOrReason(None, _RANDOM_START)
    rows = sorted((row for side in untrained.values() for row in side.rows), key=lambda row: row.path)
    sample = gather(untrained.values(), rows[thinned(len(rows))])
    return counterfactual(sample.embeddings, [row.label for row in sample.rows], sample.groups)


def _feature_sample(inputs: _Inputs, kept: Predictions, untrained: BySide) -> Predictions:
    """The trained network's predictions for a sample of the originals; frames that it has not seen yet are judged."""
    wanted = [inputs.originals[position] for position in sample_positions(len(inputs.originals))]
    if untrained and inputs.checkpoint.model.freeze == "all":  # the trained network has the pretrained backbone
        return gather(untrained.values(), wanted)
    unseen = [row for row in wanted if row.split != "test"]
    judged = [inputs.judge(unseen, inputs.network)] if unseen else []
    return gather([*judged, kept], wanted)
