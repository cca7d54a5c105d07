"""Frames as a checkpoint judges them, and the file that says of every frame what the network answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.files import write_csv
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.evaluate import metrics
from pipeline.network.checkpoint import Checkpoint, class_numbers
from pipeline.network.inference import Frames, infer
from pipeline.network.network import Network


@dataclass(frozen=True)
class Judged:
    """The held-out rows with what the network said of them."""

    rows: list[Row]
    truth: NDArray[np.int64]  # (n,) class numbers
    logits: NDArray[np.float32]  # (n, classes)
    probabilities: metrics.Floats  # (n, classes)
    embeddings: NDArray[np.float32]  # (n, channels)

    def where(self, mask: NDArray[np.bool_]) -> Judged:
        """The part of the rows that the mask (n,) selects; these themselves where it selects all."""
        if mask.all():
            return self  # features of many frames are large
        rows = [row for row, wanted in zip(self.rows, mask, strict=True) if wanted]
        return Judged(rows, self.truth[mask], self.logits[mask], self.probabilities[mask], self.embeddings[mask])


def gathered(parts: Iterable[Judged], rows: Iterable[Row]) -> Judged:
    """What was said of some rows by any of the parts, in the order of their paths; no more than these is copied."""
    paths = {row.path for row in rows}
    found = [part.where(np.array([row.path in paths for row in part.rows])) for part in parts]
    together = [row for part in found for row in part.rows]
    order = sorted(range(len(together)), key=lambda number: together[number].path)
    arrays = (
        np.concatenate([getattr(part, name) for part in found])[order]
        for name in ("truth", "logits", "probabilities", "embeddings")
    )
    return Judged([together[number] for number in order], *arrays)


def judge(rows: Sequence[Row], checkpoint: Checkpoint, network: Network, project: Project, batch_size: int) -> Judged:
    """Run the network over rows.

    Raises:
        DataError: there are none, one has a class that the checkpoint does not know, or the answers are no numbers.
    """
    truth = class_numbers(rows, checkpoint, project)
    frames = Frames(project, rows, checkpoint.classes, checkpoint.preprocess)
    embeddings, logits = infer(network, frames, batch_size, "held-out frames")
    if not torch.isfinite(logits).all():
        raise DataError(f"{project.checkpoint}: its logits are no numbers; train again with a lower train.lr")
    probabilities = metrics.probabilities_of(logits.numpy(), checkpoint.temperature)
    return Judged(list(rows), truth, logits.numpy(), probabilities, embeddings.numpy())


def write_predictions(judged: Judged, classes: Sequence[str], project: Project) -> None:
    """Write a row per held-out frame, screened-out ones included."""
    header = ["path", "group", "label", "predicted", "confidence", "kept", *(f"logit_{name}" for name in classes)]
    judgements = zip(judged.rows, judged.logits, judged.probabilities, strict=True)
    lines = (_line(row, logits, probabilities, classes) for row, logits, probabilities in judgements)
    write_csv(project.predictions_csv, chain([header], lines))


def _line(row: Row, logits: NDArray[np.float32], probabilities: metrics.Floats, classes: Sequence[str]) -> list[str]:
    number = int(probabilities.argmax())
    kept = "true" if row.kept else "false"
    confidence = f"{probabilities[number]:.6f}"
    return [row.path, row.group, row.label, classes[number], confidence, kept, *(f"{x:.6f}" for x in logits)]
