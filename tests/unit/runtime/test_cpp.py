"""The C++ of docs/device.md answers as the bundle's code does. It needs a compiler and onnxruntime's headers."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import Classifier
from tests.support.tiny_bundle import ROOT

HEADER = "onnxruntime_cxx_api.h"
HEADERS = "/usr/include/onnxruntime"  # Debian's libonnxruntime-dev; elsewhere, CPLUS_INCLUDE_PATH tells the compiler
SECONDS = 120


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the documented program against the library in the Python wheel."""
    folder = tmp_path_factory.mktemp("cpp")
    package = importlib.util.find_spec("onnxruntime")
    assert package is not None
    assert package.origin is not None
    libraries = sorted((Path(package.origin).parent / "capi").glob("libonnxruntime.so.*"))
    if shutil.which("c++") is None or not libraries:
        pytest.skip("no C++ compiler, or no libonnxruntime.so in onnxruntime's wheel")
    preprocessor = ["c++", f"-I{HEADERS}", "-E", "-x", "c++", "-"]
    if subprocess.run(
        preprocessor, input=f"#include <{HEADER}>", capture_output=True, text=True, check=False
    ).returncode:
        pytest.skip(f"{HEADER} is not there: install libonnxruntime-dev (Debian 13), or set CPLUS_INCLUDE_PATH")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # for the linker, and for the program
        (folder / name).symlink_to(libraries[-1])
    page = (ROOT / "docs" / "device.md").read_text(encoding="utf-8")
    (folder / "classify.cpp").write_text(page.split("```cpp\n")[1].split("```")[0], encoding="utf-8")
    command = ["c++", "-std=c++17", "-Wall", "-Wextra", f"-isystem{HEADERS}", "classify.cpp", "-o", "classify"]
    linked = [f"-L{folder}", "-lonnxruntime", f"-Wl,-rpath,{folder}"]
    finished = subprocess.run([*command, *linked], cwd=folder, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    return folder / "classify"


def run(program: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)


def numbers(printed: str) -> NDArray[np.float32]:
    return np.array([line.split() for line in printed.splitlines()], np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_cpp_answers_as_the_bundle_does(variant: str, program: Path, pristine: Path) -> None:
    classifier = Classifier.load(pristine, variant)
    pictures = sorted((pristine / "golden").glob("*.npy"))
    finished = run(program, pristine / classifier.variant.file, *pictures)
    assert (finished.returncode, finished.stderr) == (0, "")
    expected = [classifier.classify(np.load(path)).logits for path in pictures]
    np.testing.assert_allclose(numbers(finished.stdout), expected, atol=1e-5)


@pytest.mark.slow
def test_cpp_sees_a_swapped_channel_and_refuses_what_is_no_picture(
    program: Path, pristine: Path, tmp_path: Path
) -> None:
    sound = pristine / "golden" / "000.npy"
    np.save(tmp_path / "swapped.npy", np.ascontiguousarray(np.load(sound)[..., ::-1]))
    right, swapped = numbers(run(program, pristine / "model.onnx", sound, tmp_path / "swapped.npy").stdout)
    assert np.abs(right - swapped).max() > 1
    np.save(tmp_path / "grey.npy", np.zeros((4, 4), np.uint8))
    finished = run(program, pristine / "model.onnx", tmp_path / "grey.npy")
    assert (finished.returncode, finished.stderr) == (1, f"{tmp_path / 'grey.npy'}: expected the pixels of a picture\n")
