"""Reads the NAL units in packets of H.264 and HEVC, without decoding: ITU-T H.264 and H.265, section 7.4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from av.video.codeccontext import VideoCodecContext

# Types of NAL units.
_H264_SLICES, _H264_IDR, _H264_SETS = range(1, 6), 5, {7, 8, 13, 15}
_HEVC_SLICES, _HEVC_ENTRIES, _HEVC_SETS = range(32), range(16, 22), {32, 33, 34}
_HEVC_SUBLAYER = range(16)  # no frame of the same sub-layer refers to the even types among these


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """The picture in one packet."""

    is_entry: bool  # a decoder can start here, and decodes everything shown after it without a fault
    is_reference: bool  # frames of the same sub-layer may refer to it
    layer: int  # HEVC's temporal sub-layer; 0 in H.264
    has_sets: bool  # the packet brings parameter sets that the header of the file does not have


PacketReader = Callable[[memoryview], CodedPicture | None]


def reader_for(context: VideoCodecContext) -> PacketReader | None:
    """Return a reader of a stream's packets, or None for a codec or a way of storing that is not supported here.

    The reader returns None for a packet that is no whole number of NAL units, or holds no picture.
    """
    extradata = bytes(context.extradata or b"")
    # MP4 and Matroska store a configuration record that starts with 1, and each unit behind its length.
    if context.name == "h264" and extradata[:1] == b"\x01" and len(extradata) > 6 and "444" not in str(context.pix_fmt):
        # For 4:4:4 FFmpeg needs the version of the encoder, which only the first packet states.
        return partial(_h264, extradata, (extradata[4] & 3) + 1)
    if context.name == "hevc" and extradata[:1] == b"\x01" and len(extradata) > 22:
        return partial(_hevc, extradata, (extradata[21] & 3) + 1)
    return None


def _h264(extradata: bytes, n_length: int, packet: memoryview) -> CodedPicture | None:
    units = _split_units(packet, n_length)
    slices = [unit[0] for unit in units if unit[0] & 31 in _H264_SLICES]
    if not slices:
        return None
    return CodedPicture(
        is_entry=_H264_IDR in {head & 31 for head in slices},
        is_reference=any(head >> 5 & 3 for head in slices),
        layer=0,
        has_sets=any(unit[0] & 31 in _H264_SETS and bytes(unit) not in extradata for unit in units),
    )


def _hevc(extradata: bytes, n_length: int, packet: memoryview) -> CodedPicture | None:
    # Layers other than 0 hold the picture of a second eye; they are not decoded.
    units = [unit for unit in _split_units(packet, n_length) if len(unit) > 1 and not (unit[0] & 1 or unit[1] >> 3)]
    kinds = [unit[0] >> 1 & 63 for unit in units]
    layers = {(unit[1] & 7) - 1 for unit, kind in zip(units, kinds, strict=True) if kind in _HEVC_SLICES}
    slices = {kind for kind in kinds if kind in _HEVC_SLICES}
    if len(slices) != 1 or len(layers) != 1:  # all slices of a picture must agree
        return None
    kind = slices.pop()
    return CodedPicture(
        is_entry=kind in _HEVC_ENTRIES,
        is_reference=kind not in _HEVC_SUBLAYER or bool(kind % 2),
        layer=layers.pop(),
        has_sets=any(
            kind in _HEVC_SETS and bytes(unit) not in extradata for unit, kind in zip(units, kinds, strict=True)
        ),
    )


def _split_units(packet: memoryview, n_length: int) -> list[memoryview]:
    """The NAL units of a packet; an empty list where their lengths do not add up to the packet's."""
    units, start = [], 0
    while start + n_length <= len(packet):
        size = int.from_bytes(packet[start : start + n_length], "big")
        start += n_length
        units.append(packet[start : start + size])
        start += size
        if not size:
            return []
    return units if start == len(packet) else []
