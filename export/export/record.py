"""What export tried on the way to the variants, as `reports/export.json` holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from export.export.search import Trial
from export.export.torch_export import Attempt
from pipeline.base.manifest import Row


@dataclass(frozen=True)
class CalibrationSet:
    """The training frames on which ranges, biases and distances were measured."""

    n_frames: int
    n_clips: int
    by_class: Mapping[str, int]

    def __post_init__(self) -> None:
        if sum(self.by_class.values()) != self.n_frames or self.n_clips > self.n_frames:
            raise ValueError(f"a calibration set contradicts itself: {self}")

    @classmethod
    def of(cls, rows: Sequence[Row]) -> CalibrationSet:
        """Count the frames."""
        by_class = dict(sorted(Counter(row.label for row in rows).items()))
        return cls(len(rows), len({row.group for row in rows}), by_class)


@dataclass(frozen=True)
class ExporterTrial:
    """One exporter's graph after it was held against torch."""

    attempt: Attempt
    trial: Trial

    def __str__(self) -> str:
        attempt = self.attempt
        reasons = ", ".join(self.trial.reasons)
        return f"{attempt.exporter}, opset {attempt.opset}, {attempt.batch} batch: {reasons}"

    def to_json(self) -> dict[str, Any]:
        """Return the attempt with its verdict as `reports/export.json` holds it."""
        return {**asdict(self.attempt), "verdict": self.trial.verdict, "reasons": self.trial.reasons}


@dataclass(frozen=True)
class ExportRecord:
    """The way to the variants."""

    search: str
    judged_on: str  # the side whose frames decided whether a chosen graph is kept
    n_frames: int  # of that side
    calibration: CalibrationSet
    exporters: Sequence[ExporterTrial] = ()
    trials: Sequence[Trial] = ()
    kept: Sequence[Trial] = ()  # in the order of preference; empty: no exporter's graph agrees with torch

    def __post_init__(self) -> None:
        if any(all(trial is not kept for trial in self.trials) for kept in self.kept):
            raise ValueError("export kept a graph that it did not try")

    def to_json(self) -> dict[str, Any]:
        """Return the content of `reports/export.json`."""
        return {
            "search": self.search,
            "recommended": self.kept[0].precision if self.kept else None,
            "judged_on": self.judged_on,
            "n_frames": self.n_frames,
            "calibration": asdict(self.calibration),
            "exporters": [tried.to_json() for tried in self.exporters],
            "trials": [trial.to_json(any(trial is kept for kept in self.kept)) for trial in self.trials],
        }
