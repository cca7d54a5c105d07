"""How long one picture takes on this device, with and without decoding its file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from runtime.classifier import Classifier
from runtime.golden import GOLDEN, Golden, read_pixels

Picture = TypeVar("Picture")


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one picture at a time."""

    first_ms: float  # the first call, which may compile and allocate
    median_ms: float  # of the calls after it
    p95_ms: float
    calls: int


@dataclass(frozen=True)
class Bench:
    """The latencies of one variant over the golden pictures."""

    variant: str
    providers: tuple[str, ...]
    load_ms: float  # opening contract and graph
    pixels: Latency  # from uint8 pixels to a label
    file: Latency  # from a file to a label


def bench(folder: Path, variant: str | None, repeats: int) -> Bench:
    """Time a bundle's golden pictures, each `repeats` times, one by one.

    Raises:
        DeviceError: the bundle's contract, graph or golden pictures cannot be used.
    """
    start = time.perf_counter()
    classifier = Classifier.load(folder, variant)
    load_ms = _milliseconds_since(start)
    golden = Golden.read(folder / GOLDEN)
    pictures = [read_pixels(folder / GOLDEN, sample) for sample in golden.samples]
    files = [folder / GOLDEN / sample.image for sample in golden.samples]
    return Bench(
        variant=classifier.variant.name,
        providers=classifier.providers,
        load_ms=load_ms,
        pixels=measure(classifier.classify, pictures, repeats),
        file=measure(classifier.classify, files, repeats),
    )


def measure(call: Callable[[Picture], object], pictures: Sequence[Picture], repeats: int) -> Latency:
    """Time `call` on every picture in turn, `repeats` rounds; the very first is kept apart."""
    times_ms = []
    for _ in range(repeats):
        for picture in pictures:
            start = time.perf_counter()
            call(picture)
            times_ms.append(_milliseconds_since(start))
    first_ms, later_ms = times_ms[0], times_ms[1:] or times_ms
    return Latency(
        first_ms=first_ms,
        median_ms=float(np.median(later_ms)),
        p95_ms=float(np.percentile(later_ms, 95)),
        calls=len(times_ms),
    )


def _milliseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
