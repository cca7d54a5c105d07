"""What export tried, and the bytes of `reports/export.json`."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.export.record import CalibrationSet, ExporterTrial, ExportRecord
from export.export.search import Trial
from export.export.torch_export import Attempt
from pipeline.base.files import write_json
from pipeline.base.manifest import Row
from tests.support.gates import PASSING

MADE = Trial("fp32", "fp32", PASSING, float_layers=("head",), distance=2e-12, median_ms=1.5)
NOT_MADE = Trial("fp16", "fp16", problem="cannot be made (unsupported)")
CALIBRATION = CalibrationSet(3, 2, {"red": 2, "蓝色": 1})

EXPECTED = """\
{
  "search": "fast",
  "recommended": "fp32",
  "judged_on": "val",
  "n_frames": 8,
  "calibration": {
    "n_frames": 3,
    "n_clips": 2,
    "by_class": {
      "red": 2,
      "蓝色": 1
    }
  },
  "exporters": [
    {
      "exporter": "dynamo",
      "opset": 18,
      "batch": "dynamic",
      "verdict": "failed",
      "reasons": [
        "cannot be made (unsupported)"
      ]
    }
  ],
  "trials": [
    {
      "name": "fp32",
      "precision": "fp32",
      "chosen": true,
      "core_bytes": null,
      "median_ms": 1.5,
      "distance": 2e-12,
      "float_layers": [
        "head"
      ],
      "n_samples": 16,
      "max_abs_logit_difference": 5e-07,
      "logit_range": 0.875,
      "top1_agreement": 1.0,
      "flips": 0,
      "flips_outside_margin": 0,
      "top1": 0.5,
      "top1_drop": 0.0,
      "worst_class_drop": 0.0,
      "unknown": 0,
      "unknown_flips": 0,
      "verdict": "passed",
      "reasons": []
    },
    {
      "name": "fp16",
      "precision": "fp16",
      "chosen": false,
      "core_bytes": null,
      "median_ms": null,
      "distance": null,
      "float_layers": [],
      "verdict": "failed",
      "reasons": [
        "cannot be made (unsupported)"
      ]
    }
  ]
}
"""


def test_export_json_has_these_bytes(tmp_path: Path) -> None:
    exporters = [ExporterTrial(Attempt("dynamo", 18), NOT_MADE)]
    record = ExportRecord("fast", "val", 8, CALIBRATION, exporters, [MADE, NOT_MADE], [MADE])
    write_json(tmp_path / "export.json", record.to_json())
    assert (tmp_path / "export.json").read_bytes() == EXPECTED.encode()


def test_frames_clips_and_classes_of_the_calibration_are_counted() -> None:
    rows = [
        Row(f"{index}.jpg", label, group, "", group)
        for index, (label, group) in enumerate([("蓝色", "a"), ("red", "b"), ("red", "b")])
    ]
    assert CalibrationSet.of(rows) == CALIBRATION
    assert list(CalibrationSet.of(rows).by_class) == ["red", "蓝色"]


def test_records_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="contradicts itself"):
        CalibrationSet(3, 2, {"red": 2})
    with pytest.raises(ValueError, match="could not be made cannot be judged"):
        Trial("fp16", "fp16", PASSING, problem="cannot be made (unsupported)")
    with pytest.raises(ValueError, match="did not try"):
        ExportRecord("fast", "val", 8, CALIBRATION, trials=[NOT_MADE], kept=[MADE])
