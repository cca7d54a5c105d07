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
from tests.support.tiny_bundle import ROOT, rewrite_sums, write_json

PACKAGE = "onnxruntime-node@1"
SECONDS = 120


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The documented program beside its packages, which take some 300 MB and are removed afterwards."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node or npm is not installed")
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "package.json").write_text('{"private": true}')
    # Without scripts: the package's own script fetches CUDA's libraries from another host.
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"]
    try:
        command = ["npm", "install", *flags, PACKAGE]
        finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not fetch {PACKAGE} within {SECONDS} s")
    if finished.returncode != 0:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {finished.stderr.strip().splitlines()[-1:]}")
    page = (ROOT / "docs" / "device.md").read_text(encoding="utf-8")
    (folder / "classify.mjs").write_text(page.split("```js\n")[1].split("```")[0], encoding="utf-8")
    yield folder / "classify.mjs"
    shutil.rmtree(folder)


def run(program: Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    command = ["node", program.name, bundle]
    return subprocess.run(
        command, cwd=program.parent, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, check=False
    )


@pytest.mark.slow
def test_javascript_answers_as_the_bundle_does(program: Path, pristine: Path) -> None:
    finished = run(program, pristine)
    assert (finished.returncode, finished.stderr) == (0, "")
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    classifier = Classifier.load(pristine)
    expected = [classifier.classify(np.load(path)) for path in sorted((pristine / "golden").glob("*.npy"))]
    assert [each["label"] for each in found] == [each.label for each in expected] == ["red", "green", "蓝色"]
    assert [each["probability"] for each in found] == pytest.approx([each.probability for each in expected], abs=1e-6)
    assert max(each["difference"] for each in found) < 1e-4


@pytest.mark.slow
def test_javascript_knows_temperature_and_threshold(program: Path, folder: Path) -> None:
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    plain = json.loads(run(program, folder).stdout.splitlines()[0])
    write_json(folder / "contract.json", {**contract, "temperature": 4.0, "unknown_threshold": 1000.0})
    softened = json.loads(run(program, folder).stdout.splitlines()[0])
    assert (plain["label"], softened["label"]) == ("red", None)
    logits = np.array(json.loads((folder / "golden" / "golden.json").read_text(encoding="utf-8"))["logits"]["fp32"][0])
    shares = np.exp(logits / 4)
    assert softened["probability"] == pytest.approx(shares.max() / shares.sum(), abs=1e-6)


@pytest.mark.slow
def test_javascript_reports_other_logits_and_refuses_another_graph(program: Path, folder: Path) -> None:
    values = json.loads((folder / "golden" / "golden.json").read_text(encoding="utf-8"))
    values["logits"]["fp32"][0][0] += 1
    write_json(folder / "golden" / "golden.json", values)
    rewrite_sums(folder)
    assert run(program, folder).returncode == 3
    (folder / "model.onnx").write_bytes(b"another graph")
    finished = run(program, folder)
    assert finished.returncode == 1
    assert "model.onnx: is not the file that the contract names" in finished.stderr
