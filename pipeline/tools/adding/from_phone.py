"""Bring the samples of the phone's page into `data/raw`. docs/contracts.md has the format of its zip."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image

from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
from pipeline.base.project import Project
from pipeline.base.similar_names import refuse_similar_names
from pipeline.base.storage.csv_files import read_table, write_csv
from pipeline.base.storage.disk_space import is_full, naming_a_full_disk
from pipeline.base.words import counted
from pipeline.media import recordings
from pipeline.media.capture import capture_of_photo
from pipeline.tools.adding.add import TRACKING_SENTENCES, check_label, copy_recordings
from pipeline.tools.adding.tracked_recordings import Tracking, plan_tracking, refuse_linked_class, track
from runtime import schema
from runtime.images.pillow import DECODER_ERRORS
from runtime.system.regular_files import open_regular
from runtime.system.scratch import scratch_folder

_LIST = "samples.json"
_MOST_LIST_BYTES = 16 * 2**20
_BLOCK_BYTES = 2**20
_MOST_TEXT_BYTES = 255  # of a session, a bundle, a variant and an answer: no class has a longer name
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
        texts = (self.session, self.bundle_id, self.variant, self.answer.label or "")
        for name, text in zip(("session", "bundle_id", "variant", "answer.label"), texts, strict=True):
            if recordings.has_forbidden_letter(text) or len(text.encode("utf-8")) > _MOST_TEXT_BYTES:
                raise ValueError(
                    f"{name}: found {text[:80]!r}; expected at most {_MOST_TEXT_BYTES} bytes without control characters"
                )


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
        DataError: the zip is not of the page's format, one file has two classes, in it or with what an earlier zip
            brought, a class cannot have its name, `data/phone.csv` is another table, or DVC may not track; then nothing
            was copied. Or DVC failed; then the samples are there.
        DiskFullError: the temporary folder has no room for the files of the zip. Then nothing was copied.
    """
    tracking = plan_tracking(project, declined=no_dvc)
    table = _read_table(project)
    with scratch_folder("samples") as scratch:
        with naming_a_full_disk(scratch, scratch):
            samples = _unpacked(zip_path, scratch)
            _check_labels(samples, zip_path, project, tracking)
            samples = _without_repeats(samples)
            names = {sample.file: _named(sample, scratch) for sample in samples}
            digests = {sample.file: sha256_of(names[sample.file]) for sample in samples}
            earlier = _brought_earlier(samples, digests, table, zip_path, project)
        added = sorted((names[sample.file], _target(names[sample.file], sample, earlier)) for sample in samples)
        n_added, n_present = copy_recordings(added, project)
        _note(samples, names, digests, table, project)
    if tracking == "tracked":
        track(project)
    counts = Counter(sample.label for sample in samples)
    return FromPhoneReport(n_added, n_present, {label: counts[label] for label in sorted(counts)}, tracking)


def _check_labels(samples: tuple[Sample, ...], zip_path: Path, project: Project, tracking: Tracking) -> None:
    """Refuse classes that cannot be folders, that read alike or that DVC does not look into, and a file of two."""
    labels = sorted({sample.label for sample in samples})
    refuse_similar_names(labels, str(zip_path))
    for label in labels:
        check_label(label, project)
        if tracking == "tracked":
            refuse_linked_class(label, project)
    first_with: dict[str, Sample] = {}
    for sample in samples:
        first = first_with.setdefault(sample.sha256, sample)
        if first.label != sample.label:
            raise DataError(
                f"{zip_path}: {first.file} and {sample.file} are one {sample.kind} with the labels {first.label!r} and"
                f" {sample.label!r}; expected one label; delete one of the two on the page, and save the zip again"
            )


def _without_repeats(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """The first sample of each file: a person may open and correct one file twice."""
    first_with: dict[str, Sample] = {}
    for sample in samples:
        first_with.setdefault(sample.sha256, sample)
    return tuple(first_with.values())


def _brought_earlier(
    samples: tuple[Sample, ...],
    digests: Mapping[str, str],
    table: Mapping[str, list[str]],
    zip_path: Path,
    project: Project,
) -> dict[str, str]:
    """The names in their class's folder of the samples' files that an earlier zip has brought, and that are there.

    Raises:
        DataError: such a file has another label.
    """
    earlier = {}
    for sample in samples:
        _, added_as, label, *_ = table.get(digests[sample.file]) or ("", "", "")
        if not added_as or not (project.root / added_as).is_file():
            continue
        if label != sample.label:
            raise DataError(
                f"{zip_path}: {sample.file} has the label {sample.label!r}, and is {added_as} already; expected one"
                f" label; delete the sample on the page, or remove {added_as} first"
            )
        earlier[sample.file] = Path(added_as).name
    return earlier


def _target(file: Path, sample: Sample, earlier: Mapping[str, str]) -> Path:
    """Where a sample's file lies in `data/raw`: a file that was opened twice was named by two times."""
    return Path(sample.label, earlier.get(sample.file, file.name))


def _unpacked(zip_path: Path, scratch: Path) -> tuple[Sample, ...]:
    """Write the files of a zip whose list and hashes are right, and return the list."""
    try:
        with open_regular(zip_path) as file, zipfile.ZipFile(file) as archive:
            _refuse_packed_entries(archive, os.fstat(file.fileno()).st_size)
            listed = _read_list(archive)
            _check_names(archive, listed)
            (scratch / "files").mkdir()
            for sample in listed.samples:
                _extract(archive, sample, scratch)
    except (DataError, ValueError, KeyError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise DataError(f"{zip_path}: {error}; {_EXPECTED}") from error
    except OSError as error:
        if is_full(error):  # of the temporary folder: nothing is wrong with the zip
            raise
        raise DataError(f"{zip_path}: {error.strerror or error}; {_EXPECTED}") from error
    return listed.samples


def _refuse_packed_entries(archive: zipfile.ZipFile, zip_bytes: int) -> None:
    """Refuse a zip that could unpack to more than its own bytes, before anything of it is read."""
    entries = archive.infolist()
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
            raise DataError(f"{entry.filename[:80]!r} is compressed or encrypted")
    total = sum(entry.file_size for entry in entries)
    if total > zip_bytes:  # entries that lie in one another
        raise DataError(f"its entries have {total:,} bytes, more than the zip itself has ({zip_bytes:,})")


def _extract(archive: zipfile.ZipFile, sample: Sample, scratch: Path) -> None:
    digest = hashlib.sha256()
    with archive.open(sample.file) as packed, (scratch / sample.file).open("wb") as file:
        while block := packed.read(_BLOCK_BYTES):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != sample.sha256:
        raise DataError(f"{sample.file} has been changed")


def _read_list(archive: zipfile.ZipFile) -> SampleList:
    if _LIST not in archive.namelist():
        raise DataError(f"no {_LIST} in it")
    if archive.getinfo(_LIST).file_size > _MOST_LIST_BYTES:
        raise DataError(f"{_LIST} has more than {_MOST_LIST_BYTES} bytes")
    try:
        return schema.parse(SampleList, json.loads(archive.read(_LIST).decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{_LIST}: {error}") from error


def _check_names(archive: zipfile.ZipFile, listed: SampleList) -> None:
    names = archive.namelist()
    expected = {_LIST, *(sample.file for sample in listed.samples)}
    if set(names) != expected or len(names) != len(expected):
        others = sorted(set(names) ^ expected) or names
        raise DataError(f"{_LIST} and the files differ: {others[0][:80]!r}")


def _named(sample: Sample, scratch: Path) -> Path:
    """Give a sample's file its EXIF, and the name that it has in `data/raw`; return its path.

    The hash makes the name that of the content. It stands before the time,
    since `pipe split` takes a number at the end of a name for a count of pictures.
    """
    path = scratch / sample.file
    taken = datetime.fromisoformat(sample.recorded_at)
    if sample.kind == "picture":
        content = path.read_bytes()
        with_exif = _with_exif(content, sample, taken)
        if with_exif is not content:
            path.write_bytes(with_exif)
    suffix = PurePosixPath(sample.file).suffix
    return path.replace(scratch / f"phone_{sample.sha256[:12]}_{taken:%Y%m%dT%H%M%S}{suffix}")


def _with_exif(content: bytes, sample: Sample, taken: datetime) -> bytes:
    """Return a JPEG of the page's camera with its time and session. Pixels keep every bit.

    When a file was taken that the person opened, the page does not know.
    """
    if sample.origin == "file" or not content.startswith(_JPEG_START):
        return content
    try:
        with Image.open(BytesIO(content)) as image:
            capture = capture_of_photo(image)
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
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


def _read_table(project: Project) -> dict[str, list[str]]:
    """Return the lines of `data/phone.csv` by the hash in their first column.

    Raises:
        DataError: the table is none, or has other columns.
    """
    if not os.path.lexists(project.phone_csv):
        return {}
    header, *lines = [line for line in read_table(project.phone_csv) if line] or [[]]
    if tuple(header) != _COLUMNS:
        raise DataError(f"{project.phone_csv}: its columns are {', '.join(header)}; expected {', '.join(_COLUMNS)}")
    for line in lines:
        if len(line) != len(_COLUMNS):
            raise DataError(f"{project.phone_csv}: found a line of {len(line)} cells; expected {len(_COLUMNS)}")
    return {line[0]: line for line in lines}


def _note(
    samples: tuple[Sample, ...],
    names: Mapping[str, Path],
    digests: Mapping[str, str],
    table: Mapping[str, list[str]],
    project: Project,
) -> None:
    """Write `data/phone.csv` with the samples; one that is there already with its label keeps its line."""
    lines = dict(table)
    for sample in samples:
        region, digest = sample.region, digests[sample.file]
        if digest in lines and lines[digest][_COLUMNS.index("label")] == sample.label:
            continue
        lines[digest] = [
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
        ]
    write_csv(project.phone_csv, [_COLUMNS, *lines.values()])
