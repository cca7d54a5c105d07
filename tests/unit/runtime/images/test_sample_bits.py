"""Pictures of 10, 12 and 14 bits in files of 16: by their tags, or by the parameter, and never by a guess."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from pipeline.extract.stage import extract_files
from pipeline.media.photos import read_photo
from runtime.errors import ImageError
from runtime.images.opencv import read_with_opencv
from runtime.images.pillow import read_with_pillow
from tests.support.extraction import extract_params

MOST = 10**6


def ramp(bits: int) -> NDArray[np.uint16]:
    """(height, width): levels of so many bits, from dark to bright."""
    row = np.linspace(0, (1 << bits) - 1, 256).round().astype(np.uint16)
    return np.repeat(row[None], 64, axis=0)


def write(path: Path, bits: int, tags: dict[int, int] | None = None) -> Path:
    """A file of 16 bits with samples of fewer."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in (tags or {}).items():
        info[tag] = value
    picture = Image.fromarray(ramp(bits))
    if path.suffix == ".tif":
        picture.save(path, tiffinfo=info)
    else:
        picture.save(path)
    return path


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("tag", [281, 50717])
def test_tags_say_how_many_bits_count(bits: int, tag: int, tmp_path: Path) -> None:
    photo = read_photo(write(tmp_path / "a.tif", bits, {tag: (1 << bits) - 1}), max_pixels=MOST)
    assert np.array_equal(photo.pixels_hwc[0, :, 0], np.arange(256))
    assert photo.warnings == ()


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_without_tags_a_warning_names_the_parameter_that_helps(bits: int, suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", bits)
    photo = read_photo(path, max_pixels=MOST)
    highest = (1 << bits) - 1
    assert photo.pixels_hwc.max() == round(highest / 257)  # as 16 bits: nothing is guessed
    (warning,) = photo.warnings
    assert warning == (
        f"16-bit samples of at most {highest}: read as 16 bits it is dark; if the camera gives {bits} bits,"
        f" set image.sample_bits: {bits}"
    )
    told = read_photo(path, max_pixels=MOST, sample_bits=bits)
    assert np.array_equal(told.pixels_hwc[0, :, 0], np.arange(256))
    assert told.warnings == ()


def test_all_sixteen_bits_give_no_warning(tmp_path: Path) -> None:
    photo = read_photo(write(tmp_path / "a.tif", 16), max_pixels=MOST)
    assert np.array_equal(photo.pixels_hwc[0, :, 0], np.arange(256))
    assert photo.warnings == ()


@pytest.mark.parametrize("sample_bits", [None, 10, 12, 16])
def test_both_readers_agree(sample_bits: int | None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", 12)
    by_pillow = read_with_pillow(path, max_pixels=MOST, formats=("PNG",), sample_bits=sample_bits)
    assert np.array_equal(by_pillow, read_with_opencv(path, max_pixels=MOST, sample_bits=sample_bits))


@pytest.mark.parametrize("sample_bits", [None, 10])
def test_a_format_that_states_its_range_needs_no_parameter(sample_bits: int | None, tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 256 64 4095 " + ramp(12).astype(">u2").tobytes())
    photo = read_photo(tmp_path / "a.pgm", max_pixels=MOST, sample_bits=sample_bits)
    assert np.abs(photo.pixels_hwc[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    assert photo.warnings == ()


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_colour_of_few_bits_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.repeat(ramp(12)[..., None], 3, axis=2))
    (warning,) = read_photo(path, max_pixels=MOST).warnings
    assert warning.endswith("if the camera gives 12 bits, convert it to 8 bits")
    refusal = rf"a\{suffix}: 12 bits in 16-bit colour, .*; convert it to 8 bits"
    with pytest.raises(ImageError, match=refusal):
        read_photo(path, max_pixels=MOST, sample_bits=12)
    if suffix == ".png":
        with pytest.raises(ImageError, match=refusal):
            read_with_opencv(path, max_pixels=MOST, sample_bits=12)


def test_the_stage_reports_the_warning_and_applies_the_parameter(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", 12)
    params = extract_params(image_format="png", keep_all=True)
    report = extract_files([path], tmp_path / "plain", params)
    assert "1 photo with warnings" in report.headline
    stored = json.loads((tmp_path / "plain" / "extract.json").read_text(encoding="utf-8"))
    assert list(stored["photo_warnings"]) == ["a.tif"]
    told = extract_files([path], tmp_path / "told", params, sample_bits=12)
    assert told.photo_warnings == {}
    assert cv2.imread(str(tmp_path / "told" / "a.tif.png"))[0, :, 0].tolist() == list(range(256))


def test_the_reported_photo_is_named(shared: Path) -> None:
    (warning,) = read_photo(shared / "data" / "faults" / "g12in16.tif", max_pixels=MOST).warnings
    assert warning.startswith("16-bit samples of at most 3760: ")
    assert warning.endswith("set image.sample_bits: 12")
