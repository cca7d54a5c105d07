"""An earlier bundle beside the new one, on recordings that neither has learned from: what a change is worth."""

from __future__ import annotations

import contextlib
import json
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
from export.graphs.fold_heads import judged_rows
from export.graphs.out_of_fold import ask_folds, read_judged_frames
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project, safe_join
from pipeline.base.storage.scratch import scratch_folder
from pipeline.base.words import counted
from pipeline.network.checkpoint import read_checkpoint
from runtime.archive import unpack
from runtime.classifier import Classifier
from runtime.contract import Contract
from runtime.errors import DeviceError, ImageError

SELFCHECK = (sys.executable, "-m", "runtime", "selfcheck")  # the project's code, not the bundle's
FEWEST_CLIPS = 6  # with fewer, no difference is beyond chance: 5 of 5 come out one way once in 16 times
TIMED_CALLS = 40  # of each bundle at least; with fewer frames, each frame is timed more than once


@dataclass(frozen=True)
class OpenBundle:
    """A bundle that passed its selfcheck, with its recommended graph opened."""

    path: Path
    bytes: int  # of the zip
    learned_from: frozenset[str] | None  # sha256 of the recordings that it was fitted to; None: it does not say
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
    n_clips: int
    left_out: int | None  # recordings that the earlier bundle was fitted to; None: it does not say which these are
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
        """One line: flips, accuracy, latency and size; or that too few clips are new to the earlier bundle."""
        if not self.can_tell:
            n_recordings = self.n_clips + (self.left_out or 0)
            return (
                f"against the earlier bundle: cannot tell which is better, since only {counted(self.n_clips, 'clip')} "
                f"of {n_recordings} recordings {'is' if self.n_clips == 1 else 'are'} new to it; "
                f"expected at least {FEWEST_CLIPS}"
            )
        points = 100 * (self.new.top1 - self.earlier.top1)
        latency, size = self.new.median_ms / self.earlier.median_ms, self.new.bytes / self.earlier.bytes
        return (
            f"against the earlier bundle, on {counted(self.n_frames, 'frame')} of {counted(self.n_clips, 'clip')} that "
            f"neither has learned from: {counted(self.flips, 'flip')}"
            f" ({self.gained} newly right, {self.lost} newly wrong), top-1 {points:+.1f} points,"
            f" {latency:.2f} times the latency, {size:.2f} times the size{self._caution}"
        )

    @property
    def can_tell(self) -> bool:
        """Whether there are enough clips that the earlier bundle has not learned from."""
        return self.n_clips >= FEWEST_CLIPS

    @property
    def _caution(self) -> str:
        if self.left_out is None:
            return "; the earlier bundle does not say what it was fitted to: it may have seen these"
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
        learned_from = _learned_from(folder / "reports" / "provenance.json")
        yield OpenBundle(bundle_zip, bundle_zip.stat().st_size, learned_from, classifier)


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
    """Compare the earlier bundle with the project's on frames that neither has learned from.

    Where folds judge, the new bundle answers out of fold: with the head that has not learned from the frame.

    Raises:
        DataError: no frame is judged, or one is missing, broken or outside either contract's bounds.
    """
    rows = read_split_without_leaks(project)
    by_folds = read_json(project.evaluate_json)["estimate"] == "folds"  # bundle has proven it to be of this network
    judged = judged_rows(rows) if by_folds else [row for row in rows if row.split == "test"]
    learned = earlier.learned_from or frozenset()
    new_to_both = [row for row in judged if row.source_sha256 not in learned]
    asked = new_to_both or judged[:1]  # the clocks need a frame
    with open_bundle(project.bundle_zip, earlier.classifier.contract.classes) as new:
        before, after = _Answers(earlier.classifier), _Answers(new.classifier)
        _ask_in_turns(asked, (before, after), project)
        if by_folds:
            after.labels = _labels_out_of_fold(asked, new.classifier, project)
        was_right, is_right = _right(before, asked), _right(after, asked)
        labels = zip(before.labels, after.labels, strict=True)
        left_out = len({row.source_sha256 for row in judged if row.source_sha256 in learned})
        return BundleComparison(
            n_frames=len(new_to_both),
            n_clips=len({row.group for row in new_to_both}),
            left_out=None if earlier.learned_from is None else left_out,
            flips=sum(label_before != label_after for label_before, label_after in labels),
            gained=int((is_right & ~was_right).sum()),
            lost=int((was_right & ~is_right).sum()),
            earlier=_figures(earlier, before, was_right),
            new=_figures(new, after, is_right),
        )


def _labels_out_of_fold(rows: Sequence[Row], classifier: Classifier, project: Project) -> list[str | None]:
    """The labels that the new bundle's graph gives with the head of each frame's fold."""
    frames = read_judged_frames(rows, read_checkpoint(project.checkpoint), project)
    variant = Contract.read(project.contract_json).variant(classifier.variant.name)
    (route,) = ask_folds(frames, {variant.name: variant}, project)
    if route.problem:
        raise DataError(f"{variant.file}: {route.problem}")
    answers = route.answers
    return [classifier.judge(*answer).label for answer in zip(answers.logits, answers.scores.tolist(), strict=True)]


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


def _learned_from(provenance_json: Path) -> frozenset[str] | None:
    try:
        learned_from = json.loads(provenance_json.read_text(encoding="utf-8"))["learned_from"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return frozenset(map(str, learned_from)) if isinstance(learned_from, list) else None
