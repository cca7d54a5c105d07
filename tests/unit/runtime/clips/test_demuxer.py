from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest

from runtime.clips.demuxer import Bounds, demuxer_of
from runtime.errors import ClipError
from tests.support.clips import BOUNDS, decode_clip, refusal_of_clip
from tests.support.media import OTHER_CONTAINERS, damage, number_in, picture, write_clip, write_plain, write_sound


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.avi", "clip.ts"])
def test_the_content_decides_on_the_container(tmp_path: Path, name: str) -> None:
    clip = write_clip(tmp_path / name)
    misnamed = clip.rename(tmp_path / ("clip.webm" if name == "clip.mp4" else "clip.mp4"))
    frames, info = decode_clip(misnamed, 1)
    assert [number_in(frame.pixels_hwc) for frame in frames] == [0, 10]
    assert info.frames_found == 20


@pytest.mark.parametrize(
    "content",
    [
        b"this is no video",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"#EXTM3U\n#EXTINF:10,\nother.mp4\n#EXT-X-ENDLIST\n",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
    ],
)
def test_what_is_no_video_is_refused_in_one_line_and_opens_nothing(tmp_path: Path, content: bytes) -> None:
    write_clip(tmp_path / "other.mp4")
    liar = tmp_path / "clip.mp4"
    liar.write_bytes(content)
    assert refusal_of_clip(liar).startswith("its content is not MP4, MOV, Matroska, WebM, AVI, MPEG,")
    with pytest.raises(ClipError):
        demuxer_of(liar)


@pytest.mark.parametrize("suffix", [suffix for suffix in OTHER_CONTAINERS if suffix != ".mxf"])
def test_the_clips_of_cameras_and_screens_give_the_right_frames_at_the_right_times(suffix: str, tmp_path: Path) -> None:
    frames, info = decode_clip(write_plain(tmp_path / f"clip{suffix}", *OTHER_CONTAINERS[suffix]), 1)
    assert [number_in(frame.pixels_hwc) for frame in frames] == [0, 25]
    assert [frame.time_seconds for frame in frames] == [0, pytest.approx(1, abs=0.001)]
    assert (info.frames_found, info.first_damage_seconds) == (50, None)


@pytest.mark.parametrize("suffix", [".h264", ".h265"])
def test_a_stream_without_times_is_spaced_as_it_states_or_as_a_person_says(suffix: str, tmp_path: Path) -> None:
    clip = write_plain(tmp_path / f"clip{suffix}", *OTHER_CONTAINERS[suffix])  # it states 25 frames per second
    for stated, expected in ((None, [0, 25]), (50.0, [0]), (10.0, [0, 10, 20, 30, 40]), (30000 / 1001, [0, 30])):
        frames, info = decode_clip(clip, 1, bounds=replace(BOUNDS, raw_frames_per_second=stated))
        assert [number_in(frame.pixels_hwc) for frame in frames] == [number % 30 for number in expected]
        assert [frame.index for frame in frames] == expected
        rate = 25 if stated is None else stated
        assert info.duration_seconds == pytest.approx(50 / rate)
        (warning,) = info.warnings
        assert warning == (
            f"50 frames without a presentation time; spaced as at {rate:g} frames per second "
            "(extract.raw_frames_per_second sets another rate)"
        )
        assert info.first_damage_seconds is None


def test_what_is_not_read_is_named_and_only_a_broken_copy_is_to_be_copied_again(tmp_path: Path) -> None:
    clip = write_plain(tmp_path / "clip.mxf", *OTHER_CONTAINERS[".mxf"], n_frames=2)
    assert refusal_of_clip(clip) == "MXF, which is not read here; convert it to MP4"
    clip.write_bytes(b"no video")
    assert refusal_of_clip(clip).endswith("; convert it to MP4, or remove it")
    clip.write_bytes(bytes(1000))
    assert refusal_of_clip(clip).endswith("after an interrupted copy; delete or re-copy the file")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    assert refusal_of_clip(tmp_path / "clip.mp4") == "empty file (0 bytes); delete or re-copy it"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refusal_of_clip(tmp_path / "no.mp4").startswith("cannot be read (No such file or directory)")
    assert refusal_of_clip(tmp_path).startswith("cannot be read (Is a directory)")


def test_a_head_without_a_body_is_refused(tmp_path: Path) -> None:
    clip = damage(write_clip(tmp_path / "clip.mp4"), share_kept=0.1)
    assert refusal_of_clip(clip).startswith("cannot be opened as a video (Invalid data")


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_refused_with_a_cover_too(tmp_path: Path, cover: bool) -> None:
    assert refusal_of_clip(write_sound(tmp_path / "song.mp4", cover=cover)).startswith("has no video stream")


def test_too_large_and_too_long_clips_are_refused_before_decoding(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    assert refusal_of_clip(clip, bounds=Bounds(64 * 48 - 1, 3600)).startswith(
        "frames of 64 x 48; expected at most 3071 pixels"
    )
    assert refusal_of_clip(clip, bounds=Bounds(64 * 48, 1.5)).startswith("lasts more than 1.5 seconds")
    assert decode_clip(clip, bounds=Bounds(64 * 48, 2.0))[1].frames_decoded == 20


def test_a_title_that_is_no_unicode_does_no_harm(tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    with av.open(str(clip), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        container.mux(stream.encode(None))
    clip.write_bytes(clip.read_bytes().replace(b"TITLE", b"\xff\xfe\xfd\xfc\xfb"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(clip))
    assert decode_clip(clip)[1].frames_decoded == 1


def test_a_relative_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clip.mp4").rename(tmp_path / "http:clip.mp4")
    monkeypatch.chdir(tmp_path)
    assert decode_clip(Path("http:clip.mp4"))[1].frames_decoded == 20
