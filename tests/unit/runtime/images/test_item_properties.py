"""Photos in HLG and PQ are toned as clips are; the file says which they are."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import av
import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.media.photos import read_photo
from runtime.images import read_image
from runtime.images.item_properties import ItemProperties, read_item_properties
from tests.support.clips import decode_clip

HLG, PQ, SDR, SRGB = 18, 16, 1, 13
BT2020 = 9
SIDES = 256, 64


def signal() -> NDArray[np.uint8]:
    """(height, width, 3): a ramp of grey above, and one of a colour below."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], SIDES[1], axis=0)
    pixels_hwc = np.repeat(ramp, 3, axis=2)
    pixels_hwc[SIDES[1] // 2 :, :, 1:] //= 2
    return pixels_hwc


def write_photo(path: Path, transfer: int, primaries: int = BT2020) -> Path:
    """The ramps as a photo that states this transfer function."""
    if path.suffix == ".heic":
        heif: Any = pillow_heif.from_pillow(Image.fromarray(signal()))
        stated = {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 9}
        heif.save(path, quality=-1, chroma=444, full_range_flag=1, **stated)
        return path
    buffer = io.BytesIO()
    Image.fromarray(signal()).save(buffer, "AVIF", quality=100, subsampling="4:4:4")
    data = bytearray(buffer.getvalue())
    start = data.index(b"nclx") + 4
    data[start : start + 4] = primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big")
    path.write_bytes(data)
    return path


def write_clip(path: Path, transfer: int) -> Path:
    """The ramps as a clip of one frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=1, options={"x265-params": "log-level=error:lossless=1"})
        stream.width, stream.height, stream.pix_fmt = *SIDES, "yuv444p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 2
        samples = av.VideoFrame.from_ndarray(signal().astype(np.uint16) * 257, format="rgb48le")
        frame = samples.reformat(format="yuv444p10le", dst_colorspace=9, dst_color_range=2)
        frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 2
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_a_photo_in_high_dynamic_range_looks_as_a_clip_does(suffix: str, transfer: int, tmp_path: Path) -> None:
    photo = read_photo(write_photo(tmp_path / f"photo{suffix}", transfer), max_pixels=10**6).pixels_hwc.astype(int)
    (frame,), _ = decode_clip(write_clip(tmp_path / "clip.mp4", transfer))
    assert np.abs(photo - frame.pixels_hwc).mean() < 2
    assert np.abs(photo - signal()).mean() > 5  # the negative control: levels taken at face value


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
@pytest.mark.parametrize("transfer", [SDR, SRGB])
def test_other_photos_stay_as_they_are(suffix: str, transfer: int, tmp_path: Path) -> None:
    photo = read_photo(write_photo(tmp_path / f"photo{suffix}", transfer), max_pixels=10**6).pixels_hwc
    assert np.abs(photo.astype(int) - signal()).mean() < 3


def test_the_device_reads_the_same_from_a_file_and_from_its_bytes(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.avif", PQ)
    by_stage = read_photo(path, max_pixels=10**6).pixels_hwc
    assert np.array_equal(read_image(path, max_pixels=10**6), by_stage)
    assert np.array_equal(read_image(path, max_pixels=10**6, content=path.read_bytes()), by_stage)


def test_the_properties_are_those_of_the_primary_picture(tmp_path: Path) -> None:
    assert read_item_properties(write_photo(tmp_path / "a.avif", HLG)) == ItemProperties(HLG, BT2020, is_turned=False)
    assert read_item_properties(write_photo(tmp_path / "a.heic", PQ, 1)) == ItemProperties(PQ, 1, is_turned=False)


def test_a_damaged_description_raises_nothing(tmp_path: Path) -> None:
    sound = write_photo(tmp_path / "a.heic", PQ).read_bytes()
    generator = random.Random(0)
    read = set[ItemProperties]()
    for _ in range(2000):
        data = bytearray(sound[: generator.randrange(len(sound))] if generator.random() < 0.3 else sound)
        for _ in range(generator.randrange(1, 9)):
            if data:
                data[generator.randrange(min(600, len(data)))] = generator.randrange(256)
        read.add(read_item_properties(io.BytesIO(data)))
    assert {ItemProperties(), ItemProperties(PQ, BT2020)} <= read
    assert read_item_properties(tmp_path / "missing.heic") == ItemProperties()


def test_a_heic_that_only_exif_turns_gets_a_warning(shared: Path) -> None:
    (warning,) = read_photo(shared / "data" / "faults" / "o6.heic", max_pixels=10**8).warnings
    assert warning == "its EXIF orientation 6 is not applied, since HEIC is turned by the box irot, which it lacks"


@pytest.mark.parametrize("has_box", [True, False])
def test_the_box_decides_whether_a_heic_gets_a_warning(has_box: bool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    heif: Any = pillow_heif.from_pillow(Image.fromarray(signal()))
    heif.save(tmp_path / "a.heic", exif=exif.tobytes())  # pillow-heif writes the box
    data = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(data if has_box else data.replace(b"irot", b"free"))
    assert read_item_properties(tmp_path / "a.heic").is_turned == has_box
    photo = read_photo(tmp_path / "a.heic", max_pixels=10**6)
    assert len(photo.warnings) == (0 if has_box else 1)
    assert photo.pixels_hwc.shape[:2] == (SIDES if has_box else SIDES[::-1])
