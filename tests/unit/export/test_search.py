"""Which smaller cores are tried, in which order, and which are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from export.export import search as search_module
from export.export.reference_frames import ReferenceFrames
from export.export.search import (
    Candidate,
    CandidateFactory,
    Trial,
    best_of_each_precision,
    golden_tolerance,
    search,
    try_candidate,
)
from export.graphs.params import Int8Gate
from export.graphs.runner import Graph
from runtime import session
from tests.support.gates import GATES, PASSING
from tests.support.tiny_core import INPUTS_NCHW, change, small_core

CLASSES = tuple("abcd")


def frames_for(core: onnx.ModelProto, n_times: int = 10) -> ReferenceFrames:
    """Many frames. The float core stands for torch, and its own answers are the truth."""
    generator = np.random.default_rng(2)
    inputs_nchw = np.concatenate([INPUTS_NCHW + generator.normal(0, 1, INPUTS_NCHW.shape) for _ in range(n_times)])
    inputs_nchw = inputs_nchw.astype(np.float32)
    logits = Graph(core.SerializeToString()).run_in_batches(inputs_nchw)
    return ReferenceFrames(CLASSES, logits.argmax(axis=1), inputs_nchw, logits)


def fp32(core: onnx.ModelProto, frames: ReferenceFrames) -> Trial:
    return try_candidate(Candidate("fp32", "fp32", lambda: (core, ())), frames, GATES)


def trial(
    name: str, verdict: str = "passed", median_ms: float = 1.0, precision: Any = "int8", *, more_bytes: int = 0,
    difference: float | None = 0.0,
) -> Trial:  # fmt: skip
    core = small_core()
    core.doc_string = "x" * more_bytes
    reasons = () if verdict == "passed" else ("made up",)
    judgement = dataclasses.replace(PASSING, max_abs_logit_difference=difference, verdict=verdict, reasons=reasons)
    return Trial(name, precision, judgement, core, (), median_ms)


LENIENT = GATES.model_copy(update={"int8": Int8Gate(max_top1_drop=0.2, max_worst_class_drop=0.4, min_class_frames=1)})


def test_fast_stops_at_the_first_of_each_precision_that_does_not_fail() -> None:
    core = small_core()
    frames = frames_for(core)
    trials = search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "fast", frames, LENIENT)
    assert [each.name for each in trials] == ["fp32", "fp16", "int8_u8s8_per_channel_minmax"]
    assert all(each.median_ms for each in trials)


def test_fast_goes_on_to_float_layers_where_the_plain_recipes_fail() -> None:
    core = small_core()
    change(core, "first", (slice(0, 1),), 1e3)  # a channel so loud that the others share few steps
    change(core, "second", (slice(None), 0), 1e-3)
    frames = frames_for(core)
    trials = search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "fast", frames, GATES)
    names = [each.name for each in trials]
    assert names[2:4] == ["int8_u8s8_per_channel_minmax", "int8_u8s8_per_channel_percentile"]
    assert names[4] == "int8_u8s8_per_channel_minmax_without_10_percent_of_layers"
    assert len(trials[4].float_layers) == 1
    assert all(each.reasons for each in trials[2:4])


def test_full_tries_every_recipe_and_measures_those_that_hold() -> None:
    core = small_core()
    frames = frames_for(core)
    trials = search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "full", frames, LENIENT)
    names = [each.name for each in trials]
    assert len(names) == len(set(names)) == 1 + 2 + 16 + 2
    assert all((each.median_ms is None) == each.failed for each in trials)


def test_a_network_that_one_scale_ruins_fails_per_tensor_and_holds_per_channel() -> None:
    core = small_core()
    change(core, "first", (slice(0, 1),), 0)
    change(core, "second", (0, 0), 1e3)
    frames = frames_for(core)
    trials = search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "full", frames, LENIENT)
    verdicts = {each.name: each.verdict for each in trials}
    assert verdicts["int8_u8s8_per_channel_minmax"] != "failed"
    assert verdicts["int8_u8s8_per_tensor_minmax"] == "failed"
    kept = best_of_each_precision(trials)
    assert all("per_tensor" not in each.name for each in kept)


def test_the_smallest_of_the_fastest_is_kept() -> None:
    slow, fast, small = trial("slow", median_ms=1.2), trial("fast", more_bytes=500), trial("small", median_ms=1.04)
    assert [each.name for each in best_of_each_precision([slow, fast, small])] == ["small"]


def test_of_those_as_fast_and_as_small_the_nearest_to_torch_is_kept_and_the_first_of_equally_near_ones() -> None:
    far, near = trial("far", difference=2.8), trial("near", median_ms=1.04, difference=2.2, more_bytes=2)
    assert [each.name for each in best_of_each_precision([far, near])] == ["near"]
    assert [each.name for each in best_of_each_precision([far, trial("as far", difference=2.8)])] == ["far"]
    assert [each.name for each in best_of_each_precision([far, trial("large", more_bytes=500)])] == ["far"]


def test_float32_is_kept_where_it_gave_no_numbers_at_all() -> None:
    silent = trial("fp32", "failed", precision="fp32", difference=None)
    assert [each.name for each in best_of_each_precision([silent])] == ["fp32"]


def test_proven_comes_before_undecidable_and_failed_is_never_kept() -> None:
    undecided, proven = trial("undecided", "undecidable", 0.5), trial("proven", median_ms=9.0)
    assert [each.name for each in best_of_each_precision([undecided, proven])] == ["proven"]
    assert [each.name for each in best_of_each_precision([undecided])] == ["undecided"]
    kept = best_of_each_precision([trial("fp32", precision="fp32"), trial("broken", "failed", 0.1)])
    assert [each.name for each in kept] == ["fp32"]


def test_the_best_precision_comes_first() -> None:
    kept = best_of_each_precision(
        [
            trial("fp32", precision="fp32", median_ms=4.0),
            trial("fp16", precision="fp16", median_ms=6.0),
            trial("int8", median_ms=2.0),
        ]
    )
    assert [each.name for each in kept] == ["int8", "fp32", "fp16"]


def test_what_cannot_be_made_is_a_failure_with_its_reason() -> None:
    def broken() -> Any:
        raise ValueError("unsupported\n  operator")

    tried = try_candidate(Candidate("broken", "int8", broken), frames_for(small_core(), 1), GATES)
    assert tried.failed
    assert tried.reasons == ["cannot be made (unsupported operator)"]


def fp16_trial(core: onnx.ModelProto, frames: ReferenceFrames) -> Trial:
    half = try_candidate(next(CandidateFactory(core, INPUTS_NCHW).fp16()), frames, LENIENT)
    assert half.core is not None
    return half


def test_the_tolerance_of_fp16_is_that_of_half_precision_arithmetic_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    core = small_core()
    frames = frames_for(core)
    half = fp16_trial(core, frames)
    assert golden_tolerance(half, frames, 0.001) == 0.015
    assert golden_tolerance(half, frames, 0.02) == 0.02
    logits = frames.torch_logits
    off = logits[:2] + np.float32(0.02 * np.ptp(logits[:12]))
    monkeypatch.setattr(search_module, "logits_in_half", lambda *_: off)
    assert golden_tolerance(half, frames, 0.001) == pytest.approx(0.04, rel=0.05)
    monkeypatch.setattr(search_module, "logits_in_half", lambda *_: np.full_like(off, np.nan))
    assert golden_tolerance(half, frames, 0.001) == 0.015


def lost_channel(core: onnx.ModelProto) -> None:
    change(core, "second", (0,), 0.0)


FAULTS_OF_INPUTS: dict[str, Any] = {
    "a wrong mean": lambda inputs_nchw: inputs_nchw + np.float32(0.5),
    "swapped channels": lambda inputs_nchw: inputs_nchw[:, ::-1],
}


@pytest.mark.parametrize("fault", [*FAULTS_OF_INPUTS, "one broken layer", "none"])
def test_faults_still_fail_at_the_tolerance_of_fp16(fault: str) -> None:
    core = small_core()
    frames = frames_for(core)
    half = fp16_trial(core, frames)
    assert half.core is not None
    inputs_nchw = frames.inputs_nchw[:8]
    golden = Graph(half.core.SerializeToString())(inputs_nchw)
    allowed = golden_tolerance(half, frames, 0.001) * float(np.ptp(golden))
    if fault == "one broken layer":
        lost_channel(core)
    broken = fp16_trial(core, frames).core
    assert broken is not None
    seen = Graph(broken.SerializeToString())(FAULTS_OF_INPUTS.get(fault, np.asarray)(inputs_nchw))
    assert (np.abs(seen - golden).max() > allowed) == (fault != "none")


def test_variants_are_timed_with_the_kernels_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_int8_may_overflow", lambda: True)
    timed: list[Graph] = []

    def one_millisecond(graphs: Sequence[Graph], *_: object) -> list[float]:
        timed.extend(graphs)
        return [1.0] * len(graphs)

    monkeypatch.setattr(search_module, "median_ms", one_millisecond)
    core = small_core()
    frames = frames_for(core, 1)
    search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "fast", frames, LENIENT)
    assert len(timed) == 3
    for graph in timed:
        assert graph._session.get_session_options().get_session_config_entry(session.EXACT_INT8) == "1"


def test_the_tolerance_of_int8_is_measured_and_holds_for_other_arithmetic() -> None:
    core = small_core()
    frames = frames_for(core)
    *_, int8 = search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "fast", frames, LENIENT)
    tolerance = golden_tolerance(int8, frames, 0.001)
    assert 0.001 <= tolerance < 0.2
    assert int8.core is not None
    usual, other = (
        Graph(int8.core.SerializeToString(), how).run_in_batches(frames.inputs_nchw) for how in ("usual", "as_written")
    )
    assert np.abs(usual - other).max() <= tolerance * np.ptp(usual)
    assert golden_tolerance(fp32(core, frames), frames, 0.001) == 0.001
