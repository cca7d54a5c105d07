"""Measure how often the 95 % intervals hold the truth: `python benchmarks/coverage.py [--quick] [--json]`.

Test sets are drawn at random: clips of 60 frames, and clips of 20 to 100. A clip's share of right frames is drawn from
a beta distribution with a stated mean and intraclass correlation (ICC); its frames are right or wrong by that share. A
clip's verdict is right when more than half of its frames are right. `coverage` is the share of test sets whose interval
holds the truth that the clips were drawn with. It should be 0.95; every interval that a report shows must reach 0.93.
A report shows the exact interval over clips (clips), the same within one class of three (clips_of_a_class), and from 30
clips on the cluster bootstrap over frames (frames). For comparison there are the exact interval over frames as if they
were independent (naive), and the bootstrap without the two added groups (plain). Exits 3 when an interval that a report
shows covers too little.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent))  # the checkout that the benchmark lies in

from pipeline.base.numbers.share_intervals import exact_interval
from pipeline.evaluate.intervals import GROUPS_FOR_A_BOOTSTRAP, bootstrap_percentiles

CLIPS = (3, 6, 10, 20, 30, 100)
ACCURACIES = (0.7, 0.9, 0.97)
ICCS = (0.0, 0.3, 0.7)
FRAMES = {"equal": (60, 60), "unequal": (20, 100)}  # of a clip, at least and at most
MUST_COVER = 0.93
RESAMPLES = 500  # the product takes 10,000: its intervals are less noisy, and cover no less
SHOWN = ("clips", "clips_of_a_class", "frames")
_KEYS = ("n_clips", "accuracy", "icc", "frames_of_a_clip")


@dataclass(frozen=True)
class Setting:
    """The distribution that test sets are drawn from."""

    n_clips: int
    accuracy: float  # of a frame
    icc: float  # how alike the frames of a clip are in being right
    frames: str  # a key of FRAMES

    def draw(self, generator: np.random.Generator, n_sets: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Right frames and all frames of each clip (sets, clips)."""
        low, high = FRAMES[self.frames]
        n_frames = generator.integers(low, high + 1, size=(n_sets, self.n_clips))
        share = generator.beta(*self._beta, size=n_frames.shape) if self.icc else self.accuracy
        return generator.binomial(n_frames, share), n_frames

    @property
    def clip_accuracy(self) -> float:
        """The true share of right verdicts: more than half of a clip's frames are right."""
        low, high = FRAMES[self.frames]
        sizes = np.arange(low, high + 1)
        if not self.icc:
            return float(stats.binom.sf(sizes // 2, sizes, self.accuracy).mean())
        return float(stats.betabinom.sf(sizes // 2, sizes, *self._beta).mean())

    @property
    def _beta(self) -> tuple[float, float]:
        together = (1 - self.icc) / self.icc
        return self.accuracy * together, (1 - self.accuracy) * together


def main() -> None:
    """Simulate and print; exit 3 when an interval that a report shows covers too little."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 test sets a setting instead of 2,000")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n_sets = 300 if arguments.quick else 2000
    settings = [
        Setting(n_clips, accuracy, icc, frames)
        for frames in FRAMES
        for n_clips in CLIPS
        for accuracy in ACCURACIES
        for icc in ICCS
    ]
    rows = [coverage(setting, n_sets, seed) for seed, setting in enumerate(settings)]
    # A simulated share varies: by chance alone a quick run may be three standard errors too low.
    slack = 3 * np.sqrt(MUST_COVER * (1 - MUST_COVER) / n_sets) if arguments.quick else 0.0
    worst = {name: min(row[name] for row in rows if row[name] is not None) for name in rows[0] if name not in _KEYS}
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "test_sets_per_setting": n_sets,
        "worst": worst,
        "settings": rows,
    }
    print(json.dumps(result, indent=2) if arguments.json else _as_lines(rows, worst))
    if any(worst[name] < MUST_COVER - slack for name in SHOWN):
        sys.exit(3)


def coverage(setting: Setting, n_sets: int, seed: int) -> dict[str, Any]:
    """Simulate one setting: the share of test sets for which each interval holds the truth.

    Args:
        setting: what the test sets are drawn from.
        n_sets: test sets.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    right, n_frames = setting.draw(generator, n_sets)
    verdicts = right > n_frames // 2
    held = {
        "clips": _clips_hold(verdicts, setting.clip_accuracy),
        "clips_of_a_class": _clips_hold(verdicts[:, ::3], setting.clip_accuracy),
        "frames": None,
        "naive": _holds(_naive(right.sum(axis=1), n_frames.sum(axis=1)), setting.accuracy),
        "plain": _holds(_plain_bootstrap(right, n_frames, generator), setting.accuracy),
    }
    if setting.n_clips >= GROUPS_FOR_A_BOOTSTRAP:
        drawn = zip(right.astype(np.float64), n_frames, strict=True)
        shown = [bootstrap_percentiles(*clips, seed, RESAMPLES) for seed, clips in enumerate(drawn)]
        held["frames"] = _holds(np.array(shown).T, setting.accuracy)
    values = (setting.n_clips, setting.accuracy, setting.icc, setting.frames)
    return {**dict(zip(_KEYS, values, strict=True)), **held}


def _clips_hold(verdicts: NDArray[np.bool_], truth: float) -> float:
    """The share of exact intervals over clips that hold the truth, for verdicts (sets, clips) that are right or not."""
    n_clips = verdicts.shape[1]
    interval_of_count = np.array([exact_interval(n_right, n_clips).to_json() for n_right in range(n_clips + 1)])
    return _holds(interval_of_count[verdicts.sum(axis=1)].T, truth)


def _naive(n_right: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    """The exact interval over frames as if they were independent: low and high (2, sets)."""
    low = np.where(n_right == 0, 0.0, stats.beta.ppf(0.025, np.maximum(n_right, 1), n - n_right + 1))
    return np.array([low, np.where(n_right == n, 1.0, stats.beta.ppf(0.975, n_right + 1, np.maximum(n - n_right, 1)))])


def _plain_bootstrap(
    right: NDArray[np.int64], n_frames: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """The percentile cluster bootstrap of textbooks: low and high (2, sets)."""
    n_clips = right.shape[1]
    times_drawn = generator.multinomial(n_clips, np.full(n_clips, 1 / n_clips), size=RESAMPLES).T
    percentiles: NDArray[np.float64] = np.percentile(
        (right @ times_drawn) / (n_frames @ times_drawn), [2.5, 97.5], axis=1
    )
    return percentiles


def _holds(intervals: NDArray[np.float64], truth: float) -> float:
    """The share of intervals (2, sets) that hold the truth."""
    return round(float(((intervals[0] <= truth) & (truth <= intervals[1])).mean()), 3)


def _as_lines(rows: list[dict[str, Any]], worst: dict[str, float]) -> str:
    """A Markdown table: for each number of clips the least coverage over accuracies, ICCs and frames of a clip."""
    names = [*SHOWN, "naive", "plain"]
    lines = ["| clips | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for n_clips in CLIPS:
        least = [min((row[name] for row in rows if row["n_clips"] == n_clips), key=_number) for name in names]
        lines.append(f"| {n_clips} | " + " | ".join("not shown" if v is None else f"{v:.3f}" for v in least) + " |")
    lines.append("| least | " + " | ".join(f"{worst[name]:.3f}" for name in names) + " |")
    return "\n".join(lines)


def _number(share: float | None) -> float:
    return 2.0 if share is None else share


if __name__ == "__main__":
    main()
