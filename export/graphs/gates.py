"""The gates: how far a graph's logits may differ from torch's. Export and parity judge by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.params import Fp16Gate, Fp32Gate, Int8Gate, ParityParams
from pipeline.base.errors import DataError
from pipeline.base.words import counted
from runtime.answers import ROUNDING_OF_SCORES

PASSED, FAILED, UNDECIDABLE = "passed", "failed", "undecidable"
WORST_FIRST = (FAILED, UNDECIDABLE, PASSED)

Logits = NDArray[np.float32]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class LogitComparison:
    """The logits of torch and of a graph for the same frames."""

    classes: Sequence[str]
    truth: NDArray[np.int64]  # (n,) class indices
    torch_logits: Logits  # (n, classes)
    graph_logits: Logits  # (n, classes); not finite where the graph gave no number
    torch_scores: Scores | None = None  # (n,) what the threshold is for; None: the largest logits
    graph_scores: Scores | None = None
    # Torch's, one or one for each frame: a frame whose score is below it shows none of the classes.
    unknown_threshold: float | NDArray[np.float64] | None = None
    unknown_threshold_of_graph: float | NDArray[np.float64] | None = None  # the same for the graph; None: torch's

    def __post_init__(self) -> None:
        if not np.isfinite(self.torch_logits).all():
            raise DataError("a logit of the checkpoint is not a finite number; nothing can be compared; train again")

    @property
    def logit_range(self) -> float:
        """Largest minus smallest logit of torch: the scale on which differences are judged."""
        return float(self.torch_logits.max() - self.torch_logits.min())

    @property
    def difference(self) -> float:
        """The largest difference between two logits; infinite where the graph gave no number."""
        difference = np.abs(self.torch_logits - self.graph_logits).max()
        return float(difference) if np.isfinite(difference) else float("inf")

    @property
    def score_difference(self) -> float:
        """The largest difference between two known scores; 0 where there are none, infinite where one is missing."""
        if self.torch_scores is None or self.graph_scores is None:
            return 0.0
        difference = np.abs(self.torch_scores - self.graph_scores).max()
        return float(difference) if np.isfinite(difference) else float("inf")

    @property
    def flipped(self) -> NDArray[np.bool_]:
        """(n,) where torch and the graph answer with different classes."""
        flipped: NDArray[np.bool_] = self.torch_logits.argmax(axis=1) != self.graph_logits.argmax(axis=1)
        return flipped

    def n_flips_outside(self, margin: float) -> int:
        """Count the flips where torch's best logit leads the second by more than `margin`, a share of the range."""
        sure = margins(self.torch_logits) > margin * self.logit_range
        return int((self.flipped & sure).sum())

    def unknown(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) where torch, and (n,) where the graph, sees none of the classes."""
        of_torch = -np.inf if self.unknown_threshold is None else self.unknown_threshold
        of_graph = of_torch if self.unknown_threshold_of_graph is None else self.unknown_threshold_of_graph
        torch_scores = self.torch_logits.max(axis=1) if self.torch_scores is None else self.torch_scores
        graph_scores = self.graph_logits.max(axis=1) if self.graph_scores is None else self.graph_scores
        return torch_scores < of_torch, graph_scores < of_graph

    @property
    def n_unknown_flips(self) -> int:
        """How many frames show none of the classes to one of torch and the graph, and a class to the other."""
        unknown_in_torch, unknown_in_graph = self.unknown()
        return int((unknown_in_torch != unknown_in_graph).sum())

    def lost(self) -> NDArray[np.int64]:
        """(n,) 1 where only torch is right, -1 where only the graph is right, else 0."""
        right_in_torch, right_in_graph = (
            (logits.argmax(axis=1) == self.truth).astype(np.int64) for logits in (self.torch_logits, self.graph_logits)
        )
        lost: NDArray[np.int64] = right_in_torch - right_in_graph
        return lost


@dataclass(frozen=True)
class Judgement:
    """One graph held against torch: its figures, the verdict of its gates, and the reasons for a bad verdict."""

    n_samples: int  # frames that were compared
    max_abs_logit_difference: float | None  # None: the graph gave a logit that is not a finite number
    logit_range: float
    top1_agreement: float
    flips: int
    flips_outside_margin: int
    top1: float  # of the graph
    top1_drop: float  # torch's top-1 minus the graph's
    worst_class_drop: float
    unknown: int  # frames that show the graph none of the classes
    unknown_flips: int
    verdict: str  # passed, failed or undecidable
    reasons: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = (self.flips, self.unknown, self.unknown_flips)
        is_consistent = (
            self.n_samples >= 1
            and all(0 <= count <= self.n_samples for count in counts)
            and 0 <= self.flips_outside_margin <= self.flips
            and 0 <= self.top1 <= 1
            and self.verdict in WORST_FIRST
            and bool(self.reasons) == (self.verdict != PASSED)
        )
        if not is_consistent:
            raise ValueError(f"a judgement contradicts itself: {self}")

    def to_json(self) -> dict[str, Any]:
        """Return every figure, the verdict and the reasons, as the reports hold them."""
        return {**asdict(self), "reasons": list(self.reasons)}


def judge(comparison: LogitComparison, precision: str, gates: ParityParams) -> Judgement:
    """Apply the gates of a precision to a graph's logits.

    Args:
        comparison: the logits of torch and of the graph for the same frames.
        precision: of the graph: `fp32`, `fp16` or `int8`.
        gates: the section `parity` of `params.yaml`.
    """
    failures = _failures(comparison, precision, gates)
    gaps = _too_few_frames(comparison, gates.int8) if precision == "int8" and _is_finite(comparison) else []
    difference, lost = comparison.difference, comparison.lost()
    _, unknown_in_graph = comparison.unknown()
    return Judgement(
        n_samples=len(comparison.truth),
        max_abs_logit_difference=difference if np.isfinite(difference) else None,
        logit_range=comparison.logit_range,
        top1_agreement=float(1 - comparison.flipped.mean()),
        flips=int(comparison.flipped.sum()),
        flips_outside_margin=comparison.n_flips_outside(gates.fp32.flip_margin),
        top1=float((comparison.graph_logits.argmax(axis=1) == comparison.truth).mean()),
        top1_drop=float(lost.mean()),
        worst_class_drop=max(float(lost[comparison.truth == index].mean()) for index in np.unique(comparison.truth)),
        unknown=int(unknown_in_graph.sum()),
        unknown_flips=comparison.n_unknown_flips,
        verdict=FAILED if failures else UNDECIDABLE if gaps else PASSED,
        reasons=(*failures, *gaps),
    )


def margins(logits: Logits) -> Logits:
    """(n,) by how much the best class leads the second."""
    ordered = np.sort(logits, axis=1)
    leads: Logits = ordered[:, -1] - ordered[:, -2]
    return leads


def _is_finite(comparison: LogitComparison) -> bool:
    return bool(np.isfinite(comparison.graph_logits).all())


def _failures(comparison: LogitComparison, precision: str, gates: ParityParams) -> list[str]:
    if not _is_finite(comparison):
        return ["a logit is not a finite number"]
    if precision == "fp32":
        return _fp32_failures(comparison, gates.fp32)
    if precision == "fp16":
        return _fp16_failures(comparison, gates.fp16)
    return _int8_failures(comparison, gates.int8)


def _fp32_failures(comparison: LogitComparison, gate: Fp32Gate) -> list[str]:
    reasons = []
    allowed = gate.max_logit_difference * comparison.logit_range
    if comparison.difference > allowed:
        reasons.append(f"largest logit difference {comparison.difference:.3g}; allowed {allowed:.3g}")
    if comparison.score_difference > ROUNDING_OF_SCORES:
        reasons.append(f"largest score difference {comparison.score_difference:.3g}; allowed {ROUNDING_OF_SCORES}")
    if n_flips := comparison.n_flips_outside(gate.flip_margin):
        reasons.append(f"{counted(n_flips, 'flip')} where torch was sure; allowed 0")
    return reasons


def _fp16_failures(comparison: LogitComparison, gate: Fp16Gate) -> list[str]:
    n_frames = len(comparison.truth)
    allowed = _at_least_one(gate.max_flips, n_frames)
    changes = {
        "flip": int(comparison.flipped.sum()),
        "change between a class and none": comparison.n_unknown_flips,
    }
    return [f"{n} of {n_frames} frames {what}; allowed {allowed}" for what, n in changes.items() if n > allowed]


def _int8_failures(comparison: LogitComparison, gate: Int8Gate) -> list[str]:
    reasons, lost = [], comparison.lost()
    allowed = _at_least_one(gate.max_top1_drop, len(lost))
    if lost.sum() > allowed:
        reasons.append(f"{lost.sum()} of {len(lost)} right answers lost; allowed {allowed}")
    unknown_in_torch, unknown_in_graph = comparison.unknown()
    n_more_unknown = int(unknown_in_graph.sum() - unknown_in_torch.sum())
    if n_more_unknown > allowed:
        reasons.append(f"{n_more_unknown} more of {len(lost)} frames taken for none of the classes; allowed {allowed}")
    for index, name in enumerate(comparison.classes):
        of_class = lost[comparison.truth == index]
        allowed = _at_least_one(gate.max_worst_class_drop, len(of_class))
        if of_class.sum() > allowed:
            reasons.append(f"{of_class.sum()} of {len(of_class)} right answers of {name} lost; allowed {allowed}")
    return reasons


def _too_few_frames(comparison: LogitComparison, gate: Int8Gate) -> list[str]:
    counts = np.bincount(comparison.truth, minlength=len(comparison.classes))
    few = [f"{name} {n}" for name, n in zip(comparison.classes, counts, strict=True) if n < gate.min_class_frames]
    if not few:
        return []
    return [f"too few frames to tell ({', '.join(few)}); at least {gate.min_class_frames} of each class are needed"]


def _at_least_one(share: float, n_frames: int) -> int:
    """How many of `n_frames` a share allows: one frame is always allowed."""
    return max(1, int(share * n_frames + 1e-9))  # floating point puts a share such as 0.02 of 50 a hair below a count
