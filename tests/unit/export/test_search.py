"""What is tried, in which order, and what is kept of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from export.export.reference_frames import Evidence
from export.export.search import Candidate, Trial, Workshop, chosen, golden_tolerance, judged, search
from export.graphs.params import Int8Gate
from export.graphs.runner import Graph
from tests.support.gates import GATES
from tests.support.tiny_core import INPUTS_NCHW, N_CLASSES, change, small_core

CLASSES = tuple("abcd")


def evidence_of(core: onnx.ModelProto, n_times: int = 10) -> Evidence:
    """Many frames, with the float core in torch's place and its own answers as the truth."""
    generator = np.random.default_rng(2)
    inputs_nchw = np.concatenate([INPUTS_NCHW + generator.normal(0, 1, INPUTS_NCHW.shape) for _ in range(n_times)])
    inputs_nchw = inputs_nchw.astype(np.float32)
    logits = Graph(core.SerializeToString()).all_of(inputs_nchw)
    return Evidence(CLASSES, logits.argmax(axis=1), inputs_nchw, logits)


def fp32(core: onnx.ModelProto, evidence: Evidence) -> Trial:
    return judged(Candidate("fp32", "fp32", lambda: (core, ())), evidence, GATES)


def trial(
    name: str, verdict: str = "passed", median_ms: float = 1.0, precision: Any = "int8", *, more_bytes: int = 0,
    difference: float | None = 0.0,
) -> Trial:  # fmt: skip
    core = small_core()
    core.doc_string = "x" * more_bytes
    numbers = {"verdict": verdict, "reasons": [], "max_abs_logit_difference": difference}
    return Trial(name, precision, numbers, core, (), median_ms)


LENIENT = GATES.model_copy(update={"int8": Int8Gate(max_top1_drop=0.2, max_worst_class_drop=0.4, min_class_frames=1)})


def test_fast_stops_at_the_first_of_each_precision_that_does_not_fail() -> None:
    core = small_core()
    evidence = evidence_of(core)
    found = search(fp32(core, evidence), Workshop(core, INPUTS_NCHW), "fast", evidence, LENIENT)
    assert [each.name for each in found] == ["fp32", "fp16", "int8_u8s8_per_channel_minmax"]
    assert all(each.median_ms for each in found)


def test_fast_goes_on_to_float_layers_where_the_plain_recipes_fail() -> None:
    core = small_core()
    change(core, "first", (slice(0, 1),), 1e3)  # a channel so loud that the others share few steps
    change(core, "second", (slice(None), 0), 1e-3)
    evidence = evidence_of(core)
    found = search(fp32(core, evidence), Workshop(core, INPUTS_NCHW), "fast", evidence, GATES)
    names = [each.name for each in found]
    assert names[2:4] == ["int8_u8s8_per_channel_minmax", "int8_u8s8_per_channel_percentile"]
    assert names[4] == "int8_u8s8_per_channel_minmax_without_10_percent_of_layers"
    assert len(found[4].float_layers) == 1
    assert all(each.numbers["reasons"] for each in found[2:4])


def test_full_tries_every_recipe_and_measures_those_that_hold() -> None:
    core = small_core()
    evidence = evidence_of(core)
    found = search(fp32(core, evidence), Workshop(core, INPUTS_NCHW), "full", evidence, LENIENT)
    names = [each.name for each in found]
    assert len(names) == len(set(names)) == 1 + 2 + 16 + 2
    assert all((each.median_ms is None) == each.failed for each in found)


def test_a_network_that_one_scale_ruins_fails_per_tensor_and_holds_per_channel() -> None:
    core = small_core()
    change(core, "first", (slice(0, 1),), 0)
    change(core, "second", (0, 0), 1e3)
    evidence = evidence_of(core)
    found = search(fp32(core, evidence), Workshop(core, INPUTS_NCHW), "full", evidence, LENIENT)
    verdicts = {each.name: each.numbers["verdict"] for each in found}
    assert verdicts["int8_u8s8_per_channel_minmax"] != "failed"
    assert verdicts["int8_u8s8_per_tensor_minmax"] == "failed"
    kept = chosen(found)
    assert all("per_tensor" not in each.name for each in kept)


def test_the_smallest_of_the_fastest_is_kept() -> None:
    slow, fast, small = trial("slow", median_ms=1.2), trial("fast", more_bytes=500), trial("small", median_ms=1.04)
    assert [each.name for each in chosen([slow, fast, small])] == ["small"]


def test_of_those_as_fast_and_as_small_the_nearest_to_torch_is_kept_and_the_first_of_equals() -> None:
    far, near = trial("far", difference=2.8), trial("near", median_ms=1.04, difference=2.2, more_bytes=2)
    assert [each.name for each in chosen([far, near])] == ["near"]
    assert [each.name for each in chosen([far, trial("as far", difference=2.8)])] == ["far"]
    assert [each.name for each in chosen([far, trial("large", more_bytes=500)])] == ["far"]


def test_float32_is_kept_where_it_gave_no_numbers_at_all() -> None:
    silent = trial("fp32", "failed", precision="fp32", difference=None)
    assert [each.name for each in chosen([silent])] == ["fp32"]


def test_proven_comes_before_undecidable_and_failed_is_never_kept() -> None:
    undecided, proven = trial("undecided", "undecidable", 0.5), trial("proven", median_ms=9.0)
    assert [each.name for each in chosen([undecided, proven])] == ["proven"]
    assert [each.name for each in chosen([undecided])] == ["undecided"]
    kept = chosen([trial("fp32", precision="fp32"), trial("broken", "failed", 0.1)])
    assert [each.name for each in kept] == ["fp32"]


def test_the_best_precision_comes_first() -> None:
    kept = chosen(
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

    found = judged(Candidate("broken", "int8", broken), evidence_of(small_core(), 1), GATES)
    assert found.failed
    assert found.numbers["reasons"] == ["cannot be made (unsupported operator)"]


def test_the_tolerance_of_int8_is_measured_and_holds_for_other_arithmetic() -> None:
    core = small_core()
    evidence = evidence_of(core)
    *_, int8 = search(fp32(core, evidence), Workshop(core, INPUTS_NCHW), "fast", evidence, LENIENT)
    tolerance = golden_tolerance(int8, evidence, 0.001)
    assert 0.001 <= tolerance < 0.2
    assert int8.core is not None
    usual, other = (
        Graph(int8.core.SerializeToString(), how).all_of(evidence.inputs_nchw) for how in ("usual", "as_written")
    )
    assert np.abs(usual - other).max() <= tolerance * np.ptp(usual)
    assert golden_tolerance(fp32(core, evidence), evidence, 0.001) == 0.001


@pytest.mark.parametrize("how", ["usual", "as_written", "without_vnni"])
def test_a_graph_runs_in_parts_as_it_runs_at_once(how: Any) -> None:
    graph = Graph(small_core().SerializeToString(), how)
    assert graph.all_of(INPUTS_NCHW).shape == (20, N_CLASSES)
    assert np.allclose(graph.all_of(INPUTS_NCHW), graph(INPUTS_NCHW), atol=1e-5)
