"""The search for smaller cores: which are tried, in which order, and which are kept. Validation frames decide."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from export.export.half_arithmetic import logits_in_half
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
from export.export.reference_frames import ReferenceFrames
from export.export.torch_export import EXPORTER_ERRORS
from export.graphs.gates import FAILED, PASSED, Judgement, Logits, judge
from export.graphs.params import ParityParams
from export.graphs.runner import Graph, median_ms
from pipeline.base.errors import DataError
from runtime.bench import EQUALLY_FAST

Mode = Literal["fast", "full"]
Precision = Literal["fp32", "fp16", "int8"]

EQUALLY_SMALL = 1.01
FLOAT_SHARES = (0.1, 0.25)  # of the layers with weights: the most sensitive, which then stay float
SENSITIVITY_FRAMES = 8
TOLERANCE_FRAMES = 12
TOLERANCE_FACTOR = 2  # the arithmetic of another processor is not among those that are tried here
LEAST_FP16_TOLERANCE = 0.015  # twice what a Cortex-A76 showed in emulation, whose sums are half precision
LATENCY_ROUNDS = 10


@dataclass(frozen=True)
class Candidate:
    """A core that has not been made yet."""

    name: str
    precision: Precision
    make: Callable[[], tuple[onnx.ModelProto, Sequence[str]]]  # the core, and the layers that stayed float


@dataclass(frozen=True)
class Trial:
    """A candidate after it was tried on validation frames."""

    name: str
    precision: Precision
    judgement: Judgement | None  # None: the core could not be made
    core: onnx.ModelProto | None = None
    float_layers: Sequence[str] = ()
    median_ms: float | None = None  # of the core alone, one picture; measured where the core may be chosen
    problem: str | None = None  # why the core could not be made

    def __post_init__(self) -> None:
        if (self.judgement is None) == (self.problem is None):
            raise ValueError(f"{self.name}: a trial has a judgement or a problem")

    @property
    def bytes(self) -> int:
        """Size of the core."""
        return 0 if self.core is None else self.core.ByteSize()

    @property
    def verdict(self) -> str:
        """Of the gates; failed where the core could not be made."""
        return FAILED if self.judgement is None else self.judgement.verdict

    @property
    def reasons(self) -> list[str]:
        """Why the verdict is bad."""
        return [str(self.problem)] if self.judgement is None else list(self.judgement.reasons)

    @property
    def failed(self) -> bool:
        """Whether the core cannot be chosen. Too few validation frames are no failure, since test frames decide."""
        return self.verdict == FAILED

    def to_json(self, chosen: bool) -> dict[str, Any]:
        """Return the trial as `reports/export.json` holds it."""
        figures = {} if self.judgement is None else self.judgement.to_json()
        return {
            "name": self.name,
            "precision": self.precision,
            "chosen": chosen,
            "core_bytes": self.bytes or None,
            "median_ms": self.median_ms,
            "float_layers": list(self.float_layers),
            **figures,
            "verdict": self.verdict,
            "reasons": self.reasons,
        }


class CandidateFactory:
    """Makes the candidates of one core. What is slow to measure is measured once, when it is first needed."""

    def __init__(self, core: onnx.ModelProto, calibration_nchw: NDArray[np.float32]) -> None:
        """Take the float32 core, and the frames (n, 3, size, size) on which ranges are measured."""
        self._core = core
        self._calibration_nchw = calibration_nchw
        self._ranges: Callable[[Any], Ranges] = functools.cache(self._measure_ranges)
        self._by_sensitivity: Callable[[], list[str]] = functools.cache(self._rank_layers)

    def fp16(self) -> Iterator[Candidate]:
        """Yield half precision: all layers but those that would overflow; then with the last layers float too."""
        yield Candidate("fp16", "fp16", lambda: self._make_fp16([]))
        yield Candidate("fp16_without_last_layers", "fp16", lambda: self._make_fp16(last_layers(self._core)))

    def int8(self, mode: Mode) -> Iterator[Candidate]:
        """Yield integers: the recipes that hold most often (fast) or all; then with the most sensitive layers float."""
        recipes = [Int8(), Int8(calibration="percentile")]
        if mode == "full":
            grid = itertools.product(("u8", "s8"), (True, False), (False, True), ("minmax", "percentile"))
            recipes = [Int8(*settings) for settings in grid]  # type: ignore[arg-type]
        for recipe in recipes:
            yield Candidate(str(recipe), "int8", functools.partial(self._make_int8, recipe, 0))
        for share in FLOAT_SHARES:
            name = f"{Int8()}_without_{share:.0%}_of_layers".replace("%", "_percent")
            yield Candidate(name, "int8", functools.partial(self._make_int8, Int8(), share))

    def _make_fp16(self, float_layers: Sequence[str]) -> tuple[onnx.ModelProto, Sequence[str]]:
        kept = list(dict.fromkeys([*layers_beyond_fp16(self._core, self._ranges("minmax")), *float_layers]))
        return to_fp16(self._core, kept), kept

    def _make_int8(self, recipe: Int8, float_share: float) -> tuple[onnx.ModelProto, Sequence[str]]:
        kept: list[str] = []
        if float_share:
            n_layers = sum(node.op_type in WEIGHTED for node in self._core.graph.node)
            kept = self._by_sensitivity()[: max(1, round(float_share * n_layers))]
        recipe = replace(recipe, float_layers=tuple(kept))
        return to_int8(self._core, self._ranges(recipe.calibration), recipe), kept

    def _measure_ranges(self, calibration: Literal["minmax", "percentile"]) -> Ranges:
        return measure_ranges(self._core, self._calibration_nchw, calibration)

    def _rank_layers(self) -> list[str]:
        few_nchw = self._calibration_nchw[:SENSITIVITY_FRAMES]
        return layers_by_sensitivity(self._core, self._ranges("minmax"), Int8(), few_nchw)


def search(
    fp32: Trial, factory: CandidateFactory, mode: Mode, frames: ReferenceFrames, gates: ParityParams
) -> list[Trial]:
    """Try the candidates of both smaller precisions in order, and time those that do not fail.

    Args:
        fp32: the float32 core, already tried.
        factory: makes the candidates.
        mode: `fast` stops at the first candidate of a precision that does not fail; `full` tries all.
        frames: the frames that decide.
        gates: the section `parity` of `params.yaml`.

    Returns:
        The float32 core, and then every candidate that was tried.
    """
    trials = [fp32]
    for candidates in (factory.fp16(), factory.int8(mode)):
        for candidate in candidates:
            trials.append(try_candidate(candidate, frames, gates))
            if mode == "fast" and not trials[-1].failed:
                break
    return _timed(trials, frames)


def try_candidate(candidate: Candidate, frames: ReferenceFrames, gates: ParityParams) -> Trial:
    """Make a candidate and compare its logits with torch's.

    Args:
        candidate: what is made.
        frames: the frames that decide, with torch's logits.
        gates: the section `parity` of `params.yaml`.
    """
    try:
        core, float_layers = candidate.make()
        logits = Graph(core.SerializeToString()).run_in_batches(frames.inputs_nchw)
    except (*EXPORTER_ERRORS, DataError) as error:
        problem = f"cannot be made ({' '.join(str(error).split())[:200]})"
        return Trial(candidate.name, candidate.precision, None, problem=problem)
    judgement = judge(frames.compare(logits), candidate.precision, gates)
    return Trial(candidate.name, candidate.precision, judgement, core, float_layers)


def best_of_each_precision(trials: Sequence[Trial]) -> list[Trial]:
    """Choose the best trial of each precision, and order them, the best first.

    The best passed its gates, is fast, then small, then near to torch. Float32 is always chosen, because the other
    precisions are measured against it.
    """
    eligible = [trial for trial in trials if not trial.failed or trial.precision == "fp32"]
    precisions = dict.fromkeys(trial.precision for trial in eligible)
    best = [_best([trial for trial in eligible if trial.precision == precision]) for precision in precisions]
    ranked = []
    while best:
        ranked.append(_best(best))
        best.remove(ranked[-1])
    return ranked


def golden_tolerance(trial: Trial, frames: ReferenceFrames, least: float) -> float:
    """Measure by how much another processor's logits may differ, as a share of their range.

    Rounding differs between processors. So the core is compared with itself in onnxruntime without fusions (integers
    in float arithmetic) and with the kernels of older processors. Half precision is also compared with torch's float32,
    and with sums that are rounded to half precision after every product.

    Args:
        trial: a core that was made.
        frames: the first `TOLERANCE_FRAMES` of them are used.
        least: the tolerance of float32, and the smallest of any precision.

    Raises:
        DataError: onnxruntime cannot run a layer of the core alone.
    """
    assert trial.core is not None  # noqa: S101  # only cores that were made are chosen
    if trial.precision == "fp32":
        return least
    inputs_nchw, graph = frames.inputs_nchw[:TOLERANCE_FRAMES], trial.core.SerializeToString()
    logits = Graph(graph).run_in_batches(inputs_nchw)
    alternatives = [Graph(graph, how).run_in_batches(inputs_nchw) for how in ("as_written", "without_vnni")]
    if trial.precision == "fp16":
        least = max(least, LEAST_FP16_TOLERANCE)
        alternatives += [frames.torch_logits[:TOLERANCE_FRAMES], logits_in_half(trial.core, inputs_nchw)]
    largest = max(_largest_difference(alternative, logits) for alternative in alternatives)
    return min(0.99, max(least, round(TOLERANCE_FACTOR * largest / float(np.ptp(logits)), 4)))


def _largest_difference(alternative: Logits, logits: Logits) -> float:
    """Return the largest difference on the frames that both have.

    Sums that overflow in half precision give no number, and no tolerance would help: the device's selfcheck names them.
    """
    difference = np.abs(alternative - logits[: len(alternative)])
    return float(difference[np.isfinite(difference)].max(initial=0.0))


def _timed(trials: Sequence[Trial], frames: ReferenceFrames) -> list[Trial]:
    eligible = [trial for trial in trials if not trial.failed and trial.core is not None]
    graphs = [Graph(trial.core.SerializeToString()) for trial in eligible if trial.core is not None]
    times_ms = median_ms(graphs, frames.inputs_nchw[:1], LATENCY_ROUNDS)
    by_name = dict(zip((trial.name for trial in eligible), times_ms, strict=True))
    return [replace(trial, median_ms=by_name.get(trial.name)) for trial in trials]


def _best(trials: Sequence[Trial]) -> Trial:
    """Return the nearest to torch of the smallest of the fastest of those that passed, or of all if none passed."""
    proven = [trial for trial in trials if trial.verdict == PASSED] or list(trials)
    fastest = min(trial.median_ms or float("inf") for trial in proven)
    fast = [trial for trial in proven if (trial.median_ms or float("inf")) <= fastest * EQUALLY_FAST]
    smallest = min(trial.bytes for trial in fast)
    small = [trial for trial in fast if trial.bytes <= smallest * EQUALLY_SMALL]
    return min(small, key=_distance)


def _distance(trial: Trial) -> float:
    """Return how far a core's logits are from torch's; infinite where it gave no numbers."""
    difference = None if trial.judgement is None else trial.judgement.max_abs_logit_difference
    return float("inf") if difference is None else difference
