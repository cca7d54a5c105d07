"""Pictures as data URIs: unchanged where they fit in, smaller where they do not."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.draw.sheets import write_png
from pipeline.report.inline_images import LARGE_BYTES, data_uris


def noise(path: Path, height: int, width: int) -> Path:
    write_png(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8), path)
    return path


def decoded(uri: str) -> tuple[str, bytes, NDArray[np.uint8]]:
    kind, _, text = uri.partition(";base64,")
    content = base64.b64decode(text)
    return kind, content, np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def test_a_small_picture_is_taken_byte_for_byte(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png", 20, 30)
    kind, content, _ = decoded(data_uris([path])[path])
    assert kind == "data:image/png"
    assert content == path.read_bytes()


def test_a_large_picture_becomes_a_jpeg_of_at_most_the_widest_width(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png", 300, 2000)
    assert path.stat().st_size > LARGE_BYTES
    kind, content, pixels = decoded(data_uris([path])[path])
    assert kind == "data:image/jpeg"
    assert pixels.shape == (210, 1400, 3)
    assert len(content) < path.stat().st_size


def test_many_pictures_together_stay_below_the_bound_and_too_many_are_refused(tmp_path: Path) -> None:
    paths = [noise(tmp_path / f"{index}.png", 200, 500) for index in range(4)]
    total = sum(path.stat().st_size for path in paths)
    sizes = [sum(len(decoded(uri)[1]) for uri in data_uris(paths, most).values()) for most in (total, total // 10)]
    assert sizes[0] == total
    assert 0 < sizes[1] <= total // 10
    with pytest.raises(DataError, match="4 pictures do not fit into 100 bytes"):
        data_uris(paths, 100)


def test_no_picture_is_fine() -> None:
    assert data_uris([]) == {}
