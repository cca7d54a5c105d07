"""Latency and peak memory of one picture on this device, with and without decoding its file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
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
from runtime.system.processor import processor_name

Picture = TypeVar("Picture")

EQUALLY_FAST = 1.05  # a graph within five per cent of another is as fast: timing cannot tell them apart


@dataclass(frozen=True)
class Latency:
    """Latency of one picture at a time, in milliseconds."""

    first_ms: float  # the first call, which may compile and allocate
    median_ms: float  # of the calls after the first
    p95_ms: float
    calls: int


@dataclass(frozen=True)
class VariantBench:
    """Measurements of one variant on the golden pictures, in a process of its own."""

    variant: str
    providers: tuple[str, ...]
    load_ms: float  # opening contract and graph
    pixels: Latency  # from uint8 pixels to a label
    file: Latency  # from a file to a label
    peak_memory_mib: float | None  # of the whole process; None where the system does not report it


@dataclass(frozen=True)
class Bench:
    """Measurements of every requested variant, the recommended one first."""

    recommended: str
    timed_on: str | None  # the processor on which the recommended variant was chosen; None: the contract does not tell
    processor: str  # the name of this machine's
    threads: int | None  # CPU threads for one picture; None: onnxruntime chooses
    processors: int | None  # as Python counts them
    variants: tuple[VariantBench, ...]

    def faster_variant(self) -> tuple[VariantBench, VariantBench] | None:
        """Return the fastest variant and the recommended one, if both were measured and are not equally fast."""
        fastest = min(self.variants, key=lambda variant: variant.pixels.median_ms)
        for variant in self.variants:
            is_slower = variant.pixels.median_ms > EQUALLY_FAST * fastest.pixels.median_ms
            if variant.variant == self.recommended and is_slower:
                return fastest, variant
        return None


def bench(folder: Path, variant: str | None, repeats: int, threads: int | None = None) -> Bench:
    """Measure latency and memory on a bundle's golden pictures, one picture at a time.

    Args:
        folder: the unpacked bundle.
        variant: name of the graph to measure; None for all of them.
        repeats: rounds over the pictures.
        threads: CPU threads for one picture; None lets onnxruntime choose.

    Raises:
        DeviceError: the bundle's contract, graph or golden pictures cannot be used.
    """
    contract = Contract.read(folder / CONTRACT)
    known = [graph.name for graph in contract.variants]
    if variant is not None and variant not in known:
        raise ContractError(f"{folder / CONTRACT}: variant {variant!r}: unknown; expected {', '.join(known)}")
    names = [variant] if variant else sorted(known, key=lambda name: name != contract.recommended)
    variants = tuple(_bench_in_own_process(folder, name, repeats, threads) for name in names)
    return Bench(
        recommended=contract.recommended,
        timed_on=contract.timed_on,
        processor=processor_name(),
        threads=threads,
        processors=os.cpu_count(),
        variants=variants,
    )


def measure(call: Callable[[Picture], object], pictures: Sequence[Picture], repeats: int) -> Latency:
    """Time a function on every picture in turn; the very first call is reported apart.

    Args:
        call: takes one picture; its result is ignored.
        pictures: at least one, as `call` takes them.
        repeats: rounds over the pictures, at least 1.
    """
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
    """Measure one variant in a child process: the system reports a process's peak memory over its whole life."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, folder, variant, repeats, threads)
    child = context.Process(target=_answer, args=arguments, daemon=True)
    child.start()
    sender.close()
    try:
        answer: VariantBench | DeviceError = receiver.recv()
    except EOFError as error:
        raise DeviceError(f"{variant}: its process ended without an answer; is there enough memory?") from error
    finally:
        child.terminate()
        child.join()
    if isinstance(answer, DeviceError):
        raise answer
    return answer


def _answer(sender: Connection, folder: Path, variant: str, repeats: int, threads: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        sender.send(_bench_variant(folder, variant, repeats, threads))
    except DeviceError as error:
        sender.send(error)


def _end_with_the_parent() -> None:
    """End this process as soon as its parent has ended, however that was."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


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
    """Return the peak resident memory of this process; None where the system does not report it."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":
        # getrusage would also count the memory that the parent held when it started this process.
        try:
            lines = status.read_text().splitlines()
        except OSError:  # without /proc
            return None
        peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]  # gVisor reports none
        return int(peaks[0]) / 1024 if peaks else None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _milliseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
