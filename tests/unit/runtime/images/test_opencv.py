"""Pictures through OpenCV, on a device that has no Pillow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import ImageError
from runtime.images.opencv import read_bgr, read_with_opencv

WITHOUT_PILLOW = """
import importlib.util, sys
from pathlib import Path
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "PIL" else find_spec(name, *rest)
from runtime.images import read_image
print(read_image(Path(sys.argv[1]), max_pixels=1000).sum(), "PIL" in sys.modules)
"""


def test_a_jpeg_of_many_scans_is_refused_in_time_that_grows_with_its_size() -> None:
    content = b"\xff\xd8" + b"\xff\xda\x00\x02" * 1_000_000  # without an end
    with pytest.raises(ImageError, match="cut short"):  # in minutes where each scan looks for the end
        read_with_opencv(Path("scans.jpg"), max_pixels=1000, content=content)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG whose channels differ."""
    rows, columns = np.mgrid[:20, :30]
    pixels_hwc = np.stack([rows * 8, columns * 8, rows + columns], axis=2).astype(np.uint8)
    Image.fromarray(pixels_hwc).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_opencv_reads_where_pillow_is_not_installed(picture: Path) -> None:
    total = int(np.asarray(Image.open(picture)).sum())
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_PILLOW, picture], capture_output=True, text=True, check=True
    )
    assert finished.stdout == f"{total} False\n"


def test_bgr_is_rgb_with_its_channels_turned_around(picture: Path) -> None:
    rgb_hwc = read_with_opencv(picture, max_pixels=1000)
    assert (read_bgr(picture, max_pixels=1000) == rgb_hwc[..., ::-1]).all()
    assert (rgb_hwc != rgb_hwc[..., ::-1]).any()


def test_a_format_that_needs_pillow_is_refused_with_that_reason(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.webp")
    with pytest.raises(ImageError, match=r"other formats need Pillow"):
        read_with_opencv(tmp_path / "picture.webp", max_pixels=1000)
