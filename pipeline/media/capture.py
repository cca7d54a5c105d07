"""When, with which camera and in which burst a recording was made: from EXIF, QuickTime metadata and file names."""

from __future__ import annotations

import contextlib
import itertools
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runtime.images.pillow import DECODER_ERRORS

if TYPE_CHECKING:
    from PIL import Image

_YEARS = range(1990, 2100)  # a camera whose clock was never set says 1904, 1970 or 1980
_LONGEST_TEXT = 60  # letters of a maker, model or serial number
_MAKE, _MODEL, _ORIENTATION, _EXIF_IFD = 0x010F, 0x0110, 0x0112, 0x8769  # tags of EXIF
_MAKER_NOTE, _SERIAL = 0x927C, 0xA431
# Date and time, fraction of a second and offset from UTC: when the picture was taken, or else when it was digitised.
_TIMES = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012))
_EXIF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"[+-]\d\d:\d\d")

_APPLE = b"Apple iOS\0"
_APPLE_IFD = 14  # bytes before the first tag of Apple's maker note
_APPLE_IDS = {0x000B: "burst", 0x0011: "live"}
_TEXT_TYPE = 2
_LONGEST_NOTE = 1 << 20  # bytes of a maker note or XMP that are searched
_ID = re.compile(r"[0-9A-Za-z-]{8,64}")
_BURST_PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:BurstID="{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)
_XMP_BURST = re.compile(rb"""BurstI[Dd]\s*(?:=\s*["']|>)\s*([0-9A-Za-z-]{8,64})""")
_LIVE_OF_CLIP = "com.apple.quicktime.content.identifier"

_NAMED_TIME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)(?:[-_. T]|\bat\b)*(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)(\d{3})?(?!\d)"
)
_NAMED_IN_UTC = re.compile(r"^PXL_|_iOS(?:\.|$)")  # Pixel phones, and OneDrive's copies from iPhones
_NAMED_BURST = re.compile(r"BURST(\d{14,20})|^(.+?)_BURST\d{1,6}(?!\d)")


@dataclass(frozen=True)
class Capture:
    """What a file says of its recording. Every field is empty where the file does not say it."""

    recorded_at: str = ""  # ISO 8601, when the recording began; with its offset from UTC where the file states one
    camera: str = ""  # make and model, and the serial number after #
    burst: str = ""  # identifiers of a burst and of a Live Photo: burst=…, live=…, with a blank between


def capture_of_photo(image: Image.Image) -> Capture:
    """Read the EXIF and XMP of an open photo. Damaged metadata counts as none."""
    capture = Capture()
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(*DECODER_ERRORS):
        exif = image.getexif()
        details = exif.get_ifd(_EXIF_IFD)
        capture = Capture(
            recorded_at=_exif_time(details),
            camera=_camera(exif.get(_MAKE), exif.get(_MODEL), details.get(_SERIAL)),
            burst=_ids(_apple_ids(details.get(_MAKER_NOTE)) | _xmp_ids(image.info.get("xmp"))),
        )
    return capture


def capture_blocks(image: Image.Image) -> dict[str, Any]:
    """Return blocks `exif` and `xmp` that say what `capture_of_photo` reads of a photo, for an upright copy of it.

    They say nothing else, such as the place, which EXIF and XMP may hold in several parts.
    """
    from PIL import Image

    exif, told = image.getexif(), Image.Exif()
    told.update({tag: exif[tag] for tag in (_MAKE, _MODEL) if tag in exif} | {_ORIENTATION: 1})
    details = exif.get_ifd(_EXIF_IFD)
    tags = [_SERIAL, *itertools.chain.from_iterable(_TIMES)]
    if _apple_ids(details.get(_MAKER_NOTE)):
        tags.append(_MAKER_NOTE)
    told.get_ifd(_EXIF_IFD).update({tag: details[tag] for tag in tags if tag in details})
    burst = _xmp_ids(image.info.get("xmp")).get("burst")
    xmp = {"xmp": _BURST_PACKET.format(burst).encode("ascii")} if burst else {}
    return {"exif": told.tobytes(), **xmp}


def capture_of_clip(metadata: Mapping[str, str]) -> Capture:
    """Read the metadata of a clip's container, named as FFmpeg names them."""
    known = {name.lower(): value for name, value in metadata.items()}

    def first(*names: str) -> str:
        return next((known[name] for name in names if known.get(name)), "")

    stated = first("com.apple.quicktime.creationdate", "creation_time", "date")
    make = first("com.apple.quicktime.make", "com.android.manufacturer", "make")
    model = first("com.apple.quicktime.model", "com.android.model", "model")
    live = first(_LIVE_OF_CLIP)
    return Capture(_container_time(stated), _camera(make, model, ""), _ids({"live": live}))


def completed_by_name(capture: Capture, name: str) -> Capture:
    """The same capture, with the time and the burst that a file's name holds where its content says none."""
    return replace(
        capture,
        recorded_at=capture.recorded_at or _time_in_name(name),
        burst=capture.burst or _burst_in_name(name),
    )


def _exif_time(details: Mapping[int, Any]) -> str:
    for time, fraction, offset in _TIMES:
        match = _EXIF_TIME.fullmatch(_text(details.get(time)))
        if match:
            digits = re.sub(r"\D.*", "", _text(details.get(fraction)))
            zone = _text(details.get(offset))
            recorded_at = _iso(match.groups(), digits, zone if _OFFSET.fullmatch(zone) else "")
            if recorded_at:
                return recorded_at
    return ""


def _container_time(stated: str) -> str:
    try:
        time = datetime.fromisoformat(stated.strip())
    except ValueError:
        return ""
    return _printed(time) if len(stated.strip()) > len("2024-05-03") else ""  # a date alone is no time


def _time_in_name(name: str) -> str:
    match = _NAMED_TIME.search(name)
    if match is None:
        return ""
    *parts, fraction = match.groups("")
    return _iso(parts, fraction, "+00:00" if _NAMED_IN_UTC.search(name) else "")


def _iso(parts: Any, fraction: str, offset: str) -> str:
    """The time as ISO 8601; empty where there is no such time."""
    year, month, day, hour, minute, second = parts
    text = f"{year}-{month}-{day}T{hour}:{minute}:{second}.{(fraction + '000000')[:6]}{offset}"
    try:
        return _printed(datetime.fromisoformat(text))
    except ValueError:
        return ""


def _printed(time: datetime) -> str:
    if time.year not in _YEARS:
        return ""
    return time.isoformat(timespec="milliseconds" if time.microsecond else "seconds")


def _camera(make: object, model: object, serial_of_body: object) -> str:
    """One name for a camera; a model that begins with the maker's first word stands by itself."""
    maker, product, serial_number = (_text(value) for value in (make, model, serial_of_body))
    if maker and product.lower().startswith(maker.split()[0].lower()):
        maker = ""
    serial = f"#{serial_number}" if serial_number and (maker or product) else ""
    return " ".join(part for part in (maker, product, serial) if part)


def _text(value: object) -> str:
    """The printable letters of a value of EXIF."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    printable = "".join(letter if letter.isprintable() else " " for letter in text.replace("\ufffd", " "))
    return " ".join(printable.split())[:_LONGEST_TEXT].strip()


def _ids(id_of_kind: Mapping[str, str]) -> str:
    return " ".join(
        f"{kind}={id_of_kind[kind]}" for kind in ("burst", "live") if _ID.fullmatch(id_of_kind.get(kind, ""))
    )


def _apple_ids(note: object) -> dict[str, str]:
    """The identifiers in the maker note of an iPhone: a TIFF directory, whose offsets count from the note's start."""
    if not isinstance(note, bytes) or not note.startswith(_APPLE) or len(note) > _LONGEST_NOTE:
        return {}
    id_of_kind: dict[str, str] = {}
    with contextlib.suppress(struct.error):  # a note that is cut short
        (n_tags,) = struct.unpack_from(">H", note, _APPLE_IFD)
        for tag_index in range(n_tags):
            tag, kind, length, offset = struct.unpack_from(">HHII", note, _APPLE_IFD + 2 + 12 * tag_index)
            if tag in _APPLE_IDS and kind == _TEXT_TYPE and offset + length <= len(note):
                id_of_kind[_APPLE_IDS[tag]] = note[offset : offset + length].split(b"\0")[0].decode("latin-1")
    return id_of_kind


def _xmp_ids(xmp: object) -> dict[str, str]:
    """The identifier of a burst of Google's camera."""
    match = _XMP_BURST.search(xmp[:_LONGEST_NOTE]) if isinstance(xmp, bytes) else None
    return {"burst": match[1].decode("ascii")} if match else {}


def _burst_in_name(name: str) -> str:
    match = _NAMED_BURST.search(name)
    named = re.sub("[^0-9A-Za-z-]", "-", match[1] or match[2])[:64] if match else ""
    return _ids({"burst": named})
