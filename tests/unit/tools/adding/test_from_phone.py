"""Samples of the phone's page come home whole, once, with their labels, or not at all."""

from __future__ import annotations

import copy
import errno
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import DataError, DiskFullError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.storage.csv_files import read_table
from pipeline.media.capture import capture_of_photo
from pipeline.split.proposals import TIMES, propose
from pipeline.tools.adding import from_phone
from pipeline.tools.adding.from_phone import add_from_phone
from tests.support.command import run_pipe
from tests.support.team_project import git, team_project
from tests.support.tiny_bundle import picture, write_colour_clip

Change = Callable[[dict[str, Any], dict[str, bytes]], object]


def jpeg(seed: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture(seed % 3) + np.uint8(seed)).save(content, "JPEG", quality=95)
    return content.getvalue()


def sample(number: int, content: bytes, label: str, seconds: int, **others: object) -> dict[str, Any]:
    """An entry of samples.json as the page writes it."""
    return {
        "file": f"files/{number:04d}.jpg",
        "sha256": hashlib.sha256(content).hexdigest(),
        "kind": "picture",
        "origin": "camera",
        "label": label,
        "recorded_at": f"2026-05-03T14:{seconds // 60:02d}:{seconds % 60:02d}+02:00",
        "session": "2026-05-03T13:59:00+02:00",
        "bundle_id": "0123456789abcdef",
        "variant": "int8",
        "region": None,
        "answer": {"label": "red", "probability": 0.75, "score": 1.5},
        **others,
    }


def saved(path: Path, samples: list[dict[str, Any]], contents: list[bytes], change: Change | None = None) -> Path:
    """Write the zip that the page saves; `change` alters its list and its files before."""
    listed = {"format": "clip2edge samples", "format_version": 1, "samples": copy.deepcopy(samples)}
    files = {entry["file"]: content for entry, content in zip(samples, contents, strict=True)}
    if change is not None:
        change(listed, files)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("samples.json", json.dumps(listed))
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def samples() -> tuple[list[dict[str, Any]], list[bytes]]:
    """Three photos of one object within seconds, and two of another one a minute later."""
    contents = [jpeg(seed) for seed in range(5)]
    times = [0, 2, 5, 70, 73]
    entries = [sample(n + 1, content, "green", t) for n, (content, t) in enumerate(zip(contents, times, strict=True))]
    return entries, contents


def huge_jpeg() -> bytes:
    """A small file whose header states 65,000 pixels a side."""
    content = bytearray(jpeg(0))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = (65_000).to_bytes(2, "big") * 2
    return bytes(content)


def raw_files(project: Project) -> list[str]:
    return sorted(path.relative_to(project.root).as_posix() for path in project.raw.rglob("*") if path.is_file())


def test_samples_come_into_the_folders_of_their_classes_with_their_pixels(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    entries, contents = samples
    entries[4]["label"] = "蓝色 new"
    clip = write_colour_clip(tmp_path / "clip.mp4", [0, 1]).read_bytes()
    region = {"left": 0.1, "top": 0.2, "width": 0.5, "height": 0.5}
    entries.append(sample(6, clip, "green", 90, file="files/0006.mp4", kind="clip", region=region))
    report = add_from_phone(saved(tmp_path / "samples.zip", entries, [*contents, clip]), project, no_dvc=True)
    assert report.headline == "6 samples from the phone added to data/raw: 5 green, 1 蓝色 new"
    names = raw_files(project)
    assert len(names) == 6
    by_hash = {entry["sha256"]: content for entry, content in zip(entries, [*contents, clip], strict=True)}
    for name in names:
        digest = next(digest for digest in by_hash if digest[:12] in name)
        content = (project.root / name).read_bytes()
        if name.endswith(".mp4"):
            assert content == clip
            continue
        with Image.open(io.BytesIO(content)) as image, Image.open(io.BytesIO(by_hash[digest])) as before:
            assert np.array_equal(np.asarray(image), np.asarray(before))
    header, *lines = read_table(project.phone_csv)
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert sorted(row["added_as"] for row in rows) == names
    assert {hashlib.sha256((project.root / row["added_as"]).read_bytes()).hexdigest() for row in rows} == {
        row["sha256"] for row in rows
    }
    assert rows[5]["region"] == "0.1000 0.2000 0.5000 0.5000"
    assert (rows[0]["bundle_id"], rows[0]["answered"], rows[0]["probability"]) == ("0123456789abcdef", "red", "0.75")


def test_the_same_zip_twice_adds_nothing_and_a_killed_run_is_finished_by_the_next(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    path = saved(tmp_path / "samples.zip", *samples)
    add_from_phone(path, project, no_dvc=True)
    files, table = raw_files(project), project.phone_csv.read_bytes()
    (project.root / files[0]).unlink()  # as if the run had been killed before it
    project.phone_csv.unlink()
    report = add_from_phone(path, project, no_dvc=True)
    assert (report.n_added, report.n_present) == (1, 4)
    assert (raw_files(project), project.phone_csv.read_bytes()) == (files, table)


def test_photos_of_one_object_are_grouped_by_the_rules_of_split(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    entries, contents = samples
    more = [jpeg(seed) for seed in range(10, 16)]
    entries += [sample(10 + n, content, "green", 300 + 100 * n) for n, content in enumerate(more)]
    add_from_phone(saved(tmp_path / "samples.zip", entries, [*contents, *more]), project, no_dvc=True)
    rows = [row_of(project, name) for name in raw_files(project)]
    assert all(row.camera.startswith("clip2edge page 2026-05-03") for row in rows)
    proposed = propose(rows, frozenset(), photos=True, within_given=False)
    assert proposed.left_apart == ()
    assert len(proposed.links) == 3  # two of the three photos, and one of the two
    assert all(TIMES in link.reason for link in proposed.links)
    other = [replace(row, camera=f"another {number % 2}") for number, row in enumerate(rows)]
    assert len(propose(other, frozenset(), photos=True, within_given=False).links) < 3


def row_of(project: Project, name: str) -> Row:
    with Image.open(project.root / name) as image:
        capture = capture_of_photo(image)
    source = name.removeprefix("data/raw/")
    return Row(
        path=f"data/frames/{source}.jpg",
        label=source.split("/")[0],
        source=source,
        source_sha256=source,
        group=source,
        recorded_at=capture.recorded_at,
        camera=capture.camera,
        width=32,
        height=24,
    )


@pytest.mark.parametrize(
    ("maker", "origin", "is_kept"), [("M", "camera", True), ("", "file", True), ("", "camera", False)]
)
def test_a_file_of_the_person_and_a_photo_with_its_own_exif_keep_every_byte(
    maker: str, origin: str, is_kept: bool, project: Project, tmp_path: Path
) -> None:
    exif = Image.Exif()
    if maker:
        exif[0x010F] = maker
    content = io.BytesIO()
    Image.fromarray(picture(0)).save(content, "JPEG", exif=exif)
    entry = sample(1, content.getvalue(), "green", 0, origin=origin)
    add_from_phone(saved(tmp_path / "samples.zip", [entry], [content.getvalue()]), project, no_dvc=True)
    assert ((project.root / raw_files(project)[0]).read_bytes() == content.getvalue()) == is_kept


def test_dvc_tracks_the_samples_as_it_tracks_other_recordings(
    samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    tracked = team_project(tmp_path / "project")
    report = add_from_phone(saved(tmp_path / "samples.zip", *samples), tracked)
    assert report.headline.endswith("; DVC tracks them in data/raw.dvc")
    assert git(tracked.root, "status", "--porcelain").splitlines() == ["?? data/phone.csv", "?? data/raw.dvc"]


def test_nothing_is_brought_behind_a_link_that_dvc_does_not_look_into(
    samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    tracked = team_project(tmp_path / "project")
    (tmp_path / "disk").mkdir()
    tracked.raw.mkdir()
    (tracked.raw / "green").symlink_to(tmp_path / "disk")
    with pytest.raises(DataError, match=r"^data/raw/green: a link to .*, and DVC tracks nothing behind a link"):
        add_from_phone(saved(tmp_path / "samples.zip", *samples), tracked)
    assert list((tmp_path / "disk").iterdir()) == []


FAULTS: dict[str, tuple[Change, str]] = {
    "another format": (lambda listed, _: listed.update(format="photos"), "format: found 'photos'"),
    "a later version": (lambda listed, _: listed.update(format_version=2), "format_version: found '2'"),
    "no sample": (lambda listed, files: (listed.update(samples=[]), files.clear()), "samples: found 0"),
    "an unknown key": (lambda listed, _: listed["samples"][0].update(more=1), "more: unknown key"),
    "a missing key": (lambda listed, _: listed["samples"][0].pop("label"), "label: missing"),
    "a changed file": (lambda _, files: files.update({"files/0001.jpg": b"x"}), r"files/0001\.jpg has been changed"),
    "a missing file": (lambda _, files: files.pop("files/0002.jpg"), "differ: 'files/0002.jpg'"),
    "a file more": (lambda _, files: files.update({"../out.jpg": b"x"}), r"differ: '\.\./out\.jpg'"),
    "a path out": (lambda listed, _: listed["samples"][0].update(file="files/../../x.jpg"), "file: found"),
    "a suffix of code": (lambda listed, _: listed["samples"][0].update(file="files/0001.py"), "file: found"),
    "a clip as a picture": (lambda listed, _: listed["samples"][0].update(kind="clip"), "suffix of a clip"),
    "a time without its offset": (
        lambda listed, _: listed["samples"][0].update(recorded_at="2026-05-03T14:00:00"),
        "recorded_at: found",
    ),
    "a label that leaves": (lambda listed, _: listed["samples"][0].update(label="../x"), "not the name of a folder"),
    "labels alike": (lambda listed, _: listed["samples"][0].update(label="Green"), "Green"),
    "one picture, two labels": (
        lambda listed, files: (
            files.update({"files/0002.jpg": files["files/0001.jpg"]}),
            listed["samples"][1].update(sha256=listed["samples"][0]["sha256"], label="red"),
        ),
        r"files/0001\.jpg and files/0002\.jpg are one picture with the labels 'green' and 'red'; .*delete one",
    ),
    "a session too long for EXIF": (
        lambda listed, _: listed["samples"][0].update(session="s" * 70_000),
        "session: found 's+'; expected at most 255 bytes",
    ),
    "a bundle too long for the table": (
        lambda listed, _: listed["samples"][0].update(bundle_id="b" * 256),
        "bundle_id: found 'b+'; expected at most 255 bytes",
    ),
    "an answer of two lines": (
        lambda listed, _: listed["samples"][0]["answer"].update(label="a\nb"),
        r"answer\.label: found 'a\\nb'",
    ),
    "a picture of 65,000 pixels a side": (
        lambda listed, files: (
            files.update({"files/0001.jpg": huge_jpeg()}),
            listed["samples"][0].update(sha256=hashlib.sha256(huge_jpeg()).hexdigest()),
        ),
        "not a picture",
    ),
    "no picture": (
        lambda listed, files: (
            files.update({"files/0001.jpg": b"\xff\xd8 no picture"}),
            listed["samples"][0].update(sha256=hashlib.sha256(b"\xff\xd8 no picture").hexdigest()),
        ),
        "not a picture",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_of_the_format_is_refused_whole(
    fault: str, project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    change, reason = FAULTS[fault]
    path = saved(tmp_path / "samples.zip", *samples, change)
    with pytest.raises(DataError, match=reason) as caught:
        add_from_phone(path, project, no_dvc=True)
    assert "\n" not in str(caught.value)
    assert not project.raw.exists() or raw_files(project) == []
    assert not project.phone_csv.exists()


def test_a_file_that_was_opened_and_corrected_twice_comes_once(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    _, (content, *_) = samples
    twice = [sample(number, content, "green", number, origin="file") for number in (1, 2)]
    report = add_from_phone(saved(tmp_path / "samples.zip", twice, [content, content]), project, no_dvc=True)
    assert (report.n_added, report.labels) == (1, {"green": 1})
    assert len(raw_files(project)) == len(list(read_table(project.phone_csv))) - 1 == 1


def test_a_file_of_an_earlier_zip_keeps_its_label_until_it_is_removed(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    _, (content, *_) = samples
    for label in ("green", "red"):
        saved(tmp_path / f"{label}.zip", [sample(1, content, label, 0, origin="file")], [content])
    add_from_phone(tmp_path / "green.zip", project, no_dvc=True)
    before = (raw_files(project), project.phone_csv.read_bytes())
    with pytest.raises(DataError, match=r"files/0001\.jpg has the label 'red', and is data/raw/green/.* already"):
        add_from_phone(tmp_path / "red.zip", project, no_dvc=True)
    assert (raw_files(project), project.phone_csv.read_bytes()) == before
    (project.root / before[0][0]).unlink()
    add_from_phone(tmp_path / "red.zip", project, no_dvc=True)
    _, line = read_table(project.phone_csv)
    assert line[1:3] == [*raw_files(project), "red"]


def test_a_file_that_comes_in_two_zips_is_there_once(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    _, (content, *_) = samples
    first, second = (
        saved(tmp_path / f"{number}.zip", [sample(1, content, "green", number, origin="file")], [content])
        for number in (1, 2)
    )
    assert add_from_phone(first, project, no_dvc=True).n_added == 1
    before = (raw_files(project), project.phone_csv.read_bytes())
    report = add_from_phone(second, project, no_dvc=True)
    assert (report.n_added, report.n_present) == (0, 1)
    assert (raw_files(project), project.phone_csv.read_bytes()) == before


@pytest.mark.parametrize("label", ["می\u200cخک", "スチール\u3000缶", "a\xa0b", "x" * 220])
def test_every_name_that_a_class_can_have_comes_home_as_an_answer(
    label: str, project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    entries, contents = samples
    entries[0]["answer"]["label"] = label
    add_from_phone(saved(tmp_path / "samples.zip", entries, contents), project, no_dvc=True)
    header, *lines = read_table(project.phone_csv)
    assert label in [line[header.index("answered")] for line in lines]


def test_other_files_and_compressed_zips_are_refused(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    for content, reason in ((b"no zip", "not a zip"), (b"", "not a zip")):
        (tmp_path / "other.zip").write_bytes(content)
        with pytest.raises(DataError, match=rf"other\.zip: .*{reason}"):
            add_from_phone(tmp_path / "other.zip", project, no_dvc=True)
    path = saved(tmp_path / "samples.zip", *samples)
    with (
        zipfile.ZipFile(path) as archive,
        zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(DataError, match="compressed or encrypted"):
        add_from_phone(tmp_path / "packed.zip", project, no_dvc=True)
    with pytest.raises(DataError, match=r"absent\.zip"):
        add_from_phone(tmp_path / "absent.zip", project, no_dvc=True)
    assert not project.raw.exists()


def nested_zip(path: Path, listed: bytes, names: list[str], inner: bytes) -> Path:
    """Write a zip of stored entries, each of which lies in the one before it: together they have far more bytes."""
    contents = [inner]
    for name in reversed(names[1:]):
        contents.insert(0, local_entry(name, contents[0]))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("samples.json", listed)
        archive.writestr(names[0], contents[0])
        offset = archive.infolist()[1].header_offset
        for name, outer, content in zip(names[1:], names, contents[1:], strict=False):
            offset += 30 + len(outer)
            entry = zipfile.ZipInfo(name)
            entry.header_offset, entry.file_size, entry.compress_size = offset, len(content), len(content)
            entry.CRC = zlib.crc32(content)
            archive.filelist.append(entry)
            archive.NameToInfo[name] = entry
    path.write_bytes(whole.getvalue())
    return path


def local_entry(name: str, content: bytes) -> bytes:
    """A stored entry as it lies in a zip, without the directory."""
    alone = io.BytesIO()
    with zipfile.ZipFile(alone, "w") as archive:
        archive.writestr(name, content)
    return alone.getvalue()[: 30 + len(name) + len(content)]


def test_a_zip_that_could_unpack_to_more_than_itself_is_refused_before_it_is_read(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"files/{number:04d}.jpg" for number in range(1, 11)]
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("samples.json", b" " * 2**22)
    assert packed.stat().st_size < 1000
    nested = nested_zip(tmp_path / "nested.zip", b"{}", names, b"x" * 2**16)
    with zipfile.ZipFile(nested) as archive:  # a sound zip but for that: the inmost entry can be read
        assert archive.infolist()[-1].file_size == 2**16
        assert sum(entry.file_size for entry in archive.infolist()) > 9 * nested.stat().st_size
    read: list[object] = []
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda _, name, *__, **___: read.append(name))
    with pytest.raises(DataError, match=r"packed\.zip: 'samples\.json' is compressed or encrypted"):
        add_from_phone(packed, project, no_dvc=True)
    with pytest.raises(DataError, match=r"nested\.zip: its entries have [0-9,]+ bytes, more than the zip itself has"):
        add_from_phone(nested, project, no_dvc=True)
    assert read == []


def test_another_table_and_a_name_that_is_taken_in_one_class_leave_every_class_as_it_was(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    entries, contents = samples
    entries[4]["label"] = "red"
    path = saved(tmp_path / "samples.zip", entries, contents)
    project.phone_csv.parent.mkdir(exist_ok=True)
    project.phone_csv.write_text("sha256,note\n00,mine\n")
    with pytest.raises(DataError, match=r"phone\.csv: its columns are sha256, note; expected sha256, added_as"):
        add_from_phone(path, project, no_dvc=True)
    assert project.phone_csv.read_text() == "sha256,note\n00,mine\n"
    assert raw_files(project) == []
    project.phone_csv.unlink()
    taken = project.raw / "red" / f"phone_{entries[4]['sha256'][:12]}_20260503T140113.jpg"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"another")
    with pytest.raises(DataError, match="a file with other content is there"):
        add_from_phone(path, project, no_dvc=True)
    assert raw_files(project) == [taken.relative_to(project.root).as_posix()]
    taken.unlink()  # the same zip is sound otherwise
    assert add_from_phone(path, project, no_dvc=True).n_added == 5


def test_a_full_temporary_folder_is_named_and_not_the_zip(
    project: Project,
    samples: tuple[list[dict[str, Any]], list[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders: list[Path] = []

    def full(_archive: object, _sample: object, scratch: Path) -> None:
        folders.append(scratch)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(from_phone, "_extract", full)
    with pytest.raises(DiskFullError, match="the disk is full") as caught:
        add_from_phone(saved(tmp_path / "samples.zip", *samples), project, no_dvc=True)
    assert str(folders[0]) in str(caught.value)
    assert "expected a zip" not in str(caught.value)
    # A name that the next run knows as that of a killed one, and removes (runtime/system/scratch.py).
    assert re.fullmatch(r"clip2edge-[a-z]+-[0-9a-f]{8}-\d+-\w+", folders[0].name)


def test_the_command_takes_a_zip_alone(
    project: Project, samples: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    path = saved(tmp_path / "samples.zip", *samples)
    mixed = run_pipe(project.root, "add", "--from-phone", str(path), "--label", "green")
    assert (mixed.returncode, "--from-phone goes alone" in mixed.stderr) == (2, True)
    neither = run_pipe(project.root, "add")
    assert (neither.returncode, "--from-phone ZIP" in neither.stderr) == (2, True)
    added = run_pipe(project.root, "add", "--from-phone", str(path), "--no-dvc")
    assert (added.returncode, added.stderr) == (0, "")
    assert added.stdout.startswith("5 samples from the phone added to data/raw: 5 green; next: ")
