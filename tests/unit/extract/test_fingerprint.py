"""Fingerprints: the same clip gives the same bytes whatever the threads; formats of pixels and rotation do not show."""

from __future__ import annotations

from pathlib import Path
from random import Random

import av
import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.base.fingerprints import Fingerprint, fingerprint_path, read_fingerprint
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.extract import fingerprint as fingerprint_module
from pipeline.extract.fingerprint import FingerprintCollector, file_of_text, small_picture, to_text
from pipeline.extract.params import ExtractParams
from pipeline.extract.stage import extract
from tests.support.media import write_photo
from tests.support.moving_clips import Copy, film, fingerprint_of, write_copy
from tests.support.scenes import scene


def frame_of(seed: int, pixel_format: str = "yuv420p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(scene(seed), format="bgr24").reformat(format=pixel_format)


def collected(times: list[float]) -> Fingerprint:
    collector = FingerprintCollector()
    for time in times:
        collector(frame_of(round(abs(time) * 100)), time)
    return collector.fingerprint()


@pytest.mark.parametrize("pixel_format", ["nv12", "yuv444p", "yuv420p10le", "yuv422p10le", "gray", "rgb24", "gbrp"])
def test_the_format_of_the_pixels_does_not_show(pixel_format: str) -> None:
    usual = small_picture(frame_of(1)).astype(int)
    # Luma of limited range and of full range differ by a scale and an offset, which the comparison of clips ignores.
    other = small_picture(frame_of(1, pixel_format)).astype(int)
    assert np.corrcoef(usual.ravel(), other.ravel())[0, 1] > 0.995
    assert np.corrcoef(usual.ravel(), small_picture(frame_of(2, pixel_format)).ravel())[0, 1] < 0.9


def test_the_earliest_frame_of_a_tenth_is_kept_whatever_the_order() -> None:
    times = [0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.6, 0.64, -0.04]
    expected = collected(times)
    assert expected.milliseconds.tolist() == [0, 120, 200, 600]
    for seed in range(4):
        shuffled = times.copy()
        Random(seed).shuffle(shuffled)
        assert collected(shuffled).to_bytes() == expected.to_bytes()


def test_a_long_clip_keeps_every_second_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint_module, "MOST_PICTURES", 3)
    assert collected([0.0, 0.1, 0.2, 0.3, 0.4]).milliseconds.tolist() == [0, 200, 400]


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    fingerprint = collected([0.0, 0.1, 70_000.5])
    (tmp_path / "a.npy").write_bytes(file_of_text(to_text(fingerprint)))
    again = read_fingerprint(tmp_path / "a.npy")
    assert again is not None
    assert again.milliseconds.tolist() == [0, 100, 70_000_500]
    assert np.array_equal(again.pictures, fingerprint.pictures)
    assert read_fingerprint(tmp_path / "b.npy") is None


@pytest.mark.parametrize(
    "lines", [np.zeros((2, 260), np.uint8), np.zeros((2, 10), np.uint8), np.zeros((2, 260)), np.array(["a"], object)]
)
def test_another_array_is_refused(tmp_path: Path, lines: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", lines, allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: not a fingerprint"):
        read_fingerprint(tmp_path / "a.npy")


def test_a_source_outside_the_project_has_no_fingerprint(project: Project) -> None:
    assert fingerprint_path("data/raw/a/b.mp4", project) == project.fingerprints / "a/b.mp4.npy"
    with pytest.raises(DataError, match="leaves the project"):
        fingerprint_path("data/raw/../../etc/passwd", project)


@pytest.mark.parametrize("group", [10, 250])
def test_the_number_of_threads_changes_no_byte(tmp_path: Path, group: int) -> None:
    clip = write_copy(film(0, 0), tmp_path / "clip.mp4", Copy(group=group))
    fingerprints = [fingerprint_of(clip, threads).to_bytes() for threads in (1, 4)]
    assert fingerprints[0] == fingerprints[1]


def test_extract_writes_one_for_every_clip_from_the_cache_too_and_none_for_a_photo(project: Project) -> None:
    for label in ("a", "b"):
        write_copy(film(len(label), ord(label), 1.5), project.raw / label / "deep" / "clip.mp4", Copy())
        write_photo(project.raw / label / "photo.png")
    params = read_section(project.params_yaml, "extract", ExtractParams)
    written = []
    for _ in range(2):
        extract(params, project)
        written.append({
            path.relative_to(project.fingerprints).as_posix(): path.read_bytes()
            for path in project.fingerprints.rglob("*.npy")
        })  # fmt: skip
    assert set(written[0]) == {"a/deep/clip.mp4.npy", "b/deep/clip.mp4.npy"}
    assert written[0] == written[1]
    assert read_fingerprint(fingerprint_path("data/raw/a/deep/clip.mp4", project)) is not None
    (project.raw / "a" / "deep" / "clip.mp4").unlink()
    extract(params, project)
    assert not (project.fingerprints / "a").exists()
