"""The C++ of docs/device.md answers as the bundle's code does. It needs a compiler, and headers of two libraries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from runtime import Classifier
from tests.support.examples import CPP_OPTION, NotHereError, compile_cpp, documented
from tests.support.tiny_bundle import break_logits, write_json

SECONDS = 120


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documented program, compiled."""
    try:
        return compile_cpp(tmp_path_factory.mktemp("cpp"), documented("cpp"))
    except NotHereError as error:
        pytest.skip(str(error))


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)


def test_the_program_asks_for_exact_int8() -> None:
    assert documented("cpp").count(CPP_OPTION) == 1


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_cpp_answers_as_the_bundle_does(variant: str, program: Path, pristine: Path) -> None:
    finished = run(program, pristine, variant)
    assert (finished.returncode, finished.stderr) == (0, "")
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    classifier = Classifier.load(pristine, variant)
    expected = [classifier.classify(np.load(path)) for path in sorted((pristine / "golden").glob("*.npy"))]
    assert [each["label"] for each in found] == [each.label for each in expected] == ["red", "green", "蓝色"]
    assert [each["probability"] for each in found] == pytest.approx([each.probability for each in expected], abs=1e-6)
    assert max(each["difference"] for each in found) < 1e-4


@pytest.mark.slow
def test_cpp_compares_the_known_score_with_the_threshold(program: Path, scored: Path) -> None:
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
def test_cpp_knows_temperature_and_threshold(program: Path, folder: Path) -> None:
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    for variant in contract["variants"]:
        variant["unknown_threshold"] = 1000.0
    write_json(folder / "contract.json", {**contract, "temperature": 4.0})
    softened = json.loads(run(program, folder).stdout.splitlines()[0])
    logits = np.array(json.loads((folder / "golden" / "golden.json").read_text(encoding="utf-8"))["logits"]["fp32"][0])
    shares = np.exp(logits / 4)
    assert softened["label"] is None
    assert softened["probability"] == pytest.approx(shares.max() / shares.sum(), abs=1e-6)


@pytest.mark.slow
def test_cpp_fails_on_a_swapped_channel_and_on_what_is_no_picture(program: Path, folder: Path) -> None:
    picture = folder / "golden" / "000.npy"
    np.save(picture, np.ascontiguousarray(np.load(picture)[..., ::-1]))
    finished = run(program, folder)
    assert finished.returncode == 3
    assert finished.stderr.startswith("000: logits differ by ")
    np.save(picture, np.zeros((4, 4), np.uint8))
    finished = run(program, folder)
    assert (finished.returncode, finished.stderr) == (1, f"{picture}: expected the pixels of a picture\n")


@pytest.mark.slow
def test_cpp_fails_on_logits_that_are_no_numbers(program: Path, folder: Path) -> None:
    break_logits(folder)
    finished = run(program, folder)
    assert (finished.returncode, finished.stderr.count("logits differ by inf")) == (3, 3)


@pytest.mark.slow
def test_cpp_names_what_is_missing(program: Path, folder: Path) -> None:
    finished = run(program, folder, "nope")
    assert (finished.returncode, finished.stderr) == (1, "nope: the contract has no such variant\n")
    (folder / "golden" / "golden.json").unlink()
    finished = run(program, folder)
    assert (finished.returncode, finished.stderr) == (1, f"{folder}/golden/golden.json: cannot be read\n")
