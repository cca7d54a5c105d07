"""A paired test of two classifiers, clip by clip: whether one is better than the other on the same clips."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.base.numbers.checked_values import ROUNDING, require, require_shares
from pipeline.base.words import counted

_ALPHA = 0.05


@dataclass(frozen=True)
class PairedTest:
    """How many clips only one of two classifiers calls right, and whether chance explains the difference."""

    n_clips: int
    better: int  # clips that the trained network alone calls right
    worse: int  # clips that the baseline alone calls right
    difference: float  # of the shares of right clips, the network's less the baseline's
    p: float  # exact and two-sided (McNemar): how often chance would give a difference at least as large

    def __post_init__(self) -> None:
        require(self.n_clips > 0, "n_clips", self.n_clips, "at least 1")
        require(min(self.better, self.worse) >= 0, "better and worse", (self.better, self.worse), "0 or more")
        differing = self.better + self.worse
        require(differing <= self.n_clips, "better and worse", differing, f"at most {self.n_clips} clips")
        expected = (self.better - self.worse) / self.n_clips
        require(abs(self.difference - expected) <= ROUNDING, "difference", self.difference, expected)
        require_shares(p=self.p)

    @property
    def verdict(self) -> Literal["better", "worse", "cannot tell"]:
        """What the clips show of the trained network."""
        if self.p >= _ALPHA:
            return "cannot tell"
        return "better" if self.better > self.worse else "worse"

    @property
    def sentence(self) -> str:
        """What the test shows, in words."""
        if not self.better + self.worse:
            return f"Training and the baseline are right on the same of {self.n_clips} clips: these cannot tell"
        numbers = (
            f"training alone is right on {counted(self.better, 'clip')}, the baseline alone on {self.worse} "
            f"(p = {self.p:.2g}, exact McNemar test over {counted(self.n_clips, 'clip')})"
        )
        if self.verdict == "cannot tell":
            return f"These clips do not show whether training made it better: {numbers}"
        return f"Training made it {self.verdict}: {numbers}"

    def to_json(self) -> dict[str, Any]:
        """The values by the names of the fields, with the verdict and the sentence."""
        return {**asdict(self), "verdict": self.verdict, "sentence": self.sentence}


def paired_test(trained_right: NDArray[np.bool_], baseline_right: NDArray[np.bool_]) -> PairedTest:
    """Test whether the trained network and a baseline call as many of the same clips right (both (clips,))."""
    if trained_right.shape != baseline_right.shape:
        raise ValueError(f"{len(trained_right)} and {len(baseline_right)} clips; expected the same clips")
    better, worse = int((trained_right & ~baseline_right).sum()), int((baseline_right & ~trained_right).sum())
    p = float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return PairedTest(len(trained_right), better, worse, (better - worse) / len(trained_right), p)
