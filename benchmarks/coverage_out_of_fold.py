"""Measure how often the interval of an out-of-fold estimate holds the truth.

    python benchmarks/coverage_out_of_fold.py [--quick] [--repeats] [--json]

Clips are dealt to as many folds as the rarest class has clips, at most five. A head that learned from the other folds
judges each clip. The report shows the share of right clips and its interval. The truth is the accuracy on new clips of
the head that ships, which learned from all clips.

A clip is a point in the space of features: the mean of its class, an effect that all its frames share, and the mean of
the noise of its frames. Class means are drawn anew for every hundred data sets. Their distance is such that the head
that ships calls the stated share of new clips right, on the mean. The head is a linear discriminant with a ridge.
Frames enter it through the mean of their clip and through their scatter, of which the expectation is taken. A clip's
verdict is that of its mean logits. In uneven data some classes have twice the clips, clips have 20 to 100 frames, and
some clips lie far from their class. A loose head has a ridge of a tenth.

`--repeats` deals the clips five times and averages a clip's probabilities. Exits 3 when an interval that a report shows
covers too little.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))  # the checkout that the benchmark lies in

from pipeline.base.numbers.share_intervals import share_interval

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

CLASSES = (2, 4, 10)
CLIPS = (2, 3, 5, 10, 25)  # of the rarest class
ACCURACIES = (0.7, 0.9, 0.97)  # of the head that ships, over clips
# The kind of data, its intraclass correlation (the share of a frame's variance that is its clip's), and the features.
CASES = (
    *(("even", icc, 32) for icc in (0.0, 0.3, 0.7)),
    *(("even", 0.3, n_features) for n_features in (8, 64)),
    ("uneven", 0.3, 32),
    ("photos", 0.0, 32),
    ("photos, loose head", 0.0, 32),
)
MOST_FOLDS = 5
MUST_COVER = 0.93
DRAWS_OF_A_WORLD = 100  # data sets with the same class means
NEW_CLIPS = 20  # per clip of the data set, to measure the truth by
RIDGE, LOOSE_RIDGE = 1.0, 0.1  # of the variance of a frame; only photos need it, since a clip brings its own
TAIL = 5  # degrees of freedom of the clip effects of uneven data, which are t-distributed


@dataclass(frozen=True)
class Setting:
    """What data sets are drawn from."""

    n_classes: int
    n_clips: int  # of the rarest class
    n_features: int
    accuracy: float
    icc: float
    kind: str  # even: 60 frames a clip; uneven: 20 to 100, and twice the clips in some classes; photos: one frame

    @property
    def clips_by_class(self) -> Integers:
        """The number of clips of each class."""
        times = 1 + np.arange(self.n_classes) % 2 if self.kind == "uneven" else np.ones(self.n_classes, dtype=int)
        return self.n_clips * times

    @property
    def n_folds(self) -> int:
        """As many as the rarest class has clips, at most five."""
        return min(MOST_FOLDS, self.n_clips)

    @property
    def ridge(self) -> float:
        """What the frames of a clip add to the scatter of the clips' means, with the head's own ridge."""
        if self.shows_photos:
            return LOOSE_RIDGE if self.kind == "photos, loose head" else RIDGE
        return (1 - self.icc) * (1 - 1 / 60) + LOOSE_RIDGE

    @property
    def shows_photos(self) -> bool:
        """Whether each clip is one frame."""
        return self.kind.startswith("photos")

    def draw_sizes(self, generator: np.random.Generator, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        """The frames of each clip, and the standard deviation of its mean around its class (both of the shape)."""
        if self.shows_photos:
            return np.ones(shape, np.float32), np.ones(shape, np.float32)
        if self.kind == "even":
            frames, tail = np.full(shape, 60.0), np.ones(shape)
        else:
            frames = generator.integers(20, 101, size=shape).astype(float)
            tail = (TAIL - 2) / generator.chisquare(TAIL, size=shape)
        deviation = np.sqrt(self.icc * tail + (1 - self.icc) / frames)
        return frames.astype(np.float32), deviation.astype(np.float32)


@dataclass(frozen=True)
class Sums:
    """What a linear discriminant needs to know of some clips, of each data set."""

    squares: Floats  # (sets, features, features), weighted by frames
    by_class: Floats  # (sets, classes, features), weighted by frames
    frames: Floats  # (sets, classes)

    def less(self, other: Sums) -> Sums:
        """The sums without some of the clips."""
        return Sums(self.squares - other.squares, self.by_class - other.by_class, self.frames - other.frames)


@dataclass(frozen=True)
class Heads:
    """A linear head of each data set."""

    weights: Floats  # (sets, features, classes)
    biases: Floats  # (sets, classes)

    def logits(self, features: Floats) -> Floats:
        """Logits (sets, clips, classes) of features (sets, clips, features)."""
        logits: Floats = features @ self.weights + self.biases[:, None]
        return logits


@dataclass(frozen=True)
class DataSets:
    """Data sets with the same class means."""

    means: Floats  # (classes, features)
    class_of: Integers  # (clips,)
    features: Floats  # (sets, clips, features): the mean over the frames of each clip
    frames: Floats  # (sets, clips)

    def sums(self, clips: NDArray[np.bool_]) -> Sums:
        """The sums over some clips (clips,)."""
        features, frames = self.features[:, clips], self.frames[:, clips]
        one_hot = np.eye(len(self.means), dtype=np.float32)[self.class_of[clips]]
        weights = frames[..., None] * one_hot
        squares = np.swapaxes(features * frames[..., None], 1, 2) @ features
        return Sums(squares, np.swapaxes(weights, 1, 2) @ features, weights.sum(axis=1))


@dataclass(frozen=True)
class Outcome:
    """What one data set after the other gives."""

    right: Integers  # (sets,) clips that their fold's head calls right
    right_of_first_fold: Integers  # (sets,)
    truth: Floats  # (sets,) accuracy of the head that ships


def main() -> None:
    """Simulate and print; exit 3 when an interval that a report shows covers too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300 data sets of few settings, instead of 2,000 of all")
    parser.add_argument("--repeats", action="store_true", help="deal the clips five times instead of once")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n_sets, n_repeats = 300 if arguments.quick else 2000, 5 if arguments.repeats else 1
    rows = [simulate(setting, n_sets, n_repeats, seed) for seed, setting in enumerate(settings(arguments.quick))]
    # A simulated share varies: by chance alone a quick run may be three standard errors too low.
    slack = 3 * np.sqrt(MUST_COVER * (1 - MUST_COVER) / n_sets) if arguments.quick else 0.0
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "data_sets_per_setting": n_sets,
        "repeats": n_repeats,
        "worst": min(row["coverage"] for row in rows),
        "settings": rows,
    }
    print(json.dumps(result, indent=2) if arguments.json else _as_lines(rows))
    if result["worst"] < MUST_COVER - slack:
        sys.exit(3)


def settings(quick: bool) -> list[Setting]:
    """All settings, or a few of them."""
    return [
        Setting(n_classes, n_clips, n_features, accuracy, icc, kind)
        for n_classes in CLASSES
        for n_clips in (CLIPS[:3] if quick else CLIPS)
        for accuracy in ACCURACIES
        for kind, icc, n_features in (CASES[-3:] if quick else CASES)
    ]


def simulate(setting: Setting, n_sets: int, n_repeats: int, seed: int) -> dict[str, Any]:
    """Simulate one setting: how often the interval holds the truth, and how far the estimate is from it.

    Args:
        setting: what data sets are drawn from.
        n_sets: data sets.
        n_repeats: how often the clips of a data set are dealt to folds.
        seed: of the draws.
    """
    return summarise(setting, draw_outcomes(setting, n_sets, n_repeats, seed))


def summarise(setting: Setting, outcome: Outcome) -> dict[str, Any]:
    """How often the interval holds the truth, and how far the estimate is from it."""
    n_clips, n_first = int(setting.clips_by_class.sum()), int(_first_fold(setting).sum())
    low, high = _ends(n_clips, setting.n_folds)[outcome.right].T
    exact_low, exact_high = _ends(n_clips, None)[outcome.right].T
    first_low, first_high = _ends(n_first, None)[outcome.right_of_first_fold].T
    return {
        **vars(setting),
        "folds": setting.n_folds,
        "coverage": round(float(((low <= outcome.truth) & (outcome.truth <= high)).mean()), 4),
        "truth_is_lower": round(float((outcome.truth < low).mean()), 4),
        "truth_is_higher": round(float((outcome.truth > high).mean()), 4),
        "coverage_of_exact": round(float(((exact_low <= outcome.truth) & (outcome.truth <= exact_high)).mean()), 4),
        "signed_error": round(float((outcome.right / n_clips - outcome.truth).mean()), 4),
        "truth": round(float(outcome.truth.mean()), 4),
        "width": round(float((high - low).mean()), 4),
        "width_of_exact": round(float((exact_high - exact_low).mean()), 4),
        "width_of_hold_out": round(float((first_high - first_low).mean()), 4),
    }


@functools.cache
def _ends(n_clips: int, n_folds: int | None) -> Floats:
    """The ends of the interval for each number of right clips (clips + 1, 2); exact without folds."""
    return np.array([share_interval(n_right, n_clips, n_folds).to_json() for n_right in range(n_clips + 1)])


def draw_outcomes(setting: Setting, n_sets: int, n_repeats: int, seed: int) -> Outcome:
    """Draw data sets, judge their clips out of fold, and measure the head that ships.

    Args:
        setting: what data sets are drawn from.
        n_sets: data sets.
        n_repeats: how often the clips of a data set are dealt to folds.
        seed: of the draws.
    """
    distance = _distance_of_classes(setting, seed)
    outcomes = []
    for start in range(0, n_sets, DRAWS_OF_A_WORLD):
        generator = np.random.default_rng((seed, 1 + start))
        sets = _draw(setting, distance, generator, min(DRAWS_OF_A_WORLD, n_sets - start))
        every = sets.sums(np.full(len(sets.class_of), fill_value=True))
        truth = _accuracy_on_new_clips(_fit(every, setting.ridge), sets, setting, generator)
        is_right = _right_out_of_fold(sets, every, setting, generator, n_repeats)
        outcomes.append((is_right.sum(axis=1), is_right[:, _first_fold(setting)].sum(axis=1), truth))
    return Outcome(*(np.concatenate(parts) for parts in zip(*outcomes, strict=True)))


def _distance_of_classes(setting: Setting, seed: int) -> float:
    """The spread of the class means at which the head that ships has the wanted accuracy, on the mean of six worlds."""
    low, high = 0.1, 30.0
    for _ in range(9):
        middle, accuracies = float(np.sqrt(low * high)), []
        for world in range(6):
            generator = np.random.default_rng((seed, 0, world))
            sets = _draw(setting, middle, generator, 4)
            heads = _fit(sets.sums(np.full(len(sets.class_of), fill_value=True)), setting.ridge)
            accuracies.append(_accuracy_on_new_clips(heads, sets, setting, generator).mean())
        low, high = (middle, high) if np.mean(accuracies) < setting.accuracy else (low, middle)
    return float(np.sqrt(low * high))


def _draw(setting: Setting, distance: float, generator: np.random.Generator, n_sets: int) -> DataSets:
    means = generator.standard_normal((setting.n_classes, setting.n_features), dtype=np.float32)
    means *= np.float32(distance / setting.n_features**0.5)
    class_of = np.repeat(np.arange(setting.n_classes), setting.clips_by_class)
    frames, deviation = setting.draw_sizes(generator, (n_sets, len(class_of)))
    features = generator.standard_normal((n_sets, len(class_of), setting.n_features), dtype=np.float32)
    features *= deviation[..., None]
    features += means[class_of]
    return DataSets(means, class_of, features, frames)


def _fit(sums: Sums, ridge: float) -> Heads:
    """The linear discriminant with a ridge, of each data set."""
    frames = sums.frames.sum(axis=1)
    means = sums.by_class / sums.frames[..., None]
    scatter = sums.squares - np.swapaxes(sums.by_class, 1, 2) @ means
    scatter = scatter / frames[:, None, None] + np.float32(ridge) * np.eye(scatter.shape[1], dtype=np.float32)
    weights = np.linalg.solve(scatter, np.swapaxes(means, 1, 2))
    biases = np.log(sums.frames / frames[:, None]) - (means * np.swapaxes(weights, 1, 2)).sum(axis=2) / 2
    return Heads(weights, biases)


def _accuracy_on_new_clips(heads: Heads, sets: DataSets, setting: Setting, generator: np.random.Generator) -> Floats:
    """The share of new clips, as many of each class as the data sets have, that each head calls right (sets,)."""
    n_new = max(NEW_CLIPS, 4000 // len(sets.class_of)) * setting.clips_by_class
    # Isotropic noise of the features is noise of the logits with the weights' own covariance: as many numbers a clip as
    # there are classes are enough, and the data sets may share them.
    root = np.linalg.qr(heads.weights, mode="r")
    is_right = np.zeros(len(root))
    for class_number, n_of_class in enumerate(n_new):
        _, deviation = setting.draw_sizes(generator, (n_of_class,))
        noise = generator.standard_normal((n_of_class, root.shape[1]), dtype=np.float32)
        logits = (deviation[:, None] * noise) @ root + heads.logits(sets.means[None, class_number : class_number + 1])
        is_right += (logits.argmax(axis=2) == class_number).sum(axis=1)
    share: Floats = is_right / n_new.sum()
    return share


def _right_out_of_fold(
    sets: DataSets, every: Sums, setting: Setting, generator: np.random.Generator, n_repeats: int
) -> NDArray[np.bool_]:
    """Whether each clip's verdict out of fold is right (sets, clips)."""
    probabilities = np.zeros((*sets.frames.shape, setting.n_classes))
    for repeat in range(n_repeats):
        fold_of = _deal(setting) if repeat == 0 else _deal(setting, generator)
        for fold in range(setting.n_folds):
            judged = fold_of == fold
            heads = _fit(every.less(sets.sums(judged)), setting.ridge)
            probabilities[:, judged] += _softmax(heads.logits(sets.features[:, judged]))
    is_right: NDArray[np.bool_] = probabilities.argmax(axis=2) == sets.class_of
    return is_right


def _deal(setting: Setting, generator: np.random.Generator | None = None) -> Integers:
    """The fold of each clip: in turn within each class, in a drawn order where there is a generator."""
    numbers = [np.arange(n) for n in setting.clips_by_class]
    orders = numbers if generator is None else [generator.permutation(order) for order in numbers]
    return np.concatenate(orders) % setting.n_folds


def _first_fold(setting: Setting) -> NDArray[np.bool_]:
    """The clips that a hold-out of one fold would judge (clips,)."""
    is_first: NDArray[np.bool_] = _deal(setting) == 0
    return is_first


def _softmax(logits: Floats) -> Floats:
    exponents = np.exp(logits - logits.max(axis=2, keepdims=True))
    probabilities: Floats = exponents / exponents.sum(axis=2, keepdims=True)
    return probabilities


def _as_lines(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: for each number of clips of the rarest class the worst settings, and means over settings."""
    lines = [
        "| clips of the rarest class | folds | coverage, least | exact interval, least | truth lower, most "
        "| truth higher, most | signed error, least | mean | most | width | exact interval | hold-out |",
        "|---" * 12 + "|",
    ]
    for n_clips in CLIPS:
        of_size = [row for row in rows if row["n_clips"] == n_clips]
        if not of_size:
            continue

        def column(name: str, of_size: list[dict[str, Any]] = of_size) -> Floats:
            return np.array([row[name] for row in of_size])

        error = 100 * column("signed_error")
        lines.append(
            f"| {n_clips} | {of_size[0]['folds']} | {column('coverage').min():.3f} "
            f"| {column('coverage_of_exact').min():.3f} "
            f"| {column('truth_is_lower').max():.3f} | {column('truth_is_higher').max():.3f} "
            f"| {error.min():+.1f} | {error.mean():+.1f} | {error.max():+.1f} "
            f"| {column('width').mean():.2f} | {column('width_of_exact').mean():.2f} "
            f"| {column('width_of_hold_out').mean():.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
