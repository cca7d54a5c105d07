"""An earlier bundle beside the new one, on the frames that are held out now: what a device gains by the change."""

from __future__ import annotations

import contextlib
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import runtime
from pipeline.base.csv_files import table_rows
from pipeline.base.errors import DataError
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project, safe_join
from pipeline.base.scratch import scratch_folder
from pipeline.base.words import counted
from runtime.archive import unpack
from runtime.classifier import Classifier
from runtime.contract import Contract
from runtime.errors import DeviceError, ImageError

SELFCHECK = (sys.executable, "-m", "runtime", "selfcheck")  # the project's code, not the bundle's
TIMED_CALLS = 40  # of each bundle at least; with fewer frames, each frame is timed more than once


@dataclass(frozen=True)
class OpenBundle:
    """A bundle that passed its selfcheck, with its recommended graph opened."""

    path: Path
    bytes: int  # of the zip
    held_out: frozenset[str] | None  # paths of the frames that its own report lists as held out; None: no such report
    classifier: Classifier


@dataclass
class _Answers:
    """One bundle's label for each frame, and the times that it took."""

    classifier: Classifier
    labels: list[str | None] = field(default_factory=list)  # of each frame; None: none of the classes
    times_ms: list[float] = field(default_factory=list)

    def ask(self, pixels_hwc: NDArray[np.uint8]) -> None:
        self.labels.append(self.classifier.classify(pixels_hwc).label)

    def time(self, pixels_hwc: NDArray[np.uint8]) -> None:
        started = time.perf_counter()
        self.classifier.classify(pixels_hwc)
        self.times_ms.append(1000 * (time.perf_counter() - started))


@dataclass(frozen=True)
class BundleFigures:
    """One bundle's column in the table."""

    variant: str  # the recommended one
    top1: float  # share of the frames that get their class as the label on a device
    median_ms: float  # from uint8 pixels to a label
    graph_bytes: int
    bytes: int  # of the zip


@dataclass(frozen=True)
class BundleComparison:
    """Both bundles on the same frames."""

    n_frames: int
    maybe_seen: int | None  # frames that the earlier bundle's report does not list as held out; None: no such report
    flips: int
    gained: int  # flips that only the new bundle has right
    lost: int  # flips that only the earlier one had right
    earlier: BundleFigures
    new: BundleFigures

    @property
    def table(self) -> str:
        """Lines of three columns: what is compared, the earlier bundle, the new bundle."""
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
        """One line: flips, accuracy, latency and size; and a caution where the earlier bundle may have seen them."""
        points = 100 * (self.new.top1 - self.earlier.top1)
        latency, size = self.new.median_ms / self.earlier.median_ms, self.new.bytes / self.earlier.bytes
        return (
            f"against the earlier bundle, on {counted(self.n_frames, 'held-out frame')}: {counted(self.flips, 'flip')}"
            f" ({self.gained} newly right, {self.lost} newly wrong), top-1 {points:+.1f} points,"
            f" {latency:.2f} times the latency, {size:.2f} times the size{self._caution}"
        )

    @property
    def _caution(self) -> str:
        if self.maybe_seen is None:
            return "; the earlier bundle does not say which frames were held out: it may have seen these"
        if self.maybe_seen:
            return f"; {self.maybe_seen} of them were not held out from the earlier bundle, which may have seen them"
        return ""


@contextlib.contextmanager
def open_bundle(bundle_zip: Path, classes: Sequence[str]) -> Iterator[OpenBundle]:
    """Unpack a bundle as a device does, let it check itself, and open its recommended graph.

    Raises:
        DataError: the file is not exactly a bundle, it fails its selfcheck on this machine, or it has other classes.
    """
    with scratch_folder("bundle") as parent:
        folder = parent / "bundle"
        try:
            unpack(bundle_zip, folder)
            _selfcheck(folder, bundle_zip)
            classifier = Classifier.load(folder)
        except DeviceError as error:
            raise DataError(f"{bundle_zip}: no bundle to compare with ({error})") from error
        bundled = classifier.contract.classes
        if set(bundled) != set(classes):
            raise DataError(f"{bundle_zip}: its classes are {', '.join(bundled)}; expected {', '.join(classes)}")
        held_out = _held_out(folder / "reports" / "predictions.csv")
        yield OpenBundle(bundle_zip, bundle_zip.stat().st_size, held_out, classifier)


@contextlib.contextmanager
def open_earlier_bundle(bundle_zip: Path, project: Project) -> Iterator[OpenBundle]:
    """Open the earlier bundle, which must have the classes of the project's contract.

    Open it before the new bundle is written: both may be the same file.

    Raises:
        DataError: as `open_bundle`.
        ContractError: the project has no contract.
    """
    with open_bundle(bundle_zip, Contract.read(project.contract_json).classes) as earlier:
        yield earlier


def compare(earlier: OpenBundle, project: Project) -> BundleComparison:
    """Compare the earlier bundle with the project's on every held-out frame. Each frame is decoded once for both.

    Raises:
        DataError: no frame is held out, or one is missing, broken or outside either contract's bounds.
    """
    rows = [row for row in read_split_without_leaks(project) if row.split == "test"]
    with open_bundle(project.bundle_zip, earlier.classifier.contract.classes) as new:
        before, after = _Answers(earlier.classifier), _Answers(new.classifier)
        _ask_in_turns(rows, (before, after), project)
        was_right, is_right = _right(before, rows), _right(after, rows)
        labels = zip(before.labels, after.labels, strict=True)
        return BundleComparison(
            n_frames=len(rows),
            maybe_seen=None if earlier.held_out is None else sum(row.path not in earlier.held_out for row in rows),
            flips=sum(label_before != label_after for label_before, label_after in labels),
            gained=int((is_right & ~was_right).sum()),
            lost=int((was_right & ~is_right).sum()),
            earlier=_figures(earlier, before, was_right),
            new=_figures(new, after, is_right),
        )


def _selfcheck(folder: Path, bundle_zip: Path) -> None:
    """Let an unpacked bundle check itself, in a process of its own: a graph that crashes onnxruntime ends only that."""
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
        last_line = (finished.stderr.strip().splitlines() or [f"exit {finished.returncode}"])[-1]
        raise DataError(f"{bundle_zip}: no bundle to compare with (its selfcheck says: {last_line})")


def _ask_in_turns(rows: Sequence[Row], both: Sequence[_Answers], project: Project) -> None:
    """Ask both bundles about each frame, then time both on it.

    The order changes every time, because the second call finds the caches that the first has filled.
    """
    rounds = -(-TIMED_CALLS // len(rows))
    for index, row in enumerate(track(rows, "both bundles", len(rows))):
        try:
            pixels_hwc = both[-1].classifier.read(safe_join(project.root, row.path))
            for answers in both:
                answers.ask(pixels_hwc)
        except ImageError as error:
            raise DataError(f"{row.path}: {error}") from error
        for turn in range(rounds):
            for answers in both if (index + turn) % 2 else reversed(both):
                answers.time(pixels_hwc)


def _right(answers: _Answers, rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([label == row.label for label, row in zip(answers.labels, rows, strict=True)])


def _figures(bundle: OpenBundle, answers: _Answers, right: NDArray[np.bool_]) -> BundleFigures:
    variant = bundle.classifier.variant
    return BundleFigures(
        variant=variant.name,
        top1=float(right.mean()),
        median_ms=statistics.median(answers.times_ms),
        graph_bytes=variant.bytes,
        bytes=bundle.bytes,
    )


def _held_out(predictions_csv: Path) -> frozenset[str] | None:
    try:
        with predictions_csv.open(encoding="utf-8", newline="") as file:
            paths = frozenset(row["path"] for row in table_rows(file))
    except (OSError, ValueError, csv.Error, KeyError):
        return None
    return paths or None
