"""`pipe add --number`: photos of a class get numbers and one format, and keep what joins them to one object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, PngImagePlugin

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.media.photos import Photo, read_photo
from pipeline.tools.adding.add import AddReport, add
from pipeline.tools.adding.numbered_photos import Numbering
from tests.support.captures import EXIF_BURST, apple_note, write_captured_photo
from tests.support.command import run_pipe
from tests.support.media import picture, write_photo

NUMBERING = Numbering(max_pixels=10**6, jpeg_quality=95, sample_bits=None)


def _add(paths: list[Path], project: Project, label: str = "carp") -> AddReport:
    return add(paths, label, project, NUMBERING)


def _names(project: Project, label: str = "carp") -> list[str]:
    return sorted(path.relative_to(project.raw / label).as_posix() for path in (project.raw / label).rglob("*.*"))


def _read(path: Path) -> Photo:
    return read_photo(path, max_pixels=10**6)


def test_photos_get_the_numbers_of_their_class_in_one_format(project: Project, tmp_path: Path) -> None:
    jpeg = write_photo(tmp_path / "photos" / "a carp.jpeg", 1)
    png = write_photo(tmp_path / "photos" / "deep" / "鯉.png", 2)
    clip = tmp_path / "photos" / "pond.mp4"
    clip.write_bytes(b"a clip")
    report = _add([tmp_path / "photos"], project)
    assert _names(project) == ["0001.jpg", "0002.jpg", "pond.mp4"]
    assert (project.raw / "carp" / "0001.jpg").read_bytes() == jpeg.read_bytes()
    with Image.open(project.raw / "carp" / "0002.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))
    difference = np.abs(_read(project.raw / "carp" / "0002.jpg").pixels_hwc.astype(int) - picture(2).astype(int))
    assert difference.mean() < 2
    assert png.exists()
    assert report.headline == "3 files added to data/raw/carp; 2 photos from 0001.jpg on, 1 of them converted"


def test_every_class_counts_by_itself_and_goes_on_where_it_ended(project: Project, tmp_path: Path) -> None:
    photos = [write_photo(tmp_path / f"{number}.png", number) for number in range(4)]
    _add(photos[:2], project)
    _add(photos[2:3], project, "trout")
    _add(photos[3:], project)
    assert _names(project) == ["0001.jpg", "0002.jpg", "0003.jpg"]
    assert _names(project, "trout") == ["0001.jpg"]
    for name in ("0012_a.jpg", "20230405.jpg", "99999999.jpg", "7.jpg", "0500.png", "deep/0600.jpg"):
        write_photo(project.raw / "carp" / name, 9 + len(name))
    _add([write_photo(tmp_path / "last.png", 29)], project)
    assert "0013.jpg" in _names(project)
    write_photo(project.raw / "carp" / "0020.JPG", 30)
    write_photo(project.raw / "carp" / "0021.jpeg", 31)
    (project.raw / "carp" / "0030.jpg").symlink_to("nothing")
    _add([write_photo(tmp_path / "next.png", 32)], project)
    assert "0022.jpg" in _names(project)


def test_a_photo_that_is_there_gets_no_second_number(project: Project, tmp_path: Path) -> None:
    photos = [write_photo(tmp_path / "a.png", 1), write_photo(tmp_path / "b.jpg", 2)]
    _add(photos, project)
    copy = write_photo(tmp_path / "copies" / "a.png", 1)
    report = _add([*photos, copy, write_photo(tmp_path / "c.png", 3)], project)
    assert report.headline == (
        "1 file added to data/raw/carp (3 already there); 1 photo from 0003.jpg on, 1 of them converted"
    )
    assert _names(project) == ["0001.jpg", "0002.jpg", "0003.jpg"]


@pytest.mark.parametrize("there", ["IMG_1.JPG", "0009.JPG", "a.jpeg", "deep/a.jpg", "a.png"])
def test_a_photo_that_is_there_under_any_name_gets_no_number(project: Project, tmp_path: Path, there: str) -> None:
    present = write_photo(project.raw / "carp" / there, 1)
    photo = tmp_path / f"again{present.suffix}"
    photo.write_bytes(present.read_bytes())
    report = _add([photo], project)
    assert (report.n_added, report.n_present) == (0, 1)
    assert _names(project) == [there]


@pytest.mark.parametrize("suffix", [".heic", ".png", ".webp"])
def test_a_converted_photo_keeps_its_time_camera_and_burst(project: Project, tmp_path: Path, suffix: str) -> None:
    note = apple_note({EXIF_BURST: "0A1B2C3D-0000-1111-2222-333344445555"})
    photo = write_captured_photo(
        tmp_path / f"IMG_1{suffix}", make="Apple", model="iPhone 12", taken="2023:04:05 12:01:01", note=note, serial="7"
    )
    told = _read(photo).capture
    assert told.recorded_at
    assert told.burst
    _add([photo], project)
    assert _read(project.raw / "carp" / "0001.jpg").capture == told


PLACE = 0x8825  # the part of EXIF that GPS writes


@pytest.mark.parametrize("suffix", [".heic", ".png", ".webp"])
def test_a_converted_photo_leaves_its_place_behind(project: Project, tmp_path: Path, suffix: str) -> None:
    details: dict[str, str | bytes] = {"taken": "2023:04:05 12:01:01", "note": b"Panasonic, and where it was"}
    photo = write_captured_photo(tmp_path / f"IMG_1{suffix}", make="Panasonic", place=(51.0, 30.0, 2.5), **details)
    with Image.open(photo) as image:
        assert image.getexif().get_ifd(PLACE)
    _add([photo], project)
    with Image.open(project.raw / "carp" / "0001.jpg") as image:
        exif = image.getexif()
        assert (exif[0x010F], exif.get_ifd(0x8769)) == ("Panasonic", {0x9003: "2023:04:05 12:01:01"})
        assert exif.get_ifd(PLACE) == {}


def test_of_xmp_the_burst_alone_is_kept(project: Project, tmp_path: Path) -> None:
    place, burst = 'exif:GPSLatitude="51,30.04N"', 'GCamera:BurstID="7d2f1c30-0001"'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta><rdf:Description {place} {burst}/></x:xmpmeta>")
    Image.fromarray(picture(1)).save(tmp_path / "1.png", pnginfo=info)
    xmp = f"<x:xmpmeta><rdf:Description {place}/></x:xmpmeta>".encode()
    Image.fromarray(picture(2)).save(tmp_path / "2.tiff", tiffinfo={0x010F: "Google", 0x02BC: xmp})
    for name in ("1.png", "2.tiff"):
        assert b"GPSLatitude" in (tmp_path / name).read_bytes()
    _add([tmp_path / "1.png", tmp_path / "2.tiff"], project)
    captures = [_read(project.raw / "carp" / name).capture for name in ("0001.jpg", "0002.jpg")]
    assert [(capture.camera, capture.burst) for capture in captures] == [("", "burst=7d2f1c30-0001"), ("Google", "")]
    for name in ("0001.jpg", "0002.jpg"):
        assert b"GPSLatitude" not in (project.raw / "carp" / name).read_bytes()


def test_a_turned_photo_is_stored_upright(project: Project, tmp_path: Path) -> None:
    image = Image.fromarray(picture(3))
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = 6, "Nikon"
    image.save(tmp_path / "turned.png", exif=exif)
    upright = _read(tmp_path / "turned.png").pixels_hwc
    assert upright.shape == (64, 48, 3)
    _add([tmp_path / "turned.png"], project)
    converted = _read(project.raw / "carp" / "0001.jpg")
    assert np.abs(converted.pixels_hwc.astype(int) - upright).mean() < 2
    assert converted.capture.camera == "Nikon"


def test_a_time_or_burst_that_only_the_name_says_follows_the_number(project: Project, tmp_path: Path) -> None:
    names = ("IMG_20230405_120101.jpg", "00000IMG_00000_BURST20230405120101999.jpg", "carp 7.jpg")
    _add([write_photo(tmp_path / name, number) for number, name in enumerate(names)], project)
    assert _names(project) == [
        "0001_IMG_20230405_120101.jpg",
        "0002_00000IMG_00000_BURST20230405120101999.jpg",
        "0003.jpg",
    ]


def test_a_photo_that_cannot_be_read_is_one_line_and_nothing_is_added(project: Project, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(write_photo(tmp_path / "whole.png", 1).read_bytes()[:60])
    before = sorted(project.root.rglob("*"))
    good = write_photo(tmp_path / "good.jpg", 2)
    for bad, numbering, reason in (
        ("broken.png", NUMBERING, "re-copy the file"),
        ("whole.png", Numbering(100, 95, None), "raise extract.max_megapixels"),
    ):
        with pytest.raises(DataError, match=f"{bad}: .*{reason}") as caught:
            add([good, tmp_path / bad], "carp", project, numbering)
        assert "\n" not in str(caught.value)
        assert sorted(project.root.rglob("*")) == before


def test_what_joins_photos_and_does_not_fit_into_a_jpeg_is_refused(project: Project, tmp_path: Path) -> None:
    note = apple_note({EXIF_BURST: "0A1B2C3D-0000-1111-2222-333344445555"}) + bytes(70_000)
    photo = write_captured_photo(tmp_path / "long.png", make="Apple", taken="2023:04:05 12:01:01", note=note)
    before = sorted(project.root.rglob("*"))
    with pytest.raises(DataError, match=r"long.png: its time, camera or burst does not fit into a JPEG; convert it"):
        _add([photo], project)
    assert sorted(project.root.rglob("*")) == before


def test_the_command_numbers_photos(project: Project, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    photos = [write_photo(tmp_path / "a.png", 1), write_captured_photo(tmp_path / "b.heic", make="Apple")]
    finished = run_pipe(project.root, "add", *map(str, photos), "--label", "carp", "--number", "--no-dvc")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(
        "2 files added to data/raw/carp; 2 photos from 0001.jpg on, 2 of them converted; next: pipe extract"
    )
    assert _names(project) == ["0001.jpg", "0002.jpg"]
    plain = run_pipe(project.root, "add", str(photos[0]), "--label", "trout", "--no-dvc")
    assert plain.returncode == 0
    assert _names(project, "trout") == ["a.png"]
