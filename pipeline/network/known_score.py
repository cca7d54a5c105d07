"""How much a picture looks like the training pictures: a number from its pooled features, low for unknown material.

The number is the sum of two cosines. The first is the largest cosine to a prototype; each class has a few. It
tells pictures that are nothing like the classes. The second is the largest cosine to the mean of a class, after
whitening: directions in which pictures of one class differ count less. It tells pictures that are near to a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.answers import Answers, joined

SHORTEST = 1e-6  # length of features, so that none is divided by 0

Array = NDArray[np.float32]


@dataclass(frozen=True)
class KnownScore:
    """What the score of a picture is computed from. Every column of the three matrices has one entry a channel."""

    prototypes: Array  # (channels, prototypes), of length 1
    middle: Array  # (channels,) the mean of the training pictures
    class_directions: Array  # (channels, classes) the classes' means less the middle, whitened twice
    common_directions: Array  # (channels, directions) in which pictures of one class differ; of length 0 to 1

    def __post_init__(self) -> None:
        for field in fields(self):
            array, n_axes = getattr(self, field.name), 1 if field.name == "middle" else 2
            if (
                array.ndim != n_axes
                or array.size == 0
                or len(array) != len(self.middle)
                or not np.isfinite(array).all()
            ):
                raise ValueError(f"found {field.name} {array.shape}; expected finite numbers, a row for each channel")

    def __call__(self, pooled: Array) -> Array:
        """Compute the scores (n,) of pooled features (n, channels)."""
        features = pooled.astype(np.float64)
        centred = features - self.middle
        nearest = (features @ self.prototypes).max(axis=1) / np.maximum(np.linalg.norm(features, axis=1), SHORTEST)
        squares = np.square(centred).sum(axis=1) - np.square(centred @ self.common_directions).sum(axis=1)
        whitened = (centred @ self.class_directions).max(axis=1) / np.sqrt(np.maximum(squares, SHORTEST**2))
        scores: Array = (nearest + whitened).astype(np.float32)
        return scores

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the arrays by name, as a checkpoint holds them."""
        return {field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> KnownScore:
        """Return the score of `to_tensors`.

        Raises:
            KeyError, TypeError, ValueError: a tensor is missing, is none, or has another shape.
        """
        arrays = {field.name: tensors[field.name] for field in fields(cls)}
        if not all(isinstance(tensor, Tensor) and tensor.dtype == torch.float32 for tensor in arrays.values()):
            raise TypeError("found values of the known score that are no tensors of float32")
        return cls(**{name: tensor.numpy() for name, tensor in arrays.items()})


def known_score_from_plain(value: Mapping[str, Tensor] | None) -> KnownScore | None:
    """Return the score that a checkpoint holds, if it holds one.

    Raises:
        KeyError, TypeError, ValueError: as `KnownScore.from_tensors`.
    """
    return None if value is None else KnownScore.from_tensors(value)


def answers_of(logits: Array, pooled: Array, score: KnownScore | None) -> Answers:
    """Return logits and scores together; without a known score the largest logit stands in its place.

    Args:
        logits: (n, classes).
        pooled: (n, channels), the input of the head.
        score: of the head's training pictures.
    """
    return Answers.of_logits(logits) if score is None else Answers(logits, score(pooled))


def answers_of_blocks(logits: Array, blocks: Iterable[Array], score: KnownScore | None) -> Answers:
    """As `answers_of`, from the features of some thousands of pictures at a time.

    Args:
        logits: (n, classes).
        blocks: (some, channels) each, n rows in all.
        score: of the head's training pictures.
    """
    parts, start = list[Answers](), 0
    for block in blocks:
        parts.append(answers_of(logits[start : start + len(block)], block, score))
        start += len(block)
    return joined(parts)
