"""The checkpoint: what training writes, and what later stages rebuild the network from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.errors import DataError, PipeError, one_line
from pipeline.base.files import replacing_file
from pipeline.base.manifest import Row
from pipeline.base.project import Project, missing
from pipeline.network.architectures import TIMM
from pipeline.network.calibration import Calibration, calibration_from_plain, calibration_to_plain
from pipeline.network.known_score import KnownScore, answers_of, known_score_from_plain
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.network.preprocess import Preprocess
from pipeline.network.torch_files import load_weights, read_plain, state_dict_of, write_plain
from runtime.answers import Answers

FORMAT_VERSION = 6

Estimate = Literal["folds", "holdout"]
Refit = Literal["all", "none"]


@dataclass(frozen=True)
class Checkpoint:
    """The fitted network with everything needed to rebuild it; later stages do not read `params.yaml` for it."""

    state_dict: dict[str, Tensor]
    classes: tuple[str, ...]
    model: ModelParams
    preprocess: Preprocess
    fingerprints: dict[str, str | None]  # git commit, sha256 of data/split.csv, and of the code that trained
    selection: str  # which epoch was kept: last, best_val or best_test
    estimate: Estimate  # which clips judge the network: each by the head of its fold, or the test side
    refit: Refit  # which clips the network learned from: all that have a fold, or the training side
    learned_from: tuple[str, ...]  # sha256 of every recording that the network learned from, sorted
    calibration: Calibration
    sample_bits: int | None = None  # of `image.sample_bits`: how many bits of 16 count in a picture
    known_score: KnownScore | None = None  # the thresholds are for it; None: there are no thresholds

    def __post_init__(self) -> None:
        """Check the values that no network checks.

        Raises:
            ValueError: the classes are no list of different names, or the estimate and the learned clips contradict.
        """
        if self.estimate not in get_args(Estimate) or self.refit not in get_args(Refit):
            raise ValueError(f"found the estimate {self.estimate!r} and refit {self.refit!r}; expected known words")
        if self.refit == "all" and self.estimate == "holdout":
            raise ValueError("found a network that learned from all clips and is judged on held-out ones")
        if self.calibration.unknown is not None and self.known_score is None:
            raise ValueError("found thresholds without the score that they are for")
        if self.sample_bits is not None and self.sample_bits not in range(9, 17):
            raise ValueError(f"found sample_bits {self.sample_bits!r}; expected 9 to 16")
        if not self.classes or len(set(self.classes)) != len(self.classes) or not all(self.classes):
            raise ValueError(f"found the classes {', '.join(map(repr, self.classes))}; expected different names")

    def network(self) -> Network:
        """Rebuild the network in float32, in eval mode, with channels last: a CPU takes up to half the time so.

        Raises:
            DataError: the weights are not those of the network that the checkpoint describes.
        """
        model = self.model.model_copy(update={"weights": "none"})
        try:
            network = build_network(model, self.preprocess.size, len(self.classes))
            load_weights(network, self.state_dict)
        except (PipeError, RuntimeError, TypeError, ValueError, MemoryError) as error:
            reason = one_line(error)
            raise DataError(
                f"checkpoint.pt: its weights do not fit its network ({reason}); run `pipe train`"
            ) from error
        return network.float().eval().to(memory_format=torch.channels_last)

    def answers(self, network: Network, input_nchw: Tensor) -> Answers:
        """Run the network of this checkpoint on preprocessed pictures (n, 3, size, size)."""
        pooled = network.embed(input_nchw)
        return answers_of(network.head(pooled).numpy(), pooled.numpy(), self.known_score)

    def write(self, path: Path) -> None:
        """Write plain Python values and tensors only, so that `weights_only=True` can read them."""
        value = {
            "format_version": FORMAT_VERSION,
            "state_dict": self.state_dict,
            "classes": list(self.classes),
            "model": self.model.model_dump(mode="json"),
            "preprocess": asdict(self.preprocess),
            "fingerprints": self.fingerprints,
            "selection": self.selection,
            "estimate": self.estimate,
            "refit": self.refit,
            "learned_from": list(self.learned_from),
            "calibration": calibration_to_plain(self.calibration),
            "sample_bits": self.sample_bits,
            "known_score": None if self.known_score is None else self.known_score.to_tensors(),
        }
        with replacing_file(path) as temporary:
            write_plain(value, temporary)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `models/checkpoint.pt` without running code from it.

    Raises:
        DataError: the file is missing, is not a checkpoint, is of another format version, or a value does not fit.
    """
    if not path.is_file():
        raise missing(path)
    value = read_plain(path)
    version = value.get("format_version") if isinstance(value, dict) else None
    version = version if isinstance(version, int | None) else type(version).__name__
    if version not in (5, FORMAT_VERSION):
        raise DataError(f"{path}: found checkpoint format {version}; expected {FORMAT_VERSION}; run `pipe train`")
    try:
        checkpoint = _from_plain(value)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RuntimeError,
    ) as error:  # ValueError: pydantic's too
        reason = one_line(error)
        raise DataError(f"{path}: a value of the checkpoint does not fit ({reason}); run `pipe train`") from error
    model = checkpoint.model
    if version == 5 and model.arch.startswith(TIMM) and model.head != "plain" and model.pooling == "average":
        raise DataError(
            f"{path}: found checkpoint format 5 of {model.arch}, which was pooled otherwise than published; "
            f"expected {FORMAT_VERSION}; run `pipe train`"
        )
    return checkpoint


def _from_plain(value: dict[str, Any]) -> Checkpoint:
    """Build the checkpoint from plain values, which may come from anybody."""
    return Checkpoint(
        state_dict=state_dict_of(value["state_dict"]),
        classes=tuple(map(_name, value["classes"])),
        model=ModelParams.model_validate(value["model"]),
        preprocess=Preprocess(**{key: _tuple(item) for key, item in value["preprocess"].items()}),
        fingerprints={_name(key): None if item is None else _name(item) for key, item in value["fingerprints"].items()},
        selection=_name(value["selection"]),
        estimate=value["estimate"],
        refit=value["refit"],
        learned_from=tuple(map(_name, value["learned_from"])),
        calibration=calibration_from_plain(value["calibration"]),
        sample_bits=value["sample_bits"],
        known_score=known_score_from_plain(value["known_score"]),
    )


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"found {value!r}; expected a text")
    return value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def class_numbers(rows: Sequence[Row], checkpoint: Checkpoint, project: Project) -> NDArray[np.int64]:
    """Return the class number of each row (n,), in the order of the checkpoint's logits.

    Args:
        rows: rows of `data/split.csv`.
        checkpoint: gives the classes and their order.
        project: the project of the rows, whose split the message names.

    Raises:
        DataError: a row has a class that the checkpoint does not know.
    """
    unknown = sorted({row.label for row in rows} - set(checkpoint.classes))
    if unknown:
        known = ", ".join(checkpoint.classes)
        raise DataError(
            f"{project.split_csv}: found the class {unknown[0]!r}; the checkpoint knows {known}; train again"
        )
    return np.array([checkpoint.classes.index(row.label) for row in rows])
