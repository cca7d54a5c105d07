from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runtime.clips.nal_units import CodedPicture, reader_for

SETS = b"\x67sets"
AVC = b"\x01d\x00(\xff" + SETS + b"more"  # units of four bytes of length
HEVC = b"\x01" + bytes(20) + b"\x03" + bytes(10)


def packet(*units: bytes) -> memoryview:
    return memoryview(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units))


def read(codec: str, content: memoryview) -> CodedPicture | None:
    context: Any = SimpleNamespace(name=codec, pix_fmt="yuv420p", extradata={"h264": AVC, "hevc": HEVC}[codec])
    reader = reader_for(context)
    assert reader is not None
    return reader(content)


@pytest.mark.parametrize(
    ("units", "unit"),
    [
        ([b"\x65"], CodedPicture(True, True, 0, False)),  # IDR
        ([b"\x06sei", b"\x41"], CodedPicture(False, True, 0, False)),  # a P slice that others refer to
        ([b"\x01", b"\x01"], CodedPicture(False, False, 0, False)),  # a B slice that none refers to
        ([b"\x01", b"\x41"], CodedPicture(False, True, 0, False)),  # two fields, one of them referred to
        ([SETS, b"\x65"], CodedPicture(True, True, 0, False)),  # parameters that the header has
        ([b"\x67new", b"\x65"], CodedPicture(True, True, 0, True)),
        ([b"\x06sei"], None),
    ],
)
def test_units_of_h264_are_told_apart(units: list[bytes], unit: CodedPicture | None) -> None:
    assert read("h264", packet(*units)) == unit


def hevc(kind: int, layer: int = 0, eye: int = 0) -> bytes:
    return bytes([kind << 1 | eye >> 5, (eye & 31) << 3 | layer + 1])


@pytest.mark.parametrize(
    ("units", "unit"),
    [
        ([hevc(19)], CodedPicture(True, True, 0, False)),  # IDR
        ([hevc(21)], CodedPicture(True, True, 0, False)),  # CRA
        ([hevc(1)], CodedPicture(False, True, 0, False)),  # TRAIL_R
        ([hevc(0, layer=2)], CodedPicture(False, False, 2, False)),  # TRAIL_N
        ([hevc(33) + b"new", hevc(19)], CodedPicture(True, True, 0, True)),
        ([hevc(1), hevc(0, eye=1)], CodedPicture(False, True, 0, False)),  # the second eye is not looked at
        ([hevc(1), hevc(0)], None),  # slices of one picture that disagree
        ([hevc(39)], None),
    ],
)
def test_units_of_hevc_are_told_apart(units: list[bytes], unit: CodedPicture | None) -> None:
    assert read("hevc", packet(*units)) == unit


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x00\x00\x00\x09\x65", b"\x00\x00\x00\x00", bytes(9)])
def test_a_packet_that_does_not_add_up_is_none(content: bytes) -> None:
    assert read("h264", memoryview(content)) is None
    assert read("hevc", memoryview(content)) is None


def test_other_codecs_and_other_ways_of_storing_have_no_reader() -> None:
    contexts: list[Any] = [
        SimpleNamespace(name="vp9", pix_fmt="yuv420p", extradata=AVC),
        SimpleNamespace(name="h264", pix_fmt="yuv420p", extradata=None),
        SimpleNamespace(name="h264", pix_fmt="yuv420p", extradata=b"\x00\x00\x00\x01\x67sets"),
        SimpleNamespace(name="h264", pix_fmt="yuv444p", extradata=AVC),
    ]
    assert [reader_for(context) for context in contexts] == [None] * 4
