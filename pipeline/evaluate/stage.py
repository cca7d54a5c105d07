"""Judge the network in float32 on clips that it has not learned from: per frame, per clip, and against baselines."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.base.errors import DataError
from pipeline.base.files import exclusive, read_json, replacing_folder, sha256_of, write_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import UNUSED, Row
from pipeline.base.numbers.checked_values import ValueOrReason
from pipeline.base.project import Project
from pipeline.base.report_digest import Hashes, files_below, hashes_of, write_report
from pipeline.evaluate import advice, clip_verdicts, intervals, metrics
from pipeline.evaluate.as_device import clip_answers, false_alarms
from pipeline.evaluate.counterfactual import counterfactual, thinned
from pipeline.evaluate.dvc_tables import headline_numbers, plot_tables, write_tables
from pipeline.evaluate.evaluation import (
    Baselines,
    CalibrationNumbers,
    ClassNumbers,
    Counterfactual,
    Evaluation,
    FilmMore,
    HowJudged,
    LeftOutClasses,
)
from pipeline.evaluate.gallery import GalleryContents, draw_gallery
from pipeline.evaluate.left_out_classes import leave_out_classes
from pipeline.evaluate.params import EvaluateParams
from pipeline.evaluate.predictions import Predictions, gather, judge, judge_out_of_fold, write_predictions
from pipeline.evaluate.projection import sample_positions
from pipeline.network.calibration import Calibration
from pipeline.network.checkpoint import Checkpoint, read_checkpoint
from pipeline.network.clip_answers import ClipAnswers
from pipeline.network.fit_known_score import spread_over_classes
from pipeline.network.network import Network, build_network
from pipeline.network.out_of_fold import read_fold_heads
from pipeline.network.torch_settings import set_up_torch
from runtime.answers import probabilities_of

_RANDOM_START = "the backbone started from random weights"


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

    @property
    def by_folds(self) -> bool:
        """Whether every clip is judged by a head that has not seen it; else the test side is judged."""
        return self.checkpoint.estimate == "folds"

    def judge(self, rows: Sequence[Row], network: Network) -> Predictions:
        is_frozen = self.checkpoint.model.freeze == "all" or network is not self.network  # or untrained
        return judge(rows, self.checkpoint, network, self.project, self.params.batch_size, is_frozen=is_frozen)

    def judge_all(self) -> Predictions:
        """The predictions that the report is about, those for frames that screening dropped included."""
        if self.by_folds:
            rows = [row for row in self.rows if row.fold is not None and not row.is_copy]
            return judge_out_of_fold(rows, self.checkpoint, self.project, self.params.batch_size)
        return self.judge([row for row in self.rows if row.split == "test"], self.network)

    @functools.cached_property
    def calibrations(self) -> Mapping[int | None, Calibration]:
        """What turns logits into answers, by the fold of a frame."""
        if not self.by_folds:
            return {None: self.checkpoint.calibration}
        return {fold: head.calibration for fold, head in enumerate(read_fold_heads(self.project.fold_heads))}

    @property
    def n_folds(self) -> int | None:
        """How many folds judge; None where the test side does."""
        return len(self.calibrations) if self.by_folds else None

    def calibration_of(self, row: Row) -> Calibration:
        """The calibration of what judges a frame."""
        return self.calibrations[self.fold_of(row)]

    def fold_of(self, row: Row) -> int | None:
        """The fold whose head judges a frame; None where the test side is judged."""
        return row.fold if self.by_folds else None

    def is_judged(self, row: Row, fold: int | None) -> bool:
        """Whether what belongs to a fold judges a frame."""
        return row.fold == fold if self.by_folds else row.split == "test"

    def is_learned(self, row: Row, fold: int | None) -> bool:
        """Whether what judges the frames of a fold has learned from a frame."""
        return row.fold != fold if self.by_folds else row.split == "train"

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
    read = (project.checkpoint, project.fold_heads, project.split_csv, project.split_json, project.out_of_fold_csv())
    made_from = hashes_of(read, project)
    rows = read_split_without_leaks(project)
    set_up_torch()
    checkpoint = read_checkpoint(project.checkpoint)
    inputs = _Inputs(params, project, made_from, rows, checkpoint, checkpoint.network())
    judged = inputs.judge_all()
    kept = judged.where(np.array([row.kept for row in judged.rows]))
    if not kept.rows:
        raise DataError(f"{project.split_csv}: screening left no test frame; expected at least one")
    untrained = _untrained_predictions(inputs, kept)
    evaluation = _evaluation(inputs, judged, kept, untrained)
    tables = plot_tables(kept, checkpoint.classes)
    features = _feature_sample(inputs, kept, untrained)
    training = _training_sample(inputs)
    write_predictions(judged, checkpoint.classes, project)
    with replacing_folder(project.plots) as folder:
        write_tables(tables, folder)
        contents = GalleryContents(evaluation, tables, kept, inputs.originals, features, training)
        draw_gallery(contents, params.montage_frames, folder, project)
    write_json(project.metrics_json, headline_numbers(evaluation, project))
    # metrics.json has the minutes of the training: its hash would make this report another one every time.
    wrote = hashes_of((project.predictions_csv, *files_below(project.plots)), project)
    write_report(project.evaluate_json, evaluation.to_json(), made_from=made_from, wrote=wrote)
    return evaluation


def _untrained_predictions(inputs: _Inputs, kept: Predictions) -> Predictions | None:
    """The predictions for all originals by the pretrained backbone as it was before training.

    There are none where the backbone started from random weights. Only their features and their truth count.
    """
    checkpoint = inputs.checkpoint
    if checkpoint.model.weights == "none":
        return None
    if checkpoint.model.freeze != "all":
        network = build_network(checkpoint.model, checkpoint.preprocess.size, len(checkpoint.classes)).eval()
        return gather([inputs.judge(inputs.originals, network)], inputs.originals)
    known = {row.path for row in kept.rows}  # training has not changed the backbone
    others = [row for row in inputs.originals if row.path not in known]
    return gather([kept, *([inputs.judge(others, inputs.network)] if others else [])], inputs.originals)


def _evaluation(inputs: _Inputs, judged: Predictions, kept: Predictions, untrained: Predictions | None) -> Evaluation:
    classes, checkpoint = inputs.checkpoint.classes, inputs.checkpoint
    verdicts = clip_verdicts.group_verdicts(kept.groups, kept.truth, kept.probabilities)
    frames_of_class = metrics.per_class(kept.truth, kept.predicted, classes)
    n_folds = inputs.n_folds
    groups = clip_verdicts.numbers_over_groups(verdicts, n_folds)
    groups_of_class = clip_verdicts.groups_per_class(verdicts, classes, n_folds)
    per_class = {name: ClassNumbers(frames_of_class[name], groups_of_class[name]) for name in classes}
    split_report = read_json(inputs.project.split_json)
    device = clip_answers(judged, inputs.calibration_of, n_folds)
    return Evaluation(
        classes=classes,
        frames=metrics.frame_numbers(kept.truth, kept.probabilities),
        top1_all_frames=float((judged.predicted == judged.truth).mean()),
        top1_interval=intervals.cluster_bootstrap_interval(kept.groups, kept.predicted == kept.truth, seed=0),
        groups=groups,
        how=HowJudged(checkpoint.estimate, n_folds, checkpoint.refit),
        as_device=device,
        film_more=_film_more(inputs, per_class, split_report),
        too_few=advice.too_few(groups, min(of_class.groups for of_class in groups_of_class.values()), n_folds),
        roc_auc=metrics.roc_areas(kept.truth, kept.probabilities, classes),
        average_precision=metrics.precision_recall_areas(kept.truth, kept.probabilities, classes),
        per_class=per_class,
        confusion=metrics.confusion(kept.truth, kept.predicted, len(classes)),
        confusion_normalised=metrics.normalised_confusion(kept.truth, kept.predicted, len(classes)).tolist(),
        calibration=_calibration(inputs, kept, device),
        baselines=_baselines(inputs, kept, untrained),
        protocol=split_report["protocol"],
        optimistic=_optimistic(inputs, split_report["optimistic"]),
        counterfactual=_counterfactual(untrained),
        checkpoint_sha256=inputs.checkpoint_sha256,
    )


def _film_more(inputs: _Inputs, per_class: Mapping[str, ClassNumbers], split_report: Mapping[str, Any]) -> FilmMore:
    clips_for = advice.every_clip if inputs.by_folds else advice.clips_for_hold_out(split_report, inputs.rows)
    return advice.film_more(per_class, advice.clips_of_class(inputs.rows), clips_for, inputs.n_folds)


def _calibration(inputs: _Inputs, kept: Predictions, device: ClipAnswers) -> CalibrationNumbers:
    before = probabilities_of(kept.logits, None)
    shipped = inputs.checkpoint.calibration
    reasons = [of_fold.unknown_reason for of_fold in inputs.calibrations.values() if of_fold.unknown is None]
    alarms = None if reasons else false_alarms(kept, device, inputs.calibration_of)
    return CalibrationNumbers(
        temperature=ValueOrReason(shipped.temperature, shipped.temperature_reason),
        unknown=ValueOrReason(shipped.unknown, shipped.unknown_reason),
        false_alarms=ValueOrReason(alarms, reasons[0] if reasons else None),
        left_out_classes=_left_out_classes(inputs, kept),
        errors_before=metrics.probability_errors(kept.truth, before),
        reliability=metrics.reliability(kept.truth, kept.probabilities),
        reliability_before=metrics.reliability(kept.truth, before),
    )


def _left_out_classes(inputs: _Inputs, kept: Predictions) -> ValueOrReason[LeftOutClasses]:
    """How many clips of a class that is left out are recognised as none of the others."""
    shipped = inputs.checkpoint.calibration
    if not inputs.by_folds:
        return ValueOrReason(None, "classes are left out where folds judge; here the test side does")
    if shipped.unknown is None:
        return ValueOrReason(None, shipped.unknown_reason)
    return leave_out_classes(kept, inputs.checkpoint.classes, shipped.unknown.false_alarms)


def _baselines(inputs: _Inputs, kept: Predictions, untrained: Predictions | None) -> Baselines:
    """The accuracies of always answering the commonest class, and of the nearest neighbours' class."""
    n_right = 0
    for fold in inputs.calibrations:
        learned = Counter(row.label for row in inputs.originals if inputs.is_learned(row, fold))
        commonest = learned.most_common(1)[0][0]
        n_right += sum(row.label == commonest for row in kept.rows if inputs.fold_of(row) == fold)
    majority = n_right / len(kept.rows)
    if untrained is None:
        return Baselines(majority, ValueOrReason(None, _RANDOM_START), ValueOrReason(None, _RANDOM_START))
    nearest = _nearest_neighbours(inputs, untrained)
    accuracy = float((nearest.probabilities.argmax(axis=1) == nearest.truth).mean())
    originals = kept.where(np.array([not row.parent for row in kept.rows]))
    by_network, by_neighbours = (
        clip_verdicts.group_verdicts(judged.groups, judged.truth, judged.probabilities)
        for judged in (originals, nearest)
    )
    paired = clip_verdicts.compare_by_group(by_network, by_neighbours)
    return Baselines(majority, ValueOrReason(accuracy, None), ValueOrReason(paired, None))


def _nearest_neighbours(inputs: _Inputs, untrained: Predictions) -> Predictions:
    """The answers of the k nearest training frames, by cosine distance of the pretrained features, for judged frames.

    Their probabilities are the shares of the k neighbours; of equal shares the first class counts. Each judged frame is
    compared with each training frame, so that of very many training frames only a part is taken.
    """
    from sklearn import config_context
    from sklearn.neighbors import KNeighborsClassifier

    parts = []
    for fold in inputs.calibrations:
        known = untrained.where(np.array([inputs.is_learned(row, fold) for row in untrained.rows]))
        judged = untrained.where(np.array([inputs.is_judged(row, fold) for row in untrained.rows]))
        neighbours = KNeighborsClassifier(min(inputs.params.knn_neighbours, len(known.rows)), metric="cosine")
        compared = spread_over_classes(known.truth)
        neighbours.fit(known.embeddings[compared].array(), known.truth[compared])
        shares = np.zeros(judged.probabilities.shape)
        with config_context(working_memory=64):  # MiB of distances at a time, instead of 1024
            answers = [neighbours.predict_proba(block) for block in judged.embeddings.blocks()]
        shares[:, neighbours.classes_] = np.concatenate(answers)
        parts.append(replace(judged, probabilities=shares))
    return gather(parts, [row for part in parts for row in part.rows])


def _optimistic(inputs: _Inputs, caveat: str | None) -> str | None:
    """Every reason why the numbers flatter the network, the split's own caveat first."""
    checkpoint = inputs.checkpoint
    chosen = "the epoch was chosen on the test frames" if checkpoint.selection == "best_test" else None
    is_chosen = inputs.by_folds and inputs.project.adapt_json().is_file()  # folds never judge opened blocks
    by_clips = "train.adapt: auto chose the head by clips that judge it" if is_chosen else None
    is_another = checkpoint.fingerprints["data"] not in (None, sha256_of(inputs.project.split_csv))
    resplit = "the split is not the one of the training, which may have seen these frames" if is_another else None
    return "; ".join(reason for reason in (caveat, chosen, by_clips, resplit) if reason) or None


def _counterfactual(untrained: Predictions | None) -> ValueOrReason[Counterfactual]:
    if untrained is None:
        return ValueOrReason(None, _RANDOM_START)
    sample = gather([untrained], untrained.rows[thinned(len(untrained.rows))])
    return counterfactual(sample.embeddings.array(), [row.label for row in sample.rows], sample.groups)


def _feature_sample(inputs: _Inputs, kept: Predictions, untrained: Predictions | None) -> Predictions:
    """The trained network's predictions for a sample of the originals; frames that it has not seen yet are judged."""
    wanted = [inputs.originals[position] for position in sample_positions(len(inputs.originals))]
    if untrained is not None and inputs.checkpoint.model.freeze == "all":  # the network has the pretrained backbone
        return gather([untrained], wanted)
    known = {row.path for row in kept.rows}
    unseen = [row for row in wanted if row.path not in known]
    judged = [inputs.judge(unseen, inputs.network)] if unseen else []
    return gather([*judged, kept], wanted)


def _training_sample(inputs: _Inputs) -> Predictions:
    """The network's predictions for a few random frames that it learned from, the same ones every time (study 003)."""
    if inputs.checkpoint.refit == "all":
        learned = [row for row in inputs.originals if row.fold is not None]
    else:
        learned = [row for row in inputs.rows if row.kept and row.split == "train"]
        learned = [row for row in learned if not row.is_copy] or learned
    n_shown = min(inputs.params.montage_frames, len(learned))
    positions = np.random.default_rng(0).choice(len(learned), n_shown, replace=False)
    return inputs.judge([learned[position] for position in sorted(positions)], inputs.network)
