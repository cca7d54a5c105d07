"""An earlier bundle beside the new one, on the frames that are held out now: what a device would gain by the change."""

from __future__ import annotations

import contextlib
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import runtime
from pipeline.base.errors import DataError
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project, safe_join
from runtime.archive import unpack
from runtime.classifier import Classifier
from runtime.contract import Contract
from runtime.errors import DeviceError, ImageError

SELFCHECK = (sys.executable, "-m", "runtime", "selfcheck")  # our own code, not that of the bundle
TIMED_CALLS = 40  # of each bundle at least; with fewer frames each is asked more than once


@dataclass(frozen=True)
class Opened:
    """A bundle whose recommended graph answers."""

    path: Path
    bytes: int  # of the zip
    held_out: frozenset[str] | None  # frames that its own report says it was judged on; None: it does not say
    classifier: Classifier


@dataclass
class _Answers:
    """What one bundle said of each frame, and how long it took."""

    classifier: Classifier
    labels: list[str | None] = field(default_factory=list)  # one a frame; None: none of the classes
    times_ms: list[float] = field(default_factory=list)

    def ask(self, pixels_hwc: NDArray[np.uint8]) -> None:
        self.labels.append(self.classifier.classify(pixels_hwc).label)

    def time(self, pixels_hwc: NDArray[np.uint8]) -> None:
        started = time.perf_counter()
        self.classifier.classify(pixels_hwc)
        self.times_ms.append(1000 * (time.perf_counter() - started))


@dataclass(frozen=True)
class Side:
    """One bundle's column."""

    variant: str  # the recommended one
    top1: float  # share of the frames that it calls by their class, as a device would
    median_ms: float  # from uint8 pixels to a label
    graph_bytes: int
    bytes: int  # of the zip


@dataclass(frozen=True)
class AgainstReport:
    """Both bundles on the same frames."""

    n_frames: int
    maybe_seen: int | None  # of them, by the earlier bundle's own report not held out then; None: it does not say
    flips: int
    gained: int  # flips that only the new bundle has right
    lost: int  # flips that only the earlier one had right
    earlier: Side
    new: Side

    @property
    def table(self) -> str:
        """Lines of three columns: what, earlier, new."""
        lines = [
            ("", "earlier", "new"),
            ("graph", self.earlier.variant, self.new.variant),
            ("top-1", f"{self.earlier.top1:.1%}", f"{self.new.top1:.1%}"),
            ("median latency, ms", f"{self.earlier.median_ms:.2f}", f"{self.new.median_ms:.2f}"),
            ("graph, MB", f"{self.earlier.graph_bytes / 1e6:.2f}", f"{self.new.graph_bytes / 1e6:.2f}"),
            ("bundle, MB", f"{self.earlier.bytes / 1e6:.2f}", f"{self.new.bytes / 1e6:.2f}"),
        ]
        return "\n".join(f"{what:<20}{earlier:>10}{new:>10}" for what, earlier, new in lines)

    @property
    def headline(self) -> str:
        """One line: accuracy, flips, latency and size; and a caution where the earlier network may know the frames."""
        points = 100 * (self.new.top1 - self.earlier.top1)
        latency, size = self.new.median_ms / self.earlier.median_ms, self.new.bytes / self.earlier.bytes
        return (
            f"against the earlier bundle, on {self.n_frames} held-out frames: {self.flips} flips"
            f" ({self.gained} now right, {self.lost} no longer), top-1 {points:+.1f} points,"
            f" {latency:.2f} times the latency, {size:.2f} times the size{self._caution}"
        )

    @property
    def _caution(self) -> str:
        if self.maybe_seen is None:
            return "; the earlier bundle does not say which frames were held out from it, so it may know these"
        if self.maybe_seen:
            return f"; {self.maybe_seen} of the frames were not held out from the earlier bundle, so it may know them"
        return ""


@contextlib.contextmanager
def opened(bundle_zip: Path, classes: Sequence[str]) -> Iterator[Opened]:
    """Unpack a bundle as a device would, let it check itself, and open its recommended graph.

    Raises:
        DataError: it is not exactly a bundle, it fails its selfcheck on this machine, or its classes are others.
    """
    with tempfile.TemporaryDirectory(prefix="bundle-") as parent:
        folder = Path(parent) / "bundle"
        try:
            unpack(bundle_zip, folder)
            _selfcheck(folder, bundle_zip)
            classifier = Classifier.load(folder)
        except DeviceError as error:
            raise DataError(f"{bundle_zip}: no bundle to compare with ({error})") from error
        found = classifier.contract.classes
        if set(found) != set(classes):
            raise DataError(f"{bundle_zip}: its classes are {', '.join(found)}; expected {', '.join(classes)}")
        held_out = _held_out(folder / "reports" / "predictions.csv")
        yield Opened(bundle_zip, bundle_zip.stat().st_size, held_out, classifier)


@contextlib.contextmanager
def opened_earlier(bundle_zip: Path, project: Project) -> Iterator[Opened]:
    """The earlier bundle, held to the classes of the project's contract; to be opened before a new one is written.

    Raises:
        DataError: as `opened`.
        ContractError: the project has no contract.
    """
    with opened(bundle_zip, Contract.read(project.contract_json).classes) as earlier:
        yield earlier


def compare(earlier: Opened, project: Project) -> AgainstReport:
    """Ask both bundles about every held-out frame, in turns; each frame is decoded once.

    Raises:
        DataError: no frame is held out, or one is missing, broken or outside either contract's bounds.
    """
    rows = [row for row in read_split_without_leaks(project) if row.split == "test"]
    with opened(project.bundle_zip, earlier.classifier.contract.classes) as new:
        before, after = _Answers(earlier.classifier), _Answers(new.classifier)
        _ask_in_turns(rows, (before, after), project)
        was_right, is_right = _right(before, rows), _right(after, rows)
        return AgainstReport(
            n_frames=len(rows),
            maybe_seen=None if earlier.held_out is None else sum(row.path not in earlier.held_out for row in rows),
            flips=sum(one != other for one, other in zip(before.labels, after.labels, strict=True)),
            gained=int((is_right & ~was_right).sum()),
            lost=int((was_right & ~is_right).sum()),
            earlier=_side(earlier, before, was_right),
            new=_side(new, after, is_right),
        )


def _selfcheck(folder: Path, bundle_zip: Path) -> None:
    """In a process of its own: a stranger's graph that crashes onnxruntime costs that process, not this one."""
    finished = subprocess.run(
        [*SELFCHECK, "--bundle", str(folder.absolute())],
        cwd=Path(runtime.__file__).parents[1],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if finished.returncode < 0:
        raise DataError(f"{bundle_zip}: no bundle to compare with (its graph crashed: signal {-finished.returncode})")
    if finished.returncode:
        said = (finished.stderr.strip().splitlines() or [f"exit {finished.returncode}"])[-1]
        raise DataError(f"{bundle_zip}: no bundle to compare with (its selfcheck says: {said})")


def _ask_in_turns(rows: Sequence[Row], both: Sequence[_Answers], project: Project) -> None:
    """Each frame to both, then both timed on it; who goes first changes, for the second finds the other's caches."""
    rounds = -(-TIMED_CALLS // len(rows))
    for number, row in enumerate(track(rows, "both bundles", len(rows))):
        try:
            pixels_hwc = both[-1].classifier.read(safe_join(project.root, row.path))
            for answers in both:
                answers.ask(pixels_hwc)
        except ImageError as error:
            raise DataError(f"{row.path}: {error}") from error
        for turn in range(rounds):
            for answers in both if (number + turn) % 2 else reversed(both):
                answers.time(pixels_hwc)


def _right(answers: _Answers, rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([label == row.label for label, row in zip(answers.labels, rows, strict=True)])


def _side(bundle: Opened, answers: _Answers, right: NDArray[np.bool_]) -> Side:
    variant = bundle.classifier.variant
    return Side(
        variant=variant.name,
        top1=float(right.mean()),
        median_ms=statistics.median(answers.times_ms),
        graph_bytes=variant.bytes,
        bytes=bundle.bytes,
    )


def _held_out(predictions_csv: Path) -> frozenset[str] | None:
    try:
        with predictions_csv.open(encoding="utf-8", newline="") as file:
            paths = frozenset(row["path"] for row in csv.DictReader(file))
    except (OSError, ValueError, csv.Error, KeyError):
        return None
    return paths or None
