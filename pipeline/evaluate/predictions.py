"""The network's predictions for frames, and `reports/predictions.csv`, which has a row per held-out frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.storage.csv_files import write_csv
from pipeline.evaluate import metrics
from pipeline.network.checkpoint import Checkpoint, class_numbers
from pipeline.network.embeddings import Embeddings, embedding_records, infer_frozen
from pipeline.network.inference import Frames, infer
from pipeline.network.known_score import answers_of_blocks
from pipeline.network.network import Network
from pipeline.network.out_of_fold import read_fold_heads, read_out_of_fold
from runtime.answers import probabilities_of

_ARRAYS = ("truth", "logits", "scores", "probabilities")  # of Predictions
_BY_FRAME = (*_ARRAYS, "embeddings")


@dataclass(frozen=True)
class Predictions:
    """Frames with their true classes and the network's answers."""

    rows: list[Row]
    truth: NDArray[np.int64]  # (n,) class numbers
    logits: NDArray[np.float32]  # (n, classes)
    scores: NDArray[np.float32]  # (n,), what the thresholds of unknown material are for
    probabilities: metrics.Floats  # (n, classes)
    embeddings: Embeddings  # (n, channels), the input of the head

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest class of each frame (n,), as class numbers."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def groups(self) -> list[str]:
        """The group of each frame."""
        return [row.group for row in self.rows]

    def where(self, mask: NDArray[np.bool_]) -> Predictions:
        """Select the frames for which the mask (n,) is true; nothing is copied where it is true for all."""
        if mask.all():
            return self
        rows = [row for row, is_wanted in zip(self.rows, mask, strict=True) if is_wanted]
        return Predictions(rows, **{name: getattr(self, name)[mask] for name in _BY_FRAME})


def gather(parts: Iterable[Predictions], rows: Iterable[Row]) -> Predictions:
    """Collect the predictions for some rows from any of the parts, in the order of their paths.

    Only the predictions for these rows are copied.
    """
    paths = {row.path for row in rows}
    selected = [part.where(np.array([row.path in paths for row in part.rows])) for part in parts]
    all_rows = [row for part in selected for row in part.rows]
    order = sorted(range(len(all_rows)), key=lambda index: all_rows[index].path)
    arrays = {name: np.concatenate([getattr(part, name) for part in selected])[order] for name in _ARRAYS}
    embeddings = Embeddings.of_parts(part.embeddings for part in selected)[order]
    return Predictions([all_rows[index] for index in order], embeddings=embeddings, **arrays)


def judge_out_of_fold(rows: Sequence[Row], checkpoint: Checkpoint, project: Project, batch_size: int) -> Predictions:
    """Read what the heads of the folds say about frames, each head about those that it has not learned from.

    Args:
        rows: frames that have a fold.
        checkpoint: has the classes, the backbone and the geometry of the input.
        project: where the frames and the logits lie.
        batch_size: frames in a batch, where the features have to be computed.

    Raises:
        DataError: no frame has a fold, a logit or a calibration is missing, or a frame has a class that the checkpoint
            does not know.
    """
    if not rows:
        raise DataError(
            f"{project.split_csv}: no frame has a fold, and folds judge the checkpoint; run `pipe train` again"
        )
    truth = class_numbers(rows, checkpoint, project)
    answers = read_out_of_fold(rows, checkpoint.classes, project.out_of_fold_csv())
    heads = read_fold_heads(project.fold_heads)
    fold_of_row = np.array([row.fold for row in rows])
    if fold_of_row.max() >= len(heads):
        raise DataError(
            f"{project.fold_heads}: found {len(heads)} heads; {project.split_csv} has more folds; train again"
        )
    probabilities = np.zeros(answers.logits.shape)
    for fold, head in enumerate(heads):
        chosen = fold_of_row == fold
        probabilities[chosen] = probabilities_of(answers.logits[chosen], head.calibration.temperature)
    frames = Frames(project, rows, checkpoint.classes, checkpoint.preprocess)
    embeddings = Embeddings(embedding_records(checkpoint.network(), frames, batch_size))
    return Predictions(list(rows), truth, answers.logits, answers.scores, probabilities, embeddings)


def judge(
    rows: Sequence[Row],
    checkpoint: Checkpoint,
    network: Network,
    project: Project,
    batch_size: int,
    *,
    is_frozen: bool,
) -> Predictions:
    """Run a network over frames.

    Args:
        rows: the frames.
        checkpoint: has the classes, the geometry of the input and the temperature of the probabilities.
        network: the trained network of the checkpoint, or another one with the same input and classes.
        project: where the frames lie.
        batch_size: frames in a batch.
        is_frozen: whether training left the backbone of the network as it was; its features are read from the cache.

    Raises:
        DataError: there are no frames, a frame has a class that the checkpoint does not know, or a logit is not a
            finite number.
    """
    truth = class_numbers(rows, checkpoint, project)
    frames = Frames(project, rows, checkpoint.classes, checkpoint.preprocess)
    if is_frozen:
        embeddings, logits = infer_frozen(network, frames, batch_size)
    else:
        pooled, of_head = infer(network, frames, batch_size, "held-out frames")
        embeddings, logits = Embeddings(list(pooled.numpy())), of_head.numpy()
    if not np.isfinite(logits).all():
        raise DataError(
            f"{project.checkpoint}: found logits that are not finite numbers; train again with a lower train.lr"
        )
    probabilities = probabilities_of(logits, checkpoint.calibration.temperature)
    scores = answers_of_blocks(logits, embeddings.blocks(), checkpoint.known_score).scores
    return Predictions(list(rows), truth, logits, scores, probabilities, embeddings)


def write_predictions(predictions: Predictions, classes: Sequence[str], project: Project) -> None:
    """Write `reports/predictions.csv`.

    Args:
        predictions: for all judged frames, screened-out ones included.
        classes: the names of the classes, by their numbers.
        project: where the file goes.
    """
    header = [
        "path",
        "group",
        "label",
        "predicted",
        "confidence",
        "kept",
        *(f"logit_{name}" for name in classes),
        "score",
    ]
    numbers = np.column_stack([predictions.logits, predictions.scores])
    frames = zip(predictions.rows, numbers, predictions.probabilities, strict=True)
    lines = (_line(row, of_row, probabilities, classes) for row, of_row, probabilities in frames)
    write_csv(project.predictions_csv, chain([header], lines))


def _line(row: Row, numbers: NDArray[np.float32], probabilities: metrics.Floats, classes: Sequence[str]) -> list[str]:
    predicted = int(probabilities.argmax())
    kept = "true" if row.kept else "false"
    confidence = f"{probabilities[predicted]:.6f}"
    return [row.path, row.group, row.label, classes[predicted], confidence, kept, *(f"{x:.6f}" for x in numbers)]
