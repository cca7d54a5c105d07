"""The search for smaller cores: which are tried, which is nearest to torch, and which of the chosen ones are kept."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from export.export.half_arithmetic import logits_in_half
from export.export.quantize import (
    NO_HEAD,
    Int8,
    Quantizer,
    last_layers,
    layers_beyond_fp16,
    layers_in_float,
    to_fp16,
)
from export.export.reference_frames import ReferenceFrames
from export.export.torch_export import EXPORTER_ERRORS
from export.graphs.gates import FAILED, PASSED, Judgement, Logits, Scores, judge
from export.graphs.params import ParityParams
from export.graphs.runner import Graph, median_ms
from export.graphs.score_graph import has_known_score, with_known_score
from pipeline.base.errors import DataError, one_line
from pipeline.network.known_score import KnownScore
from runtime.answers import SCORE_RANGE, Answers
from runtime.bench import EQUALLY_FAST

Mode = Literal["fast", "full"]
Precision = Literal["fp32", "fp16", "int8"]

FAST_RECIPES = (Int8(), Int8(corrected=False))
EQUALLY_NEAR = 1.1
NEGLIGIBLE_DISTANCE = 1e-4  # the error of a logit is 1 % of the logits' standard deviation: time and size decide then
EQUALLY_SMALL = 1.01
NOT_JUDGED = "not judged"
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
    """A candidate after it was made and compared with torch."""

    name: str
    precision: Precision
    judgement: Judgement | None = None  # None: not judged, since another one is nearer or the core could not be made
    core: onnx.ModelProto | None = None
    float_layers: Sequence[str] = ()
    distance: float | None = None  # to torch, on the calibration frames; None: not measured, or not a finite number
    median_ms: float | None = None  # of the core alone, one picture
    problem: str | None = None  # why the core could not be made, or judged
    answers: Answers | None = field(default=None, compare=False, repr=False)  # for the frames that judged it

    def __post_init__(self) -> None:
        if self.judgement is not None and self.problem is not None:
            raise ValueError(f"{self.name}: a core that could not be made cannot be judged")

    @property
    def bytes(self) -> int:
        """Size of the core."""
        return 0 if self.core is None else self.core.ByteSize()

    @property
    def verdict(self) -> str:
        """Of the gates; failed where the core could not be made."""
        if self.problem is not None:
            return FAILED
        return NOT_JUDGED if self.judgement is None else self.judgement.verdict

    @property
    def reasons(self) -> list[str]:
        """Why the verdict is bad."""
        if self.problem is not None:
            return [self.problem]
        return [] if self.judgement is None else list(self.judgement.reasons)

    @property
    def failed(self) -> bool:
        """Whether the core cannot be kept. Too few frames to judge by are no failure, since test frames decide."""
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
            "distance": self.distance,
            "float_layers": list(self.float_layers),
            **figures,
            "verdict": self.verdict,
            "reasons": self.reasons,
        }


class CandidateFactory:
    """Makes the candidates of one core. What is slow to measure is measured once, when it is first needed."""

    def __init__(
        self, core: onnx.ModelProto, calibration_nchw: NDArray[np.float32], head: Collection[str] = NO_HEAD
    ) -> None:
        """Take the float32 core, and what its candidates share.

        Args:
            core: the float32 core; it stays as it is.
            calibration_nchw: (n, 3, size, size), the frames on which ranges and biases are measured.
            head: the parameters of layers that int8 keeps in float, as in `layers_in_float`.
        """
        self._core, self._head = core, head
        self._quantizer = Quantizer(core, calibration_nchw, head)

    def fp16(self) -> Iterator[Candidate]:
        """Yield half precision: all layers but those that would overflow; then with the last layers float too."""
        yield Candidate("fp16", "fp16", lambda: self._make_fp16([]))
        yield Candidate("fp16_without_last_layers", "fp16", lambda: self._make_fp16(last_layers(self._core)))

    def int8(self, mode: Mode) -> Iterator[Candidate]:
        """Yield integers: the recipes that are nearest most often (fast), or all (full)."""
        recipes = list(FAST_RECIPES)
        if mode == "full":
            grid = itertools.product(
                ("u8", "s8"), (True, False), (False, True), ("minmax", "percentile"), (True, False)
            )
            recipes = [Int8(*settings) for settings in grid]  # type: ignore[arg-type]
        for recipe in recipes:
            yield Candidate(str(recipe), "int8", functools.partial(self._make_int8, recipe))

    def _make_fp16(self, float_layers: Sequence[str]) -> tuple[onnx.ModelProto, Sequence[str]]:
        beyond = layers_beyond_fp16(self._core, self._quantizer.ranges("minmax"))
        kept = list(dict.fromkeys([*beyond, *float_layers]))
        return to_fp16(self._core, kept), kept

    def _make_int8(self, recipe: Int8) -> tuple[onnx.ModelProto, Sequence[str]]:
        return self._quantizer.to_int8(recipe), layers_in_float(self._core, self._head)


def search(fp32: Trial, factory: CandidateFactory, mode: Mode, calibration: ReferenceFrames) -> list[Trial]:
    """Make the candidates of both smaller precisions, and measure their distance to torch and their time.

    Args:
        fp32: the float32 core, already judged.
        factory: makes the candidates.
        mode: `fast` or `full`, which says how many int8 candidates there are.
        calibration: the calibration frames, with torch's logits. No label is used.

    Returns:
        The float32 core, and then every candidate. The candidates are not judged yet.
    """
    trials = [replace(fp32, distance=_distance(fp32.core, calibration))]
    trials += [measure(candidate, calibration) for candidate in (*factory.fp16(), *factory.int8(mode))]
    return _timed(trials, calibration)


def measure(candidate: Candidate, calibration: ReferenceFrames) -> Trial:
    """Make a candidate and measure its distance to torch."""
    try:
        core, float_layers = candidate.make()
        distance = _distance(core, calibration)
    except (*EXPORTER_ERRORS, DataError) as error:
        return Trial(candidate.name, candidate.precision, problem=_cannot_be_made(error))
    return Trial(candidate.name, candidate.precision, None, core, float_layers, distance)


def try_candidate(candidate: Candidate, frames: ReferenceFrames, gates: ParityParams) -> Trial:
    """Make a candidate and judge it.

    Args:
        candidate: what is made.
        frames: the frames that decide, with torch's logits.
        gates: the section `parity` of `params.yaml`.
    """
    try:
        core, float_layers = candidate.make()
        return judged(Trial(candidate.name, candidate.precision, None, core, float_layers), frames, gates)
    except (*EXPORTER_ERRORS, DataError) as error:
        return Trial(candidate.name, candidate.precision, problem=_cannot_be_made(error))


def judged(trial: Trial, frames: ReferenceFrames, gates: ParityParams) -> Trial:
    """Compare a core's logits with torch's, and apply the gates of its precision.

    Args:
        trial: a core that was made.
        frames: the frames that decide, with torch's logits.
        gates: the section `parity` of `params.yaml`.
    """
    assert trial.core is not None  # noqa: S101  # what could not be made is never chosen
    try:
        answers = frames.ask(trial.core)
    except DataError as error:
        return replace(trial, problem=f"cannot be judged ({error})")
    comparison = frames.compare(answers, has_score=has_known_score(trial.core))
    return replace(trial, judgement=judge(comparison, trial.precision, gates), answers=answers)


def judge_nearest(
    trials: Sequence[Trial], score: KnownScore | None, frames: ReferenceFrames, gates: ParityParams
) -> list[Trial]:
    """Choose the candidate of each smaller precision that is nearest to torch, and judge it and no other.

    So the verdict is not the best of many. What is judged, and float32, get the known score as a second output first.

    Args:
        trials: every candidate, as `search` returns them.
        score: computes the second output; None: the graphs give logits alone.
        frames: the frames that decide; the choice has not seen them.
        gates: the section `parity` of `params.yaml`.

    Returns:
        The same trials in the same order, the chosen ones judged.
    """
    eligible = [trial for trial in trials if trial.judgement is None and trial.distance is not None]
    precisions = dict.fromkeys(trial.precision for trial in eligible)
    chosen = [nearest([trial for trial in eligible if trial.precision == precision]) for precision in precisions]
    completed = []
    for trial in trials:
        is_chosen = any(trial is of_choice for of_choice in chosen)
        if score is not None and trial.core is not None and (is_chosen or trial.judgement is not None):
            completed.append(replace(trial, core=with_known_score(trial.core, score)))
        else:
            completed.append(trial)
        if is_chosen:
            completed[-1] = judged(completed[-1], frames, gates)
    return completed


def nearest(trials: Sequence[Trial]) -> Trial:
    """Return the fastest of the nearest to torch, of equally fast ones the smallest, then the nearest."""
    least = min(_or_infinite(trial.distance) for trial in trials)
    near = [t for t in trials if _or_infinite(t.distance) <= max(least * EQUALLY_NEAR, NEGLIGIBLE_DISTANCE)]
    return _fastest(near)


def best_of_each_precision(trials: Sequence[Trial]) -> list[Trial]:
    """Return the judged trials that did not fail, the best first: one that passed, is fast, then small, then near.

    Float32 is always among them, because the other precisions are measured against it.
    """
    waiting = [t for t in trials if t.judgement is not None and (not t.failed or t.precision == "fp32")]
    ranked: list[Trial] = []
    while waiting:
        ranked.append(_fastest([trial for trial in waiting if trial.verdict == PASSED] or waiting))
        waiting = [trial for trial in waiting if trial is not ranked[-1]]
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
    answers = Graph(graph).answers_in_batches(inputs_nchw)
    others = [Graph(graph, how).answers_in_batches(inputs_nchw) for how in ("as_written", "without_vnni")]
    alternatives = [other.logits for other in others]
    if trial.precision == "fp16":
        least = max(least, LEAST_FP16_TOLERANCE)
        alternatives += [frames.torch.logits[:TOLERANCE_FRAMES], logits_in_half(trial.core, inputs_nchw)]
    shares = [_largest_difference(other, answers.logits) / float(np.ptp(answers.logits)) for other in alternatives]
    if has_known_score(trial.core):
        shares += [_largest_difference(other.scores, answers.scores) / SCORE_RANGE for other in others]
    return min(0.99, max(least, round(TOLERANCE_FACTOR * max(shares), 4)))


def _largest_difference(alternative: Logits | Scores, values: Logits | Scores) -> float:
    """Return the largest difference on the frames that both have.

    Sums that overflow in half precision give no number, and no tolerance would help: the device's selfcheck names them.
    """
    difference = np.abs(alternative - values[: len(alternative)])
    return float(difference[np.isfinite(difference)].max(initial=0.0))


def _timed(trials: Sequence[Trial], frames: ReferenceFrames) -> list[Trial]:
    made = [trial for trial in trials if trial.core is not None]
    graphs = [Graph(trial.core.SerializeToString()) for trial in made if trial.core is not None]
    times_ms = median_ms(graphs, frames.inputs_nchw[:1], LATENCY_ROUNDS)
    by_name = dict(zip((trial.name for trial in made), times_ms, strict=True))
    return [replace(trial, median_ms=by_name.get(trial.name)) for trial in trials]


def _fastest(trials: Sequence[Trial]) -> Trial:
    """Return the nearest to torch of the smallest of the fastest."""
    fastest = min(_or_infinite(trial.median_ms) for trial in trials)
    fast = [trial for trial in trials if _or_infinite(trial.median_ms) <= fastest * EQUALLY_FAST]
    smallest = min(trial.bytes for trial in fast)
    small = [trial for trial in fast if trial.bytes <= smallest * EQUALLY_SMALL]
    return min(small, key=lambda trial: _or_infinite(trial.distance))


def _distance(core: onnx.ModelProto | None, frames: ReferenceFrames) -> float | None:
    """Return the mean square error of a core's logits, as a share of the variance of torch's; None: no finite number.

    It looks at all logits and not at the answers: flips are so few that chance would choose.
    """
    assert core is not None  # noqa: S101  # cores that could not be made have no distance
    error = Graph(core.SerializeToString()).run_in_batches(frames.inputs_nchw) - frames.torch.logits
    distance = float(
        np.square(error, dtype=np.float64).mean() / max(frames.torch.logits.var(), np.finfo(np.float32).tiny)
    )
    return distance if np.isfinite(distance) else None


def _cannot_be_made(error: Exception) -> str:
    return f"cannot be made ({one_line(error, 200)})"


def _or_infinite(number: float | None) -> float:
    return float("inf") if number is None else number
