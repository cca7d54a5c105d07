"""Which smaller cores are tried, in which order, and which of them are kept: a choice on validation frames."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from export.export.quantize import (
    WEIGHTED,
    Int8,
    Ranges,
    last_layers,
    layers_beyond_fp16,
    layers_by_sensitivity,
    measure_ranges,
    to_fp16,
    to_int8,
)
from export.export.reference_frames import Evidence
from export.export.torch_export import EXPORTER_ERRORS
from export.graphs.gates import FAILED, PASSED, judge
from export.graphs.params import ParityParams
from export.graphs.runner import Graph, median_ms
from pipeline.base.errors import DataError

Mode = Literal["fast", "full"]

EQUALLY_FAST = 1.05  # a graph within five per cent of another is as fast: timing says no more
EQUALLY_SMALL = 1.01
FLOAT_SHARES = (0.1, 0.25)  # of the layers with weights, the most sensitive, which then stay float
SENSITIVITY_FRAMES = 8
TOLERANCE_FRAMES = 12
TOLERANCE_FACTOR = 2  # another processor's arithmetic is none of those tried here
LATENCY_ROUNDS = 10


@dataclass(frozen=True)
class Candidate:
    """A smaller core that is yet to be made."""

    name: str
    precision: Literal["fp32", "fp16", "int8"]
    make: Callable[[], tuple[onnx.ModelProto, Sequence[str]]]  # the core, and the layers that stayed float


@dataclass(frozen=True)
class Trial:
    """A candidate that was made and judged on validation frames."""

    name: str
    precision: Literal["fp32", "fp16", "int8"]
    numbers: dict[str, Any]  # as `judge` gives them
    core: onnx.ModelProto | None = None  # None where it could not be made
    float_layers: Sequence[str] = ()
    median_ms: float | None = None  # the core alone, one picture; measured where it may be chosen

    @property
    def bytes(self) -> int:
        """Of the core."""
        return 0 if self.core is None else self.core.ByteSize()

    @property
    def failed(self) -> bool:
        """Whether it cannot be chosen. Too few validation frames to tell is no failure: test frames decide."""
        return bool(self.numbers["verdict"] == FAILED)

    def summary(self, chosen: bool) -> dict[str, Any]:
        """For `reports/export.json`."""
        said = {"name": self.name, "precision": self.precision, "chosen": chosen, "core_bytes": self.bytes or None}
        return {**said, "median_ms": self.median_ms, "float_layers": list(self.float_layers), **self.numbers}


class Workshop:
    """What candidates of one core are made from; everything slow is measured once, when it is first asked for."""

    def __init__(self, core: onnx.ModelProto, calibration_nchw: NDArray[np.float32]) -> None:
        self._core = core
        self._calibration_nchw = calibration_nchw
        self.ranges: Callable[[Any], Ranges] = functools.cache(self._ranges)
        self.by_sensitivity: Callable[[], list[str]] = functools.cache(self._by_sensitivity)

    def fp16(self) -> Iterator[Candidate]:
        """Half precision: all but what would overflow; then the last layers float too."""
        yield Candidate("fp16", "fp16", lambda: self._half([]))
        yield Candidate("fp16_without_last_layers", "fp16", lambda: self._half(last_layers(self._core)))

    def int8(self, mode: Mode) -> Iterator[Candidate]:
        """Integers: the recipe that holds most often, or all (full); then with the most sensitive layers float."""
        recipes = [Int8(), Int8(calibration="percentile")]
        if mode == "full":
            grid = itertools.product(("u8", "s8"), (True, False), (False, True), ("minmax", "percentile"))
            recipes = [Int8(*each) for each in grid]  # type: ignore[arg-type]
        for recipe in recipes:
            yield Candidate(str(recipe), "int8", functools.partial(self._integers, recipe, 0))
        for share in FLOAT_SHARES:
            name = f"{Int8()}_without_{share:.0%}_of_layers".replace("%", "_percent")
            yield Candidate(name, "int8", functools.partial(self._integers, Int8(), share))

    def _half(self, float_layers: Sequence[str]) -> tuple[onnx.ModelProto, Sequence[str]]:
        kept = list(dict.fromkeys([*layers_beyond_fp16(self._core, self.ranges("minmax")), *float_layers]))
        return to_fp16(self._core, kept), kept

    def _integers(self, recipe: Int8, float_share: float) -> tuple[onnx.ModelProto, Sequence[str]]:
        kept: list[str] = []
        if float_share:
            n_layers = sum(node.op_type in WEIGHTED for node in self._core.graph.node)
            kept = self.by_sensitivity()[: max(1, round(float_share * n_layers))]
        recipe = replace(recipe, float_layers=tuple(kept))
        return to_int8(self._core, self.ranges(recipe.calibration), recipe), kept

    def _ranges(self, calibration: Literal["minmax", "percentile"]) -> Ranges:
        return measure_ranges(self._core, self._calibration_nchw, calibration)

    def _by_sensitivity(self) -> list[str]:
        few_nchw = self._calibration_nchw[:SENSITIVITY_FRAMES]
        return layers_by_sensitivity(self._core, self.ranges("minmax"), Int8(), few_nchw)


def search(fp32: Trial, workshop: Workshop, mode: Mode, evidence: Evidence, gates: ParityParams) -> list[Trial]:
    """Try the candidates of both smaller precisions, in order; fast stops at the first that does not fail.

    Returns:
        The float32 core and every trial, those that did not fail with their times.
    """
    trials = [fp32]
    for candidates in (workshop.fp16(), workshop.int8(mode)):
        for candidate in candidates:
            trials.append(judged(candidate, evidence, gates))
            if mode == "fast" and not trials[-1].failed:
                break
    return _timed(trials, evidence)


def judged(candidate: Candidate, evidence: Evidence, gates: ParityParams) -> Trial:
    """Make a candidate and hold its answers against torch's."""
    try:
        core, float_layers = candidate.make()
        logits = Graph(core.SerializeToString()).all_of(evidence.inputs_nchw)
    except (*EXPORTER_ERRORS, DataError) as error:
        reason = f"cannot be made ({' '.join(str(error).split())[:200]})"
        return Trial(candidate.name, candidate.precision, {"verdict": FAILED, "reasons": [reason]})
    numbers = judge(evidence.compare(logits), candidate.precision, gates)
    return Trial(candidate.name, candidate.precision, numbers, core, float_layers)


def chosen(trials: Sequence[Trial]) -> list[Trial]:
    """The best of each precision, the very best first: what failed on no gate, is fast, then small, then near to torch.

    Float32 is always among them: it is what the others are measured against.
    """
    eligible = [trial for trial in trials if not trial.failed or trial.precision == "fp32"]
    precisions = dict.fromkeys(trial.precision for trial in eligible)
    best = [_best([trial for trial in eligible if trial.precision == each]) for each in precisions]
    ranked = []
    while best:
        ranked.append(_best(best))
        best.remove(ranked[-1])
    return ranked


def golden_tolerance(trial: Trial, evidence: Evidence, least: float) -> float:
    """By how much another processor's logits may differ, as a share of their range.

    Measured, where rounding differs between processors: against onnxruntime without its fusions (integers in float
    arithmetic) and with the kernels of older processors, and for half precision against torch's float32.
    """
    assert trial.core is not None  # noqa: S101  # only what was made is chosen
    if trial.precision == "fp32":
        return least
    inputs_nchw, graph = evidence.inputs_nchw[:TOLERANCE_FRAMES], trial.core.SerializeToString()
    logits = Graph(graph).all_of(inputs_nchw)
    others = [Graph(graph, how).all_of(inputs_nchw) for how in ("as_written", "without_vnni")]
    if trial.precision == "fp16":
        others.append(evidence.torch_logits[:TOLERANCE_FRAMES])
    largest = max(float(np.abs(other - logits).max()) for other in others)
    return min(0.99, max(least, round(TOLERANCE_FACTOR * largest / float(np.ptp(logits)), 4)))


def _timed(trials: Sequence[Trial], evidence: Evidence) -> list[Trial]:
    racing = [trial for trial in trials if not trial.failed and trial.core is not None]
    graphs = [Graph(trial.core.SerializeToString()) for trial in racing if trial.core is not None]
    times = dict(
        zip((trial.name for trial in racing), median_ms(graphs, evidence.inputs_nchw[:1], LATENCY_ROUNDS), strict=True)
    )
    return [replace(trial, median_ms=times.get(trial.name)) for trial in trials]


def _best(trials: Sequence[Trial]) -> Trial:
    """Proven before not proven; of the fastest the smallest; of the smallest the one that is nearest to torch."""
    proven = [trial for trial in trials if trial.numbers["verdict"] == PASSED] or list(trials)
    fastest = min(trial.median_ms or float("inf") for trial in proven)
    fast = [trial for trial in proven if (trial.median_ms or float("inf")) <= fastest * EQUALLY_FAST]
    smallest = min(trial.bytes for trial in fast)
    small = [trial for trial in fast if trial.bytes <= smallest * EQUALLY_SMALL]
    return min(small, key=_distance)


def _distance(trial: Trial) -> float:
    """How far its logits are from torch's; of one that gave no numbers as far as can be."""
    difference: float | None = trial.numbers.get("max_abs_logit_difference")
    return float("inf") if difference is None else difference
