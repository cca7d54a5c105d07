"""What turns logits into an answer: the temperature, and the thresholds below which a picture shows no known class.

All are fitted on frames that the judged head has not learned from. Frames of one clip say little about another clip,
so every clip has the same weight, however many frames it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from runtime.answers import Answers

RANGE = (0.01, 100.0)  # of temperatures
FEWEST_CLIPS = 10  # for thresholds: of fewer clips nobody can say how often a new one would be refused
MOST_CHANCE_OF_TWICE = 0.05  # that new clips fall below a threshold more than twice as often as is named
NO_NUMBERS = "a frame to calibrate on has logits or scores that are no numbers"
NOT_WANTED = "not wanted: train.unknown_false_alarms is null"

# Of log T, beside one nat of likelihood a clip: a few clips that are all right no longer ask for T = 0.
_PRIOR_DEVIATION = 0.5

Logits = NDArray[np.float32]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class UnknownThresholds:
    """Below them the score says: none of the classes."""

    frame: float  # for one picture
    clip: float  # for the mean over the frames of a clip
    false_alarms: float  # the share of new pictures and clips of known classes that fall below, about

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.frame, self.clip))):
            raise ValueError(f"found the thresholds {self.frame} and {self.clip}; expected finite numbers")
        if not 0 < self.false_alarms < 1:
            raise ValueError(f"found the false alarms {self.false_alarms}; expected a share between 0 and 1")


@dataclass(frozen=True)
class Calibration:
    """How logits become an answer, as a checkpoint holds it; None with the reason where a number is not known."""

    temperature: float | None  # divides the logits before the softmax
    temperature_reason: str | None
    unknown: UnknownThresholds | None
    unknown_reason: str | None

    def __post_init__(self) -> None:
        if self.temperature is not None and not RANGE[0] <= self.temperature <= RANGE[1]:
            raise ValueError(f"found the temperature {self.temperature}; expected {RANGE[0]:g} to {RANGE[1]:g}")
        for value, reason in ((self.temperature, self.temperature_reason), (self.unknown, self.unknown_reason)):
            if (value is None) == (reason is None):
                raise ValueError(f"found the value {value!r} and the reason {reason!r}; expected one of the two")

    @property
    def frame_threshold(self) -> float | None:
        """The threshold of one picture."""
        return None if self.unknown is None else self.unknown.frame


def not_calibrated(reason: str) -> Calibration:
    """A calibration without numbers, for a reason."""
    return Calibration(None, reason, None, reason)


def calibration_to_plain(calibration: Calibration) -> dict[str, Any]:
    """The values as plain numbers and texts, by name."""
    return asdict(calibration)


def calibration_from_plain(value: Mapping[str, Any]) -> Calibration:
    """The calibration of `calibration_to_plain`.

    Raises:
        KeyError, TypeError, ValueError: a value is missing or does not fit.
    """
    unknown = value["unknown"]
    return Calibration(
        temperature=_number(value["temperature"]),
        temperature_reason=value["temperature_reason"],
        unknown=None if unknown is None else UnknownThresholds(**{name: _number(x) for name, x in unknown.items()}),
        unknown_reason=value["unknown_reason"],
    )


def _number(value: object) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"found {value!r}; expected a number")
    return value


def calibrate(
    answers: Answers,
    truth: NDArray[np.int64],
    groups: Sequence[str],
    false_alarms: float | None,
    fewest_clips: int = FEWEST_CLIPS,
) -> Calibration:
    """Fit the temperature and the thresholds.

    Args:
        answers: for n frames that the network and the known score have not learned from.
        truth: (n,) class numbers.
        groups: (n,) the clip or photo of each frame.
        false_alarms: the share of known clips that may be refused; None fits no thresholds.
        fewest_clips: as in `fit_thresholds`.
    """
    if not np.isfinite(answers.logits).all() or not np.isfinite(answers.scores).all():
        return not_calibrated(NO_NUMBERS)
    temperature = fit_temperature(answers.logits, truth, groups)
    return Calibration(temperature, None, *fit_thresholds(answers.scores, groups, false_alarms, fewest_clips))


def fit_temperature(logits: Logits, truth: NDArray[np.int64], groups: Sequence[str]) -> float:
    """Fit the temperature: the smallest negative log-likelihood (Guo et al. 2017), with a prior on its logarithm.

    Each clip counts as the mean over its frames. The prior is normal around T = 1: with few clips, or with clips that
    are all right, the likelihood alone would give a temperature of almost 0.

    Args:
        logits: (n, classes), finite.
        truth: (n,) class numbers.
        groups: (n,) the clip or photo of each frame.
    """
    from scipy import optimize  # slow to import, and only `train` fits

    scores = logits.astype(np.float64)
    scores -= scores[np.arange(len(truth)), truth][:, None]  # of the truth: 0
    weights = _weights(groups)

    def loss(log_temperature: float) -> float:
        likelihood = special.logsumexp(scores / math.exp(log_temperature), axis=1)
        return float(weights @ likelihood + log_temperature**2 / (2 * _PRIOR_DEVIATION**2))

    bounds = tuple(map(math.log, RANGE))
    return math.exp(optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def fit_thresholds(
    scores: Scores, groups: Sequence[str], false_alarms: float | None, fewest_clips: int = FEWEST_CLIPS
) -> tuple[UnknownThresholds | None, str | None]:
    """Fit the thresholds of a score, or say why there are none.

    A frame of a new clip falls below the threshold with at most the stated probability, if the new clip resembles these
    clips. Each clip has the weight 1 / (clips + 1), and so has the new clip (Lee, Barber, Willett, "Distribution-free
    inference with hierarchical data", 2023). So no rate below 1 / (clips + 1) can be offered. Few clips may give a
    threshold that is too high by chance: then a lower one is taken, see `careful_rate`.

    Args:
        scores: (n,), finite.
        groups: (n,) the clip or photo of each frame.
        false_alarms: the share of known clips that may fall below; None fits no thresholds.
        fewest_clips: that thresholds are fitted to.
    """
    if false_alarms is None:
        return None, NOT_WANTED
    clips, clip_of_frame = np.unique(np.array(groups), return_inverse=True)
    if len(clips) < fewest_clips:
        return None, f"{len(clips)} clips or photos to calibrate on; thresholds need {fewest_clips}"
    rate = max(false_alarms, 1 / (len(clips) + 1))
    of_frames = scores.astype(np.float64)
    of_clips = np.bincount(clip_of_frame, weights=of_frames) / np.bincount(clip_of_frame)
    careful = careful_rate(rate, len(clips))
    frame, clip = _threshold(of_frames, groups, careful), _threshold(of_clips, clips.tolist(), careful)
    return UnknownThresholds(frame, clip, rate), None


def careful_rate(rate: float, n_clips: int) -> float:
    """The largest rate up to the named one that is seldom exceeded twice over.

    The threshold of clips is the score of one of them. The share of new clips below the one of rank r has the
    distribution Beta(r, clips + 1 - r), whatever the scores are (Vovk, "Conditional validity of inductive conformal
    predictors", 2012). The lowest score is taken where even this one does so too often, with fewer than 29 clips at
    5 %. The threshold of frames takes the same rate. Several frames a clip make it vary less than photos do.
    """
    named_rank, twice = int(rate * (n_clips + 1) + 1e-9), min(1.0, 2 * rate)

    def is_seldom_twice(rank: int) -> bool:
        return bool(1 - special.betainc(rank, n_clips + 1 - rank, twice) <= MOST_CHANCE_OF_TWICE)

    rank = next((rank for rank in range(named_rank, 1, -1) if is_seldom_twice(rank)), 1)
    return rate if rank == named_rank else rank / (n_clips + 1)


def _threshold(scores: NDArray[np.float64], groups: Sequence[str], rate: float) -> float:
    """The largest score below which lies at most the rate, a new clip counted."""
    order = np.argsort(scores, kind="stable")
    weights = _weights(groups)
    weight_of_clip = 1 / (len(set(groups)) + 1)
    below = weight_of_clip * (1 + np.cumsum(weights[order]) - weights[order])
    return float(scores[order[np.flatnonzero(below <= rate + 1e-9)[-1]]])


def _weights(groups: Sequence[str]) -> NDArray[np.float64]:
    """Weights (n,) of frames that give every clip the weight 1."""
    _, clip_of_frame, n_frames = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    return 1 / n_frames[clip_of_frame].astype(np.float64)
