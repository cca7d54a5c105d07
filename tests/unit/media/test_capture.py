"""The time, camera and burst that EXIF, QuickTime metadata and file names hold, and lies that are no answer."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.media.capture import Capture, capture_of_clip, completed_by_name
from pipeline.media.photos import read_photo
from tests.support.captures import APPLE, EXIF_BURST, EXIF_LIVE, apple_note, write_captured_photo

BURST, LIVE = "3C1D2E4F-0000-4A5B-9C8D-0123456789AB", "9A8B7C6D-1111-4E5F-8A9B-ABCDEF012345"


def captured(folder: Path, suffix: str = "jpg", **exif: Any) -> Capture:
    path = write_captured_photo(folder / f"photo.{suffix}", **exif)
    return read_photo(path, max_pixels=10_000).capture


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "heic"])
def test_time_and_camera_of_a_photo(tmp_path: Path, suffix: str) -> None:
    found = captured(
        tmp_path, suffix, taken="2024:05:03 14:22:07", fraction="12", offset="+02:00", make="Canon",
        model="Canon EOS 7D", serial="0123",
    )  # fmt: skip
    assert found == Capture("2024-05-03T14:22:07.120+02:00", "Canon EOS 7D #0123")


def test_without_an_offset_the_time_has_no_zone(tmp_path: Path) -> None:
    found = captured(tmp_path, taken="2024:05:03 14:22:07", make="Apple", model="iPhone 11")
    assert found == Capture("2024-05-03T14:22:07", "Apple iPhone 11")


@pytest.mark.parametrize(
    "taken",
    ["0000:00:00 00:00:00", "1970:01:01 00:00:00", "2024:13:03 14:22:07", "yesterday", "", "    :  :     :  :  "],
)
def test_a_clock_that_was_never_set_says_nothing(tmp_path: Path, taken: str) -> None:
    assert captured(tmp_path, taken=taken) == Capture()


def test_bursts_and_live_photos_of_an_iphone(tmp_path: Path) -> None:
    found = captured(tmp_path, note=apple_note({EXIF_BURST: BURST, EXIF_LIVE: LIVE}))
    assert found.burst == f"burst={BURST} live={LIVE}"


@pytest.mark.parametrize(
    "note",
    [
        b"",
        APPLE,
        APPLE + b"\0\1MM" + struct.pack(">H", 65535),
        apple_note({EXIF_BURST: BURST})[:-20],
        apple_note({EXIF_BURST: "=cmd|' /C calc'!A0"}),
        apple_note({0x0001: BURST}),
        b"Nikon\0" + apple_note({EXIF_BURST: BURST})[6:],
    ],
)
def test_a_broken_or_foreign_maker_note_names_no_burst(tmp_path: Path, note: bytes) -> None:
    assert captured(tmp_path, note=note).burst == ""


def test_the_burst_of_googles_camera(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    xmp = b'<x:xmpmeta><rdf:Description GCamera:BurstID="7d2f1c30-0001" GCamera:BurstPrimary="1"/></x:xmpmeta>'
    Image.new("RGB", (8, 8)).save(path, xmp=xmp)
    assert read_photo(path, max_pixels=100).capture.burst == "burst=7d2f1c30-0001"


def test_broken_exif_is_no_damage_of_the_photo(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(64)))
    assert read_photo(path, max_pixels=100).capture == Capture()


def test_letters_that_break_a_line_become_blanks(tmp_path: Path) -> None:
    assert captured(tmp_path, make="Ca\nnon\0", model="\x1b[31m" + "x" * 90).camera == f"Ca non [31m{'x' * 56}"


def test_time_camera_and_live_photo_of_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({
            "com.apple.quicktime.creationdate": "2022-12-08T07:40:41+0100", "com.apple.quicktime.make": "Apple",
            "com.apple.quicktime.model": "iPhone 11", "com.apple.quicktime.content.identifier": LIVE,
            "creation_time": "2023-01-01T00:00:00.000000Z",
        })  # fmt: skip
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        found = capture_of_clip(container.metadata)
    assert found == Capture("2022-12-08T07:40:41+01:00", "Apple iPhone 11", f"live={LIVE}")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"creation_time": "2018-03-15T00:33:42.000000Z"}, Capture("2018-03-15T00:33:42+00:00")),
        ({"CREATION_TIME": "2018-03-15T00:33:42.5Z"}, Capture("2018-03-15T00:33:42.500+00:00")),
        ({"com.android.manufacturer": "Google", "com.android.model": "Pixel 6"}, Capture("", "Google Pixel 6")),
        ({"creation_time": "1904-01-01T00:00:00.000000Z"}, Capture()),
        ({"date": "2018"}, Capture()),
        ({"date": "2018-03-15"}, Capture()),
        ({}, Capture()),
    ],
)  # fmt: skip
def test_metadata_of_other_cameras(metadata: dict[str, str], expected: Capture) -> None:
    assert capture_of_clip(metadata) == expected


@pytest.mark.parametrize(
    ("name", "recorded_at"),
    [
        ("VID_20230405_123456.mp4", "2023-04-05T12:34:56"),
        ("PXL_20230405_123456789.MP.jpg", "2023-04-05T12:34:56.789+00:00"),
        ("2023_0405_123456_0001F.MP4", "2023-04-05T12:34:56"),
        ("DJI_20231015143210_0021_D.MP4", "2023-10-15T14:32:10"),
        ("2023-04-05 12.34.56.jpg", "2023-04-05T12:34:56"),
        ("20150403_133250_DF3A_00408CF4B573_fish2_frame3062.png", "2015-04-03T13:32:50"),
        ("20231345_123456.jpg", ""),
        ("IMG-20230405-WA0012.jpg", ""),
        ("116570827_e9c126745d.jpg", ""),
        ("cat.1001.jpg", ""),
        ("IMG_0412.MOV", ""),
    ],
)
def test_the_time_in_a_name(name: str, recorded_at: str) -> None:
    assert completed_by_name(Capture(), name).recorded_at == recorded_at


def test_the_content_goes_before_the_name() -> None:
    stated = Capture("2024-05-03T14:22:07", "", "burst=12345678")
    assert completed_by_name(stated, "IMG_20190101_123456_BURST001.jpg") == stated


@pytest.mark.parametrize(
    ("name", "burst"),
    [
        ("00000IMG_00000_BURST20190101123456789_COVER.jpg", "burst=20190101123456789"),
        ("00001IMG_00001_BURST20190101123456789.jpg", "burst=20190101123456789"),
        ("IMG_20190101_123456_BURST001_COVER.jpg", "burst=IMG-20190101-123456"),
        ("IMG_20190101_123456_BURST002.jpg", "burst=IMG-20190101-123456"),
        ("sunBURST.jpg", ""),
    ],
)
def test_the_burst_in_a_name(name: str, burst: str) -> None:
    assert completed_by_name(Capture(), name).burst == burst
