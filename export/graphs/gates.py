"""The gates: by how much a graph may differ from torch, by its precision. Export chooses by them, parity judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.params import Fp16Gate, Fp32Gate, Int8Gate, ParityParams
from pipeline.base.errors import DataError

PASSED, FAILED, UNDECIDABLE = "passed", "failed", "undecidable"

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """Two answers to the same frames."""

    classes: Sequence[str]
    truth: NDArray[np.int64]  # (n,) class numbers
    torch_logits: Logits  # (n, classes)
    graph_logits: Logits  # (n, classes); not finite where the graph gave no number
    unknown_threshold: float | None = None  # below this largest logit a frame shows none of the classes

    def __post_init__(self) -> None:
        if not np.isfinite(self.torch_logits).all():
            raise DataError("a logit of the checkpoint is not a finite number; nothing can be compared; train again")

    @property
    def logit_range(self) -> float:
        """Largest minus smallest logit that torch gave: the scale on which differences are judged."""
        return float(self.torch_logits.max() - self.torch_logits.min())

    @property
    def difference(self) -> float:
        """The largest between two logits; infinite where the graph gave no number."""
        difference = np.abs(self.torch_logits - self.graph_logits).max()
        return float(difference) if np.isfinite(difference) else float("inf")

    @property
    def flipped(self) -> NDArray[np.bool_]:
        """(n,) where the two answer with different classes."""
        flipped: NDArray[np.bool_] = self.torch_logits.argmax(axis=1) != self.graph_logits.argmax(axis=1)
        return flipped

    def unknown(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) where torch, and where the graph, sees none of the classes."""
        threshold = -np.inf if self.unknown_threshold is None else self.unknown_threshold
        return self.torch_logits.max(axis=1) < threshold, self.graph_logits.max(axis=1) < threshold

    def lost(self) -> NDArray[np.int64]:
        """(n,) 1 where only torch is right, -1 where only the graph is, else 0."""
        right_in_torch, right_in_graph = (
            (logits.argmax(axis=1) == self.truth).astype(np.int64) for logits in (self.torch_logits, self.graph_logits)
        )
        lost: NDArray[np.int64] = right_in_torch - right_in_graph
        return lost


def judge(comparison: Comparison, precision: str, gates: ParityParams) -> dict[str, Any]:
    """The numbers of one graph, its verdict (`passed`, `failed` or `undecidable`) and the reasons for a bad one."""
    numbers = _numbers(comparison, gates.fp32.flip_margin)
    undecided: list[str] = []
    if not np.isfinite(comparison.graph_logits).all():
        reasons = ["a logit is not a finite number"]
    elif precision == "fp32":
        reasons = _against_fp32(comparison, numbers["flips_outside_margin"], gates.fp32)
    elif precision == "fp16":
        reasons = _against_fp16(numbers, gates.fp16)
    else:
        reasons = _against_int8(comparison, gates.int8)
        undecided = _undecided(comparison, gates.int8)
    verdict = FAILED if reasons else UNDECIDABLE if undecided else PASSED
    return {**numbers, "verdict": verdict, "reasons": reasons + undecided}


def margins(logits: Logits) -> Logits:
    """(n,) by how much the best class leads the second."""
    ordered = np.sort(logits, axis=1)
    leads: Logits = ordered[:, -1] - ordered[:, -2]
    return leads


def _numbers(comparison: Comparison, flip_margin: float) -> dict[str, Any]:
    sure = margins(comparison.torch_logits) > flip_margin * comparison.logit_range
    difference, lost = comparison.difference, comparison.lost()
    unknown_in_torch, unknown_in_graph = comparison.unknown()
    return {
        "n_samples": len(comparison.truth),
        "max_abs_logit_difference": difference if np.isfinite(difference) else None,
        "logit_range": comparison.logit_range,
        "top1_agreement": float(1 - comparison.flipped.mean()),
        "flips": int(comparison.flipped.sum()),
        "flips_outside_margin": int((comparison.flipped & sure).sum()),
        "top1": float((comparison.graph_logits.argmax(axis=1) == comparison.truth).mean()),
        "top1_drop": float(lost.mean()),
        "worst_class_drop": max(
            float(lost[comparison.truth == number].mean()) for number in np.unique(comparison.truth)
        ),
        "unknown": int(unknown_in_graph.sum()),
        "unknown_flips": int((unknown_in_torch != unknown_in_graph).sum()),
    }


def _against_fp32(comparison: Comparison, flips_outside_margin: int, gate: Fp32Gate) -> list[str]:
    reasons = []
    allowed = gate.max_logit_difference * comparison.logit_range
    if comparison.difference > allowed:
        reasons.append(f"largest logit difference {comparison.difference:.3g}; allowed {allowed:.3g}")
    if flips_outside_margin:
        reasons.append(f"{flips_outside_margin} flips where torch was sure; allowed 0")
    return reasons


def _against_fp16(numbers: Mapping[str, Any], gate: Fp16Gate) -> list[str]:
    n_frames = numbers["n_samples"]
    allowed = _at_least_one(gate.max_flips, n_frames)
    found = {"flip": numbers["flips"], "change between a class and none": numbers["unknown_flips"]}
    return [f"{n} of {n_frames} frames {what}; allowed {allowed}" for what, n in found.items() if n > allowed]


def _against_int8(comparison: Comparison, gate: Int8Gate) -> list[str]:
    reasons, lost = [], comparison.lost()
    allowed = _at_least_one(gate.max_top1_drop, len(lost))
    if lost.sum() > allowed:
        reasons.append(f"{lost.sum()} of {len(lost)} right answers lost; allowed {allowed}")
    unknown_in_torch, unknown_in_graph = comparison.unknown()
    more = int(unknown_in_graph.sum() - unknown_in_torch.sum())
    if more > allowed:
        reasons.append(f"{more} more of {len(lost)} frames taken for none of the classes; allowed {allowed}")
    for number, name in enumerate(comparison.classes):
        of_class = lost[comparison.truth == number]
        allowed = _at_least_one(gate.max_worst_class_drop, len(of_class))
        if of_class.sum() > allowed:
            reasons.append(f"{of_class.sum()} of {len(of_class)} right answers of {name} lost; allowed {allowed}")
    return reasons


def _undecided(comparison: Comparison, gate: Int8Gate) -> list[str]:
    counts = np.bincount(comparison.truth, minlength=len(comparison.classes))
    few = [f"{name} {n}" for name, n in zip(comparison.classes, counts, strict=True) if n < gate.min_class_frames]
    if not few:
        return []
    return [f"too few frames to tell ({', '.join(few)}); at least {gate.min_class_frames} of each class are needed"]


def _at_least_one(share: float, n_frames: int) -> int:
    return max(1, int(share * n_frames + 1e-9))  # a share of a count, such as 0.02 of 50, may fall a hair below it
