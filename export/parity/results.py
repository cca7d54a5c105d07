"""What parity found: of each variant, and of all of them, as `reports/parity.json` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from export.graphs.gates import FAILED, PASSED, WORST_FIRST, Judgement
from export.parity.blame import Blame
from pipeline.base.words import counted
from pipeline.network.clip_answers import ClipAnswers

FP32 = "fp32"


@dataclass(frozen=True)
class OddSize:
    """The graph beside torch on one picture of an extreme size."""

    name: str  # width x height, such as 5000x3
    difference: float | None  # the largest logit difference; None: the graph cannot run the picture
    reason: str | None  # why the graph fails on it; None: the graph holds

    def __post_init__(self) -> None:
        if self.difference is None and self.reason is None:
            raise ValueError(f"{self.name}: a picture that the graph cannot run fails for a reason")


@dataclass(frozen=True)
class VariantResult:
    """One variant held against torch, on each of its routes."""

    precision: str
    graph_sha256: str
    routes: Mapping[str, Judgement]  # by the route's name; the first is the device's runtime, and gives the figures
    odd_sizes: tuple[OddSize, ...] | None = None  # None: not compared; all variants share fp32's preprocessing
    blame: Blame | None = None  # None: nothing flips and nothing fails on the test side

    def __post_init__(self) -> None:
        if not self.routes:
            raise ValueError("a variant is judged on at least one route")

    @property
    def judgement(self) -> Judgement:
        """The figures: those of the device's runtime."""
        return next(iter(self.routes.values()))

    @property
    def verdict(self) -> str:
        """The worst verdict of all routes; failed where an odd size fails."""
        verdicts = [judgement.verdict for judgement in self.routes.values()]
        verdicts += [FAILED for size in self.odd_sizes or () if size.reason]
        return min(verdicts, key=WORST_FIRST.index)

    @property
    def reasons(self) -> list[str]:
        """The reasons of all routes, each once; those of later routes name their route."""
        reasons = list(self.judgement.reasons)
        for name, judgement in list(self.routes.items())[1:]:
            reasons += [f"{name}: {reason}" for reason in judgement.reasons if reason not in reasons]
        return reasons + [f"a picture of {size.name}: {size.reason}" for size in self.odd_sizes or () if size.reason]

    def to_json(self) -> dict[str, Any]:
        """Return the figures, the verdict and its explanation as `reports/parity.json` holds them."""
        odd_sizes = None if self.odd_sizes is None else {size.name: size.difference for size in self.odd_sizes}
        return {
            **self.judgement.to_json(),
            "verdict": self.verdict,
            "reasons": self.reasons,
            "precision": self.precision,
            "graph_sha256": self.graph_sha256,
            "routes": {name: _short(judgement) for name, judgement in self.routes.items()},
            **({} if odd_sizes is None else {"odd_sizes": odd_sizes}),
            "blame": None if self.blame is None else self.blame.to_json(),
        }


@dataclass(frozen=True)
class ParityReport:
    """The verdict on every variant. When fp32 fails, no variant passes."""

    variants: Mapping[str, VariantResult]  # the contract's recommended variant first, then in the contract's order
    checkpoint_sha256: str  # of the network that the graphs were held against
    answers: Mapping[str, ClipAnswers]  # by variant: the clips as the device answers them with it

    def __post_init__(self) -> None:
        if FP32 not in self.variants:
            raise ValueError("a report on parity holds the variant fp32")

    @property
    def passed(self) -> bool:
        """Whether fp32 computes what was trained."""
        return self.variants[FP32].verdict == PASSED

    @property
    def recommended(self) -> str | None:
        """The first variant that passed; None where fp32 did not."""
        proven = [name for name, result in self.variants.items() if result.verdict == PASSED]
        return proven[0] if self.passed else None

    def _as_device(self) -> dict[str, Any] | None:
        """The clips as the recommended variant answers them; None where none may ship."""
        if self.recommended is None:
            return None
        return {"variant": self.recommended, **self.answers[self.recommended].to_json()}

    @property
    def headline(self) -> str:
        """One line: the verdict, and for each variant the flips and the largest difference."""
        lines = "; ".join(_line(name, result) for name, result in self.variants.items())
        return f"parity {'passed' if self.passed else 'FAILED'}: {lines}; reports/parity.json"

    def to_json(self) -> dict[str, Any]:
        """Return the content of `reports/parity.json`."""
        return {
            "passed": self.passed,
            "recommended": self.recommended,
            "as_device": self._as_device(),
            "variants": {name: result.to_json() for name, result in self.variants.items()},
            "checkpoint_sha256": self.checkpoint_sha256,
        }


def _short(judgement: Judgement) -> dict[str, Any]:
    """Return what the report keeps of a route."""
    values = judgement.to_json()
    return {name: values[name] for name in ("n_samples", "max_abs_logit_difference", "flips", "verdict", "reasons")}


def _line(name: str, result: VariantResult) -> str:
    judgement = result.judgement
    difference = judgement.max_abs_logit_difference
    largest = "no number" if difference is None else f"{difference:.2e}"
    verdict = "" if result.verdict == PASSED else f" ({result.verdict}: {', '.join(result.reasons)})"
    flips = f"{counted(judgement.flips, 'flip')} on {counted(judgement.n_samples, 'frame')}"
    return f"{name}: {flips}, largest logit difference {largest} of a range of {judgement.logit_range:.2f}{verdict}"
