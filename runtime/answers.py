"""What a graph says about some pictures, before the contract says what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

KNOWN_SCORE: Final = "known_score"  # the second output of a graph whose thresholds are for it

SCORE_RANGE = 4.0  # of the known score, a sum of two cosines
# Rounding may move a known score by as much in float32: it is a quotient, and pictures that are alike make it small.
ROUNDING_OF_SCORES = 0.02


@dataclass(frozen=True)
class Answers:
    """The logits and the score of each picture."""

    logits: NDArray[np.float32]  # (n, classes), before the temperature
    scores: NDArray[np.float32]  # (n,), high where a picture shows one of the classes; the thresholds are for it

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or self.scores.shape != self.logits.shape[:1]:
            raise ValueError(f"found logits {self.logits.shape} and scores {self.scores.shape}; expected (n, ..), (n,)")

    def __len__(self) -> int:
        return len(self.logits)

    def __repr__(self) -> str:
        return f"Answers(logits {self.logits.shape}, scores {self.scores.shape})"

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Answers:
        """Return the answers for some pictures, chosen by a mask, positions or a slice."""
        return Answers(self.logits[chosen], self.scores[chosen])

    @classmethod
    def of_logits(cls, logits: NDArray[np.float32]) -> Answers:
        """Return answers whose score is the largest logit, as where a graph gives no other."""
        return cls(logits, logits.max(axis=1))

    @classmethod
    def of_outputs(cls, outputs: list[NDArray[np.float32]]) -> Answers:
        """Return the answers that the outputs of a graph are: logits, and the known score where there is one."""
        return cls(*outputs) if len(outputs) == 2 else cls.of_logits(*outputs)


def probabilities_of(logits: NDArray[np.floating[Any]], temperature: float | None) -> NDArray[np.float64]:
    """Return the softmax of logits (..., classes), in float64; a temperature of None counts as 1."""
    below = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # a very low temperature overflows to -inf, which is probability 0
        shares = np.exp(below / (temperature or 1.0))
    probabilities: NDArray[np.float64] = shares / shares.sum(axis=-1, keepdims=True)
    return probabilities


def nothing(n_pictures: int, n_classes: int) -> Answers:
    """Return answers that are no numbers, as of a graph that failed."""
    return Answers(np.full((n_pictures, n_classes), np.nan, np.float32), np.full(n_pictures, np.nan, np.float32))


def joined(parts: list[Answers]) -> Answers:
    """Return the answers for one batch after the other, at least one."""
    return Answers(np.concatenate([part.logits for part in parts]), np.concatenate([part.scores for part in parts]))
