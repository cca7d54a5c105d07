"""Latency and memory of a picture, for each graph."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime import bench as bench_module
from runtime.bench import Bench, Latency, VariantBench, _peak_memory_mib, bench, measure
from runtime.errors import BundleError, ContractError, DeviceError
from runtime.system.processor import processor_name
from tests.support.tiny_bundle import CLASSES, rewrite_sums


def test_every_graph_is_timed_the_recommended_one_first(pristine: Path) -> None:
    report = bench(pristine, None, repeats=3, threads=1)
    assert [graph.variant for graph in report.variants] == ["fp32", "int8"]
    assert (report.threads, report.processors) == (1, os.cpu_count())
    assert (report.recommended, report.timed_on, report.processor) == ("fp32", "Test Processor 1", processor_name())
    for graph in report.variants:
        assert graph.load_ms > 0
        assert graph.peak_memory_mib is None or 20 < graph.peak_memory_mib < 1000
        for latency in (graph.pixels, graph.file):
            assert latency.calls == 3 * len(CLASSES)
            assert 0 < latency.median_ms <= latency.p95_ms
            assert latency.first_ms > 0


def with_times(times_ms: dict[str, float]) -> Bench:
    """A report of graphs with these medians; int8 is recommended."""
    latencies = {name: Latency(1.0, median_ms, 1.0, 1) for name, median_ms in times_ms.items()}
    variants = tuple(VariantBench(name, (), 1.0, latency, latency, None) for name, latency in latencies.items())
    return Bench("int8", "Test Processor 1", "this one", None, 2, variants)


@pytest.mark.parametrize(
    ("times_ms", "faster"),
    [
        ({"int8": 13.9, "fp32": 10.2, "fp16": 12.0}, "fp32"),
        ({"int8": 10.2, "fp32": 13.9}, None),
        ({"int8": 10.4, "fp32": 10.0}, None),  # within 5 %: timing cannot tell them apart
        ({"fp32": 10.0, "fp16": 20.0}, None),  # the recommended one was not measured
    ],
)
def test_a_graph_that_is_faster_here_than_the_recommended_one_is_found(
    times_ms: dict[str, float], faster: str | None
) -> None:
    found = with_times(times_ms).faster_variant()
    assert (found and (found[0].variant, found[1].variant)) == (faster and (faster, "int8"))


def test_one_graph_is_timed_where_one_is_asked_for(pristine: Path) -> None:
    assert [graph.variant for graph in bench(pristine, "int8", repeats=1).variants] == ["int8"]


def test_an_unknown_variant_is_refused(pristine: Path) -> None:
    with pytest.raises(ContractError, match="'fp16': unknown; expected fp32, int8"):
        bench(pristine, "fp16", repeats=1)


def test_an_error_in_the_child_process_reaches_the_caller(folder: Path) -> None:
    (folder / "golden" / "000.npy").write_bytes(b"no array")
    rewrite_sums(folder)
    with pytest.raises(BundleError, match=r"000\.npy: cannot be read"):
        bench(folder, "fp32", repeats=1)


def _dies(*_: Any) -> None:
    os._exit(9)


def test_a_child_process_that_dies_is_reported(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "_answer", _dies)
    with pytest.raises(DeviceError, match="fp32: its process ended without an answer"):
        bench(pristine, "fp32", repeats=1)


def test_the_first_call_is_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 0.9, 1.0, 1.1, 2.0, 2.3])
    monkeypatch.setattr("runtime.bench.time.perf_counter", lambda: next(seconds))
    latency = measure(lambda _: None, ["picture"], repeats=3)
    assert latency.first_ms == pytest.approx(900)
    assert latency.median_ms == pytest.approx(200)
    assert latency.p95_ms == pytest.approx(290)
    assert latency.calls == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not use /proc")
@pytest.mark.parametrize(("status", "peak"), [(None, None), ("Name:\tpython\n", None), ("VmHWM:\t  2048 kB\n", 2.0)])
def test_without_the_systems_count_there_is_no_peak(status: str | None, peak: float | None, tmp_path: Path) -> None:
    if status is not None:
        (tmp_path / "status").write_text(status)
    assert _peak_memory_mib(tmp_path / "status") == peak


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of this very process is read from /proc")
def test_the_peak_grows_with_what_is_held() -> None:
    before = _peak_memory_mib() or 0
    held = bytearray(os.urandom(1)) * (int(before * 2**20) + 64 * 2**20)
    assert (_peak_memory_mib() or 0) > before + 32
    assert held
