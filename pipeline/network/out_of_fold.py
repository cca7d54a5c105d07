"""What the folds leave for later stages: their heads and scores, and what these say about frames they never saw.

`models/folds.pt` holds the head, the known score and the calibration of each fold, none where the test side gives the
estimate. `reports/train/out_of_fold.csv` has a line for every frame: the logits and the score of the one head that has
not learned from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pipeline.base.errors import DataError, one_line
from pipeline.base.files import replacing_file
from pipeline.base.manifest import Row
from pipeline.base.project import missing
from pipeline.base.storage.csv_files import read_table, write_csv
from pipeline.network.calibration import Calibration, calibration_from_plain, calibration_to_plain
from pipeline.network.known_score import KnownScore, known_score_from_plain
from pipeline.network.torch_files import read_plain, state_dict_of, write_plain
from runtime.answers import Answers

FORMAT_VERSION = 2
_COLUMNS = ("path", "group", "fold", "label", "kept")
_SCORE = "score"


@dataclass(frozen=True)
class FoldHead:
    """The head of one fold, which has learned from the clips of all other folds."""

    state_dict: dict[str, Tensor]  # of the head alone
    calibration: Calibration  # fitted on the out-of-fold answers of the other folds
    known_score: KnownScore | None = None  # of the same clips; None: no score is wanted

    def __repr__(self) -> str:
        shapes = {name: tuple(value.shape) for name, value in self.state_dict.items()}
        return f"FoldHead({shapes}, {self.calibration})"


def write_fold_heads(heads: Sequence[FoldHead], path: Path) -> None:
    """Write `models/folds.pt`; without folds it is an empty list, since DVC expects every output."""
    plain = [
        {
            "state_dict": head.state_dict,
            "calibration": calibration_to_plain(head.calibration),
            "known_score": None if head.known_score is None else head.known_score.to_tensors(),
        }
        for head in heads
    ]
    with replacing_file(path) as temporary:
        write_plain({"format_version": FORMAT_VERSION, "heads": plain}, temporary)


def read_fold_heads(path: Path) -> list[FoldHead]:
    """Read `models/folds.pt` without running code from it.

    Raises:
        DataError: the file is missing, of another kind, or a value does not fit.
    """
    if not path.is_file():
        raise missing(path)
    value = read_plain(path)
    version = value.get("format_version") if isinstance(value, dict) else None
    version = version if isinstance(version, int | None) else type(version).__name__
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path}: found the format {version} of fold heads; expected {FORMAT_VERSION}; run `pipe train`"
        )
    try:
        return [_head_from_plain(head) for head in value["heads"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        reason = one_line(error)
        raise DataError(f"{path}: a value of the fold heads does not fit ({reason}); run `pipe train`") from error


def _head_from_plain(value: dict[str, Any]) -> FoldHead:
    state_dict = state_dict_of(value["state_dict"])
    score = known_score_from_plain(value["known_score"])
    return FoldHead(state_dict, calibration_from_plain(value["calibration"]), score)


def write_out_of_fold(rows: Sequence[Row], answers: Answers, classes: Sequence[str], path: Path) -> None:
    """Write `out_of_fold.csv`; nine digits are enough for every bit of a float32.

    Args:
        rows: the judged frames, each with its fold.
        answers: of the head and the score of each frame's fold.
        classes: names in the order of the logits.
        path: the file.
    """
    header = [*_COLUMNS, *(f"logit_{name}" for name in classes), _SCORE]
    lines = (
        [row.path, row.group, row.fold, row.label, "true" if row.kept else "false", *(f"{x:.9g}" for x in numbers)]
        for row, numbers in zip(rows, np.column_stack([answers.logits, answers.scores]), strict=True)
    )
    write_csv(path, chain([header], lines))


def read_out_of_fold(rows: Sequence[Row], classes: Sequence[str], path: Path) -> Answers:
    """Read the answers for some frames, in their order.

    Args:
        rows: frames of `data/split.csv` that have a fold.
        classes: names in the order of the logits.
        path: `reports/train/out_of_fold.csv`.

    Raises:
        DataError: the file is missing or not one that `pipe train` wrote, or it lacks a frame in its fold.
    """
    lines = read_table(path)
    header, expected = next(lines, []), [*_COLUMNS, *(f"logit_{name}" for name in classes), _SCORE]
    if header != expected:
        raise DataError(f"{path}: found the columns {','.join(header) or 'none'}; expected {','.join(expected)}")
    position_of = {(row.path, str(row.fold)): position for position, row in enumerate(rows)}
    numbers, is_there = np.zeros((len(rows), len(expected) - len(_COLUMNS)), np.float32), np.zeros(len(rows), bool)
    try:
        for path_, _, fold, _, _, *texts in lines:
            position = position_of.get((path_, fold))
            if position is not None:  # numbers at once: the texts of all lines take ten times the memory
                numbers[position] = np.array(texts, dtype=np.float32).reshape(numbers.shape[1])
                is_there[position] = True
    except ValueError as error:
        raise DataError(f"{path}: a line does not fit its columns ({error}); run `pipe train` again") from error
    if not is_there.all():
        row = rows[int(np.argmin(is_there))]
        raise DataError(f"{path}: no line of {row.path} in fold {row.fold}; expected one, run `pipe train` again")
    if not np.isfinite(numbers).all():
        raise DataError(f"{path}: found a value that is no finite number; run `pipe train` again")
    return Answers(numbers[:, :-1], numbers[:, -1])
