"""Which smaller cores are tried, in which order, and which are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.export import search as search_module
from export.export.reference_frames import ReferenceFrames
from export.export.search import (
    Candidate,
    CandidateFactory,
    Trial,
    best_of_each_precision,
    golden_tolerance,
    judge_nearest,
    measure,
    nearest,
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
    answers = Graph(core.SerializeToString()).answers_in_batches(inputs_nchw)
    return ReferenceFrames(CLASSES, answers.logits.argmax(axis=1), inputs_nchw, answers)


def fp32(core: onnx.ModelProto, frames: ReferenceFrames) -> Trial:
    return try_candidate(Candidate("fp32", "fp32", lambda: (core, ())), frames, GATES)


def trial(
    name: str, verdict: str = "passed", median_ms: float = 1.0, precision: Any = "int8", *, more_bytes: int = 0,
    distance: float | None = 0.0,
) -> Trial:  # fmt: skip
    core = small_core()
    core.doc_string = "x" * more_bytes
    reasons = () if verdict == "passed" else ("made up",)
    judgement = dataclasses.replace(PASSING, verdict=verdict, reasons=reasons)
    return Trial(name, precision, judgement, core, (), distance, median_ms)


LENIENT = GATES.model_copy(update={"int8": Int8Gate(max_top1_drop=0.2, max_worst_class_drop=0.4, min_class_frames=1)})


def test_fast_tries_int8_with_and_without_corrected_biases_and_judges_none() -> None:
    core = small_core()
    frames = frames_for(core)
    trials = search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "fast", frames)
    assert [each.name for each in trials] == [
        "fp32",
        "fp16",
        "fp16_without_last_layers",
        "int8_u8s8_per_channel_minmax_corrected",
        "int8_u8s8_per_channel_minmax",
    ]
    assert all(each.median_ms for each in trials)
    assert all(each.distance is not None for each in trials)
    assert [each.judgement is None for each in trials] == [False] + [True] * 4
    assert {each.verdict for each in trials[1:]} == {"not judged"}


def test_full_tries_every_recipe() -> None:
    core = small_core()
    frames = frames_for(core)
    trials = search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "full", frames)
    names = [each.name for each in trials]
    assert len(names) == len(set(names)) == 1 + 2 + 32
    distances = {each.name: each.distance or 0.0 for each in trials}
    assert distances["int8_u8s8_per_tensor_reduced_minmax"] > distances["int8_u8s8_per_channel_minmax"] > 1e-6


def test_the_distance_is_the_square_error_as_a_share_of_the_variance_and_asks_no_label() -> None:
    core, other = small_core(), small_core()
    change(other, "head", (slice(None), 0), 0.0)
    frames = frames_for(core)
    logits = [Graph(each.SerializeToString()).run_in_batches(frames.inputs_nchw) for each in (core, other)]
    expected = np.square(logits[1] - logits[0]).mean() / logits[0].var()
    relabelled = dataclasses.replace(frames, truth=(frames.truth + 1) % len(CLASSES))
    for seen in (frames, relabelled):
        found = measure(Candidate("other", "int8", lambda: (other, ())), seen)
        assert found.distance == pytest.approx(expected, rel=1e-5)
    assert measure(Candidate("same", "int8", lambda: (core, ())), frames).distance == pytest.approx(0, abs=1e-12)


def test_a_core_that_gives_no_numbers_is_never_chosen() -> None:
    broken = small_core()
    change(broken, "head", (0, 0), np.nan)
    frames = frames_for(small_core(), 1)
    silent = measure(Candidate("silent", "int8", lambda: (broken, ())), frames)
    assert (silent.distance, silent.verdict) == (None, "not judged")
    assert judge_nearest([silent], None, frames, LENIENT) == [silent]


def test_the_nearest_is_chosen_and_no_other_is_judged() -> None:
    core, far = small_core(), small_core()
    change(far, "head", (slice(None), 0), 0.0)
    frames = frames_for(core)
    trials = [fp32(core, frames)]
    trials += [
        measure(Candidate(name, "int8", lambda made=made: (made, ())), frames)  # type: ignore[misc]
        for name, made in (("far", far), ("near", core))
    ]
    judged = judge_nearest(trials, None, frames, LENIENT)
    assert [each.judgement is None for each in judged] == [False, True, False]
    assert judged[:2] == trials[:2]
    assert [each.name for each in best_of_each_precision(judged)][-1] == "near"


def test_a_chosen_core_that_fails_is_left_out_and_no_other_takes_its_place() -> None:
    core, wrong = small_core(), small_core()
    head = next(tensor for tensor in wrong.graph.initializer if tensor.name == "head")
    head.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(head), "head"))
    frames = frames_for(core)
    trials = [fp32(core, frames), measure(Candidate("wrong", "int8", lambda: (wrong, ())), frames)]
    judged = judge_nearest([*trials, dataclasses.replace(trials[1], name="farther", distance=1e9)], None, frames, GATES)
    assert [each.verdict for each in judged] == ["passed", "failed", "not judged"]
    assert [each.name for each in best_of_each_precision(judged)] == ["fp32"]


def test_of_graphs_about_as_near_the_fastest_is_chosen_then_the_smallest_then_the_nearest() -> None:
    near, fast = trial("near", median_ms=2.0, distance=0.010), trial("fast", distance=0.0109)
    assert nearest([near, fast, trial("far", median_ms=0.1, distance=0.0112)]).name == "fast"
    small = trial("small", distance=0.0108)
    assert nearest([trial("large", distance=0.0107, more_bytes=500), small]).name == "small"
    assert nearest([small, trial("nearer", distance=0.0106, more_bytes=2, median_ms=1.04)]).name == "nearer"
    assert nearest([small, trial("as near", distance=0.0108)]).name == "small"


def test_below_a_distance_that_matters_time_decides() -> None:
    assert nearest([trial("exact", median_ms=2.0, distance=1e-9), trial("fast", distance=9e-5)]).name == "fast"
    assert nearest([trial("exact", median_ms=2.0, distance=1e-9), trial("fast", distance=2e-4)]).name == "exact"


def test_float32_is_kept_where_it_failed() -> None:
    failed = trial("fp32", "failed", precision="fp32", distance=None)
    assert [each.name for each in best_of_each_precision([failed])] == ["fp32"]


def test_proven_comes_before_undecidable_and_failed_is_never_kept() -> None:
    undecided, proven = trial("undecided", "undecidable", 0.5), trial("proven", median_ms=9.0, precision="fp16")
    assert [each.name for each in best_of_each_precision([undecided, proven])] == ["proven", "undecided"]
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


def test_biases_are_corrected_where_frames_differ_little() -> None:
    core = small_core()
    change(core, "first", (slice(None), slice(1, None)), 0.45)
    change(core, "first", (slice(None), 0, 0, 0), 127.0)  # so that 0.45 rounds to nothing
    calibration_nchw = (1 + 0.1 * INPUTS_NCHW).astype(np.float32)
    answers = Graph(core.SerializeToString()).answers_in_batches(calibration_nchw)
    frames = ReferenceFrames(CLASSES, answers.logits.argmax(axis=1), calibration_nchw, answers)
    trials = search(fp32(core, frames), CandidateFactory(core, calibration_nchw), "fast", frames)
    assert nearest([each for each in trials if each.precision == "int8"]).name.endswith("_corrected")


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
    logits = frames.torch.logits
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
    search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "fast", frames)
    assert len(timed) == 5
    for graph in timed:
        assert graph._session.get_session_options().get_session_config_entry(session.EXACT_INT8) == "1"


def test_the_tolerance_of_int8_is_measured_and_holds_for_other_arithmetic() -> None:
    core = small_core()
    frames = frames_for(core)
    *_, int8 = search(fp32(core, frames), CandidateFactory(core, INPUTS_NCHW), "fast", frames)
    tolerance = golden_tolerance(int8, frames, 0.001)
    assert 0.001 <= tolerance < 0.2
    assert int8.core is not None
    usual, other = (
        Graph(int8.core.SerializeToString(), how).run_in_batches(frames.inputs_nchw) for how in ("usual", "as_written")
    )
    assert np.abs(usual - other).max() <= tolerance * np.ptp(usual)
    assert golden_tolerance(fp32(core, frames), frames, 0.001) == 0.001
