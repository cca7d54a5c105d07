"""How long one picture takes on this device and how much memory, with and without decoding its file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import numpy as np

from runtime.classifier import CONTRACT, Classifier
from runtime.contract import Contract
from runtime.errors import ContractError, DeviceError
from runtime.golden import GOLDEN, Golden, read_pixels
from runtime.session import Opening

Picture = TypeVar("Picture")


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one picture at a time."""

    first_ms: float  # the first call, which may compile and allocate
    median_ms: float  # of the calls after it
    p95_ms: float
    calls: int


@dataclass(frozen=True)
class VariantBench:
    """One variant over the golden pictures, in a process of its own."""

    variant: str
    providers: tuple[str, ...]
    load_ms: float  # opening contract and graph
    pixels: Latency  # from uint8 pixels to a label
    file: Latency  # from a file to a label
    peak_memory_mib: float | None  # of the whole process, Python and libraries included; None where nobody counts it


@dataclass(frozen=True)
class Bench:
    """Every variant that was asked for, the recommended one first."""

    threads: int | None  # of the CPU, for one picture; None: as many as onnxruntime thinks right
    processors: int | None  # that Python counts here
    variants: tuple[VariantBench, ...]


def bench(folder: Path, variant: str | None, repeats: int, threads: int | None = None) -> Bench:
    """Time a bundle's golden pictures, each `repeats` times, one by one; without `variant`, on each variant.

    Raises:
        DeviceError: the bundle's contract, graph or golden pictures cannot be used.
    """
    contract = Contract.read(folder / CONTRACT)
    known = [each.name for each in contract.variants]
    if variant is not None and variant not in known:
        raise ContractError(f"{folder / CONTRACT}: variant {variant!r}: unknown; expected {', '.join(known)}")
    names = [variant] if variant else sorted(known, key=lambda name: name != contract.recommended)
    found = tuple(_bench_in_own_process(folder, name, repeats, threads) for name in names)
    return Bench(threads=threads, processors=os.cpu_count(), variants=found)


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


def _bench_in_own_process(folder: Path, variant: str, repeats: int, threads: int | None) -> VariantBench:
    """A process keeps the largest memory that it ever had, so each variant gets one of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, folder, variant, repeats, threads)
    child = context.Process(target=_answer, args=arguments, daemon=True)
    child.start()
    sender.close()
    try:
        found: VariantBench | DeviceError = receiver.recv()
    except EOFError as error:
        raise DeviceError(f"{variant}: its process ended without an answer; is there enough memory?") from error
    finally:
        child.terminate()
        child.join()
    if isinstance(found, DeviceError):
        raise found
    return found


def _answer(sender: Connection, folder: Path, variant: str, repeats: int, threads: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    try:
        sender.send(_bench_variant(folder, variant, repeats, threads))
    except DeviceError as error:
        sender.send(error)


def _bench_variant(folder: Path, variant: str, repeats: int, threads: int | None) -> VariantBench:
    start = time.perf_counter()
    classifier = Classifier.load(folder, variant, Opening(threads=threads))
    load_ms = _milliseconds_since(start)
    golden = Golden.read(folder / GOLDEN)
    pictures = [read_pixels(folder / GOLDEN, sample) for sample in golden.samples]
    files = [folder / GOLDEN / sample.image for sample in golden.samples]
    return VariantBench(
        variant=variant,
        providers=classifier.providers,
        load_ms=load_ms,
        pixels=measure(classifier.classify, pictures, repeats),
        file=measure(classifier.classify, files, repeats),
        peak_memory_mib=_peak_memory_mib(),
    )


def _peak_memory_mib(status: Path = Path("/proc/self/status")) -> float | None:
    """The most memory that this process has had resident; None where the system does not tell it."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":
        # Not getrusage: there a process counts what its parent held when it was started.
        try:
            lines = status.read_text().splitlines()
        except OSError:  # without /proc
            return None
        peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]  # gVisor's has none
        return int(peaks[0]) / 1024 if peaks else None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _milliseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
