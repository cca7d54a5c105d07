"""What parity found, and the bytes of `reports/parity.json`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from export.parity.blame import Blame, PartEffect
from export.parity.first_divergence import Layer
from export.parity.results import OddSize, ParityReport, VariantResult
from pipeline.base.files import write_json
from pipeline.base.numbers.checked_values import Interval
from pipeline.network.clip_answers import ClipAnswers
from tests.support.gates import PASSING

FAILING = dataclasses.replace(PASSING, flips=2, flips_outside_margin=1, verdict="failed", reasons=("1 flip",))
SILENT = dataclasses.replace(PASSING, max_abs_logit_difference=None, verdict="failed", reasons=("no number",))
HELD = OddSize("1x1", 0.25, None)
TOO_LARGE = OddSize("5000x3", None, "no memory")
BLAME = Blame(
    sentence="graph: …",
    n_frames=2,
    route="model.onnx",
    part="graph",
    parts={"pixels": PartEffect(0.0, 0), "graph": PartEffect(None, 2)},
    layer=Layer("conv", "Conv", "weights", None),
)
FP32 = VariantResult("fp32", "a" * 64, {"model.onnx": PASSING}, (HELD,))

# Every key, its order and its layout, as the stages report and bundle, and readers outside, know them.
EXPECTED = """\
{
  "passed": false,
  "recommended": null,
  "as_device": null,
  "variants": {
    "fp32": {
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
      "verdict": "failed",
      "reasons": [
        "core.onnx: 1 flip",
        "a picture of 5000x3: no memory"
      ],
      "precision": "fp32",
      "graph_sha256": "aaaa",
      "routes": {
        "model.onnx": {
          "n_samples": 16,
          "max_abs_logit_difference": 5e-07,
          "flips": 0,
          "verdict": "passed",
          "reasons": []
        },
        "core.onnx": {
          "n_samples": 16,
          "max_abs_logit_difference": 5e-07,
          "flips": 2,
          "verdict": "failed",
          "reasons": [
            "1 flip"
          ]
        }
      },
      "odd_sizes": {
        "1x1": 0.25,
        "5000x3": null
      },
      "blame": {
        "route": "model.onnx",
        "n_frames": 2,
        "part": "graph",
        "parts": {
          "pixels": {
            "max_abs_logit_difference": 0.0,
            "flips": 0
          },
          "graph": {
            "max_abs_logit_difference": null,
            "flips": 2
          }
        },
        "layer": {
          "name": "conv",
          "operator": "Conv",
          "weights": "weights",
          "error": null
        },
        "sentence": "graph: …"
      }
    }
  },
  "checkpoint_sha256": "cccc"
}
"""


def test_parity_json_has_these_bytes(tmp_path: Path) -> None:
    routes = {"model.onnx": PASSING, "core.onnx": FAILING}
    fp32 = VariantResult("fp32", "aaaa", routes, (HELD, TOO_LARGE), BLAME)
    write_json(tmp_path / "parity.json", ParityReport({"fp32": fp32}, "cccc", {}).to_json())
    assert (tmp_path / "parity.json").read_bytes() == EXPECTED.encode()


def test_the_clips_are_those_of_the_variant_that_ships() -> None:
    int8 = VariantResult("int8", "a" * 64, {"model_int8.onnx": PASSING})
    answers = {
        "int8": ClipAnswers(10, 8, 1, 1, Interval(0.5, 0.9)),
        "fp32": ClipAnswers(10, 9, 1, 0, Interval(0.6, 1.0)),
    }
    assert ParityReport({"int8": int8, "fp32": FP32}, "c", answers).to_json()["as_device"] == {
        "variant": "int8", "n_clips": 10, "right": 8, "wrong": 1, "refused": 1, "right_ci95": [0.5, 0.9]
    }  # fmt: skip


def test_a_variant_whose_preprocessing_was_not_compared_has_no_odd_sizes_and_one_that_holds_has_no_blame() -> None:
    values = VariantResult("int8", "a" * 64, {"model_int8.onnx": PASSING}).to_json()
    assert "odd_sizes" not in values
    assert values["blame"] is None


def test_a_difference_that_cannot_be_explained_names_no_route() -> None:
    assert Blame("cannot be explained: …").to_json() == {
        "n_frames": 0, "part": None, "parts": None, "layer": None, "sentence": "cannot be explained: …"
    }  # fmt: skip


def test_the_worst_route_decides_and_a_reason_stands_once() -> None:
    result = VariantResult("fp32", "a" * 64, {"model.onnx": FAILING, "core.onnx": FAILING, "bundle": SILENT})
    assert result.verdict == "failed"
    assert result.reasons == ["1 flip", "bundle: no number"]
    assert result.judgement == FAILING
    undecided = dataclasses.replace(PASSING, verdict="undecidable", reasons=("few frames",))
    assert VariantResult("int8", "a" * 64, {"model_int8.onnx": PASSING, "bundle": undecided}).verdict == "undecidable"


def test_the_first_variant_that_passes_is_recommended_and_none_where_fp32_fails() -> None:
    int8, failed = (VariantResult("int8", "a" * 64, {"model_int8.onnx": each}) for each in (PASSING, FAILING))
    assert ParityReport({"int8": int8, "fp32": FP32}, "c", {}).recommended == "int8"
    assert ParityReport({"int8": failed, "fp32": FP32}, "c", {}).recommended == "fp32"
    too_large = dataclasses.replace(FP32, odd_sizes=(HELD, TOO_LARGE))
    report = ParityReport({"int8": int8, "fp32": too_large}, "c", {})
    assert (report.passed, report.recommended) == (False, None)
    assert report.headline.startswith("parity FAILED: int8: 0 flips on 16 frames, largest logit difference 5.00e-07")
    assert "(failed: a picture of 5000x3: no memory)" in report.headline


@pytest.mark.parametrize(
    "change",
    [
        {"n_samples": 0},
        {"flips": 17},
        {"flips_outside_margin": 1},
        {"unknown": -1},
        {"top1": 1.5},
        {"verdict": "maybe"},
        {"verdict": "failed"},
        {"reasons": ("a reason",)},
    ],
)
def test_a_judgement_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="contradicts itself"):
        dataclasses.replace(PASSING, **change)  # type: ignore[arg-type]


def test_results_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="for a reason"):
        OddSize("1x1", None, None)
    with pytest.raises(ValueError, match="at least one route"):
        VariantResult("fp32", "a" * 64, {})
    with pytest.raises(ValueError, match="the variant fp32"):
        ParityReport({}, "c", {})
    with pytest.raises(ValueError, match="contradicts itself"):
        Blame("…", part="graph")
