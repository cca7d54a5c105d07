"""The JavaScript of docs/device.md answers as the bundle's code does. It needs Node and npm's registry."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime import Classifier
from tests.support.examples import JAVASCRIPT_OPTION, NotHereError, install_javascript
from tests.support.tiny_bundle import break_logits, rewrite_sums, write_json

SECONDS = 120


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The documented program beside its packages, which are removed afterwards."""
    folder = tmp_path_factory.mktemp("javascript")
    try:
        yield install_javascript(folder)
    except NotHereError as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(folder)


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["node", program.name, *arguments]
    return subprocess.run(
        command, cwd=program.parent, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("variant", [(), ("int8",)])
def test_javascript_answers_as_the_bundle_does(variant: tuple[str, ...], program: Path, pristine: Path) -> None:
    finished = run(program, pristine, *variant)
    assert (finished.returncode, finished.stderr) == (0, "")
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    classifier = Classifier.load(pristine, *variant)
    expected = [classifier.classify(np.load(path)) for path in sorted((pristine / "golden").glob("*.npy"))]
    assert [each["label"] for each in found] == [each.label for each in expected] == ["red", "green", "蓝色"]
    assert [each["probability"] for each in found] == pytest.approx([each.probability for each in expected], abs=1e-6)
    assert max(each["difference"] for each in found) < 1e-4


@pytest.mark.slow
def test_javascript_compares_the_known_score_with_the_threshold(program: Path, scored: Path) -> None:
    assert [json.loads(line)["label"] for line in run(program, scored).stdout.splitlines()] == ["red", "green", "蓝色"]
    contract = json.loads((scored / "contract.json").read_text(encoding="utf-8"))
    scores = json.loads((scored / "golden" / "golden.json").read_text(encoding="utf-8"))["scores"]["fp32"]
    for variant in contract["variants"]:
        variant["unknown_threshold"] = (min(scores) + max(scores)) / 2  # the largest logits lie above it
    write_json(scored / "contract.json", contract)
    labels = [json.loads(line)["label"] for line in run(program, scored).stdout.splitlines()]
    assert [label is None for label in labels] == [score < (min(scores) + max(scores)) / 2 for score in scores]
    assert None in labels


@pytest.mark.slow
def test_javascript_knows_temperature_and_threshold(program: Path, folder: Path) -> None:
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    plain = json.loads(run(program, folder).stdout.splitlines()[0])
    for variant in contract["variants"]:
        variant["unknown_threshold"] = 1000.0
    write_json(folder / "contract.json", {**contract, "temperature": 4.0})
    softened = json.loads(run(program, folder).stdout.splitlines()[0])
    assert (plain["label"], softened["label"]) == ("red", None)
    logits = np.array(json.loads((folder / "golden" / "golden.json").read_text(encoding="utf-8"))["logits"]["fp32"][0])
    shares = np.exp(logits / 4)
    assert softened["probability"] == pytest.approx(shares.max() / shares.sum(), abs=1e-6)


@pytest.mark.slow
def test_javascript_fails_on_other_logits_and_refuses_another_graph(program: Path, folder: Path) -> None:
    values = json.loads((folder / "golden" / "golden.json").read_text(encoding="utf-8"))
    values["logits"]["fp32"][0][0] += 1
    write_json(folder / "golden" / "golden.json", values)
    rewrite_sums(folder)
    finished = run(program, folder)
    assert finished.returncode == 3
    assert finished.stderr.startswith("000: logits differ by 1; expected at most 0.00")
    (folder / "model.onnx").write_bytes(b"another graph")
    finished = run(program, folder)
    assert finished.returncode == 1
    assert "model.onnx: is not the file that the contract names" in finished.stderr
    assert "nope: expected one of fp32, int8" in run(program, folder, "nope").stderr


@pytest.mark.slow
def test_javascript_fails_on_logits_that_are_no_numbers(program: Path, folder: Path) -> None:
    break_logits(folder)
    finished = run(program, folder)
    assert (finished.returncode, finished.stderr.count("logits differ by NaN")) == (3, 3)


@pytest.mark.slow
def test_the_option_for_exact_int8_reaches_onnxruntime(program: Path, pristine: Path) -> None:
    """Another option in its place changes how the graph is read. The trial `examples_without_vnni` shows its effect."""
    text = program.read_text(encoding="utf-8")
    assert text.count(JAVASCRIPT_OPTION) == 1
    other = JAVASCRIPT_OPTION.replace('x64quantprecision: "1"', 'load_model_format: "ORT"')
    (program.parent / "other.mjs").write_text(text.replace(JAVASCRIPT_OPTION, other), encoding="utf-8")
    finished = run(program.parent / "other.mjs", pristine)
    assert finished.returncode == 1
    assert "Error" in finished.stderr
