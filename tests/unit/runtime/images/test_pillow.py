"""Pictures through Pillow: kinds of pixels that OpenCV does not read, damaged files, threads."""

from __future__ import annotations

import random
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import ImageError
from runtime.images import read_image

PIXELS = 64_000_000


def is_read(path: Path, max_pixels: int = PIXELS) -> bool:
    """Whether a file is read, and not refused; every other exception reaches the test."""
    try:
        read_image(path, max_pixels=max_pixels)
    except ImageError:
        return False
    return True


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=100)
    assert np.abs(read_image(path, max_pixels=PIXELS).astype(int) - (255, 0, 0)).max() <= 4


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "heights.tiff"
    Image.new("F", (4, 4), 0.5).save(path)
    with pytest.raises(ImageError, match="floating-point"):
        read_image(path, max_pixels=PIXELS)


def test_thirty_two_bit_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.tiff"
    Image.new("I", (4, 4), 70_000).save(path)
    with pytest.raises(ImageError, match="more than 16 bits"):
        read_image(path, max_pixels=PIXELS)


def test_damaged_bytes_are_read_or_refused_and_never_raise_anything_else(shared: Path, tmp_path: Path) -> None:
    chance, path = random.Random(0), tmp_path / "damaged"
    contents = [file.read_bytes() for file in sorted((shared / "data" / "odd_images").iterdir())]
    contents = [content for content in contents if 100 < len(content) < 40_000]
    n_read = 0
    for _ in range(800):
        damaged = bytearray(chance.choice(contents))
        for _ in range(chance.randrange(1, 5)):
            damaged[chance.randrange(min(len(damaged), chance.choice([64, 600, len(damaged)])))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
        n_read += is_read(path, max_pixels=1_000_000)
    assert 0 < n_read < 800


def test_reading_in_threads_leaves_the_warnings_as_they_were(shared: Path) -> None:
    paths = sorted((shared / "data" / "odd_images").glob("pillow_*.jpg")) * 5
    before = list(warnings.filters)
    problems: list[BaseException] = []

    def read_all() -> None:
        try:
            for path in paths:
                is_read(path)
        except BaseException as error:  # noqa: BLE001  # an exception in a thread must reach the test
            problems.append(error)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert list(warnings.filters) == before
