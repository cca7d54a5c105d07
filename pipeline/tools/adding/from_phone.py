"""Bring the samples of the phone's page into `data/raw`. docs/contracts.md has the format of its zip."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.base.similar_names import refuse_similar_names
from pipeline.base.storage.csv_files import read_table, write_csv
from pipeline.base.words import counted
from pipeline.media import recordings
from pipeline.media.capture import capture_of_photo
from pipeline.tools.adding.add import TRACKING_SENTENCES, add, check_label
from pipeline.tools.adding.tracked_recordings import Tracking, plan_tracking, refuse_linked_class, track
from runtime import schema
from runtime.system.regular_files import open_regular
from runtime.system.scratch import scratch_folder

_LIST = "samples.json"
_MOST_LIST_BYTES = 16 * 2**20
_FILE = re.compile(r"files/[0-9]{4,6}\.[a-z0-9]{2,4}")
_EXPECTED = "expected a zip as the page of `pipe phone` saves it; save it there again"
_COLUMNS = (
    "sha256", "added_as", "label", "recorded_at", "session", "bundle_id", "variant", "answered", "probability", "score",
    "region",
)  # fmt: skip
# Tags of EXIF: make, model, and in the block of details the time and its offset from UTC.
_MAKE, _MODEL, _DETAILS, _TIME, _OFFSET = 0x010F, 0x0110, 0x8769, 0x9003, 0x9011
_JPEG_START, _JPEG_EXIF = b"\xff\xd8", b"\xff\xe1"


@dataclass(frozen=True)
class Answer:
    """What the page answered, which the person corrected."""

    label: str | None  # None: none of the classes
    probability: float
    score: float


@dataclass(frozen=True)
class Region:
    """The part of the picture that the graph saw, as shares of its sides."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Sample:
    """One picture or clip, with its true class."""

    file: str
    sha256: str
    kind: Literal["picture", "clip"]
    origin: Literal["camera", "file"]  # the page's own camera, or a file that the person opened
    label: str
    recorded_at: str  # ISO 8601, with its offset from UTC
    session: str  # one opening of the page
    bundle_id: str
    variant: str
    region: Region | None  # None: the whole picture
    answer: Answer

    def __post_init__(self) -> None:
        path = Path(self.file)
        has_suffix = recordings.has_clip_suffix if self.kind == "clip" else recordings.has_photo_suffix
        if not _FILE.fullmatch(self.file) or not has_suffix(path):
            raise ValueError(
                f"file: found {self.file[:80]!r}; expected files/<number> with the suffix of a {self.kind}"
            )
        try:
            is_zoned = datetime.fromisoformat(self.recorded_at).tzinfo is not None
        except ValueError:
            is_zoned = False
        if not is_zoned:
            raise ValueError(f"recorded_at: found {self.recorded_at[:80]!r}; expected a time with its offset from UTC")


@dataclass(frozen=True)
class SampleList:
    """The whole of `samples.json`."""

    format: Literal["clip2edge samples"]
    format_version: Literal[1]
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        names = [sample.file for sample in self.samples]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"samples: found {len(names)}; expected at least one, each with a file of its own")


@dataclass(frozen=True)
class FromPhoneReport:
    """What was brought in."""

    n_added: int
    n_present: int
    labels: Mapping[str, int]  # samples by class, in the order of the names
    tracking: Tracking

    @property
    def headline(self) -> str:
        """One line: how many samples of which classes were added."""
        classes = ", ".join(f"{n} {label}" for label, n in self.labels.items())
        present = f" ({self.n_present} already there)" if self.n_present else ""
        added = f"{counted(self.n_added, 'sample')} from the phone added to data/raw{present}: {classes}"
        return f"{added}{TRACKING_SENTENCES[self.tracking]}"


def add_from_phone(zip_path: Path, project: Project, *, no_dvc: bool = False) -> FromPhoneReport:
    """Copy every sample of a zip into the folder of its class, and note in `data/phone.csv` where it came from.

    A JPEG of the page's own camera gets EXIF with its time and its session as the camera. So `pipe split` finds photos
    of one object by their times, as it does for every camera.

    Args:
        zip_path: what the page saved.
        project: whose recordings the samples become.
        no_dvc: the person wants none of them tracked by DVC.

    Raises:
        DataError: the zip is not of the page's format, a class cannot have its name, or DVC may not track; then nothing
            was copied. Or DVC failed; then the samples are there.
    """
    tracking = plan_tracking(project, declined=no_dvc)
    with scratch_folder("from_phone") as scratch:
        samples = _unpacked(zip_path, scratch)
        labels = sorted({sample.label for sample in samples})
        refuse_similar_names(labels, str(zip_path))
        for label in labels:
            check_label(label, project)
            if tracking == "tracked":
                refuse_linked_class(label, project)
        names = {sample.file: _named(sample, scratch) for sample in samples}
        by_label: dict[str, list[Path]] = defaultdict(list)
        for sample in samples:
            by_label[sample.label].append(names[sample.file])
        reports = [add(sorted(set(paths)), label, project) for label, paths in sorted(by_label.items())]
        _note(samples, names, project)
    if tracking == "tracked":
        track(project)
    counts = Counter(sample.label for sample in samples)
    return FromPhoneReport(
        sum(report.n_added for report in reports),
        sum(report.n_present for report in reports),
        {label: counts[label] for label in sorted(counts)},
        tracking,
    )


def _unpacked(zip_path: Path, scratch: Path) -> tuple[Sample, ...]:
    """Write the files of a zip whose list and hashes are right, and return the list."""
    try:
        with open_regular(zip_path) as file, zipfile.ZipFile(file) as archive:
            listed = _read_list(archive)
            _check_entries(archive, listed)
            (scratch / "files").mkdir()
            for sample in listed.samples:
                (scratch / sample.file).write_bytes(_read_sample(archive, sample))
    except (DataError, ValueError, KeyError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise DataError(f"{zip_path}: {error}; {_EXPECTED}") from error
    except OSError as error:
        raise DataError(f"{zip_path}: {error.strerror or error}; {_EXPECTED}") from error
    return listed.samples


def _read_sample(archive: zipfile.ZipFile, sample: Sample) -> bytes:
    content = archive.read(sample.file)
    if hashlib.sha256(content).hexdigest() != sample.sha256:
        raise DataError(f"{sample.file} has been changed")
    return content


def _read_list(archive: zipfile.ZipFile) -> SampleList:
    if _LIST not in archive.namelist():
        raise DataError(f"no {_LIST} in it")
    if archive.getinfo(_LIST).file_size > _MOST_LIST_BYTES:
        raise DataError(f"{_LIST} has more than {_MOST_LIST_BYTES} bytes")
    try:
        return schema.parse(SampleList, json.loads(archive.read(_LIST).decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{_LIST}: {error}") from error


def _check_entries(archive: zipfile.ZipFile, listed: SampleList) -> None:
    names = archive.namelist()
    expected = {_LIST, *(sample.file for sample in listed.samples)}
    if set(names) != expected or len(names) != len(expected):
        others = sorted(set(names) ^ expected) or names
        raise DataError(f"{_LIST} and the files differ: {others[0][:80]!r}")
    for entry in archive.infolist():
        # Stored entries cannot unpack to more than the zip itself has.
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
            raise DataError(f"{entry.filename!r} is compressed or encrypted")


def _named(sample: Sample, scratch: Path) -> Path:
    """Give a sample's file the name that it has in `data/raw`, and its EXIF; return its path.

    The hash makes the name that of the content: the same sample, brought twice, is one file. It stands before the time,
    since `pipe split` takes a number at the end of a name for a count of pictures.
    """
    path = scratch / sample.file
    taken = datetime.fromisoformat(sample.recorded_at)
    suffix = PurePosixPath(sample.file).suffix
    named = scratch / f"phone_{sample.sha256[:12]}_{taken:%Y%m%dT%H%M%S}{suffix}"
    content = path.read_bytes()
    named.write_bytes(_with_exif(content, sample, taken) if sample.kind == "picture" else content)
    return named


def _with_exif(content: bytes, sample: Sample, taken: datetime) -> bytes:
    """Return a JPEG of the page's camera with its time and session. Pixels keep every bit.

    When a file was taken that the person opened, the page does not know.
    """
    if sample.origin == "file" or not content.startswith(_JPEG_START):
        return content
    try:
        with Image.open(BytesIO(content)) as image:
            capture = capture_of_photo(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{sample.file}: not a picture that can be read ({error}); {_EXPECTED}") from error
    if capture.recorded_at or capture.camera:  # a browser may write EXIF itself one day
        return content
    exif = Image.Exif()
    exif[_MAKE], exif[_MODEL] = "clip2edge page", sample.session.encode("ascii", "replace").decode()
    offset = f"{taken:%z}"
    details = {_TIME: f"{taken:%Y:%m:%d %H:%M:%S}", _OFFSET: f"{offset[:3]}:{offset[3:5]}"}
    exif.get_ifd(_DETAILS).update(details)
    block = exif.tobytes()
    return _JPEG_START + _JPEG_EXIF + (len(block) + 2).to_bytes(2, "big") + block + content[len(_JPEG_START) :]


def _note(samples: tuple[Sample, ...], names: Mapping[str, Path], project: Project) -> None:
    """Add the samples to `data/phone.csv`; a sample that is there already keeps its line."""
    lines: dict[str, list[str]] = {}
    if os.path.lexists(project.phone_csv):
        header, *earlier = list(read_table(project.phone_csv)) or [[]]
        if tuple(header) != _COLUMNS:
            raise DataError(f"{project.phone_csv}: its columns are {', '.join(header)}; expected {', '.join(_COLUMNS)}")
        lines = {line[0]: line for line in earlier if line}
    for sample in samples:
        region = sample.region
        digest = hashlib.sha256(names[sample.file].read_bytes()).hexdigest()
        lines.setdefault(
            digest,
            [
                digest,
                f"data/raw/{sample.label}/{names[sample.file].name}",
                sample.label,
                sample.recorded_at,
                sample.session,
                sample.bundle_id,
                sample.variant,
                sample.answer.label or "",
                f"{sample.answer.probability:.6g}",
                f"{sample.answer.score:.6g}",
                "" if region is None else f"{region.left:.4f} {region.top:.4f} {region.width:.4f} {region.height:.4f}",
            ],
        )
    write_csv(project.phone_csv, [_COLUMNS, *lines.values()])
