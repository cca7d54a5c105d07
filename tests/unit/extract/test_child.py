from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.extract.child import Outcome, Picture, Settings, decode_recordings
from runtime.clips.clip import open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds
from runtime.images import read_image
from tests.support.media import damage, write_clip, write_photo

SETTINGS = Settings(Wanted(10), ".png", 95, 10_000_000, 60, 2)


def decode(sources: list[Path], frames: Path, settings: Settings = SETTINGS) -> list[Outcome]:
    """The outcomes after their way from the child to its parent."""
    pairs = [(str(source), source.name) for source in sources]
    answer = decode_recordings(pairs, str(frames), json.loads(json.dumps(settings.to_json())), {})
    return [Outcome.from_json(outcome) for outcome in json.loads(json.dumps(answer))]


def test_a_bad_recording_gives_its_line_and_the_others_their_pictures(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video", encoding="utf-8")
    sources = [write_photo(tmp_path / "a.png"), tmp_path / "bad.mp4", write_clip(tmp_path / "c.mp4", n_frames=3)]
    photo, bad, clip = decode(sources, tmp_path / "out")
    assert bad.error.startswith(f"{tmp_path}/bad.mp4: its content is not MP4")
    assert bad == Outcome(error=bad.error)
    assert (photo.error, clip.error) == ("", "")
    assert (photo.clip, [picture.path for picture in photo.pictures]) == (None, ["a.png.png"])
    assert [picture.path for picture in clip.pictures] == [f"c.mp4/{index:06d}.png" for index in range(3)]
    assert clip.clip is not None
    assert clip.clip["frames_decoded"] == 3


def test_a_clip_of_which_nothing_decodes_is_damaged_and_no_error(tmp_path: Path) -> None:
    stump = damage(write_clip(tmp_path / "stump.mp4"), share_kept=0.02)
    (outcome,) = decode([stump], tmp_path / "out")
    assert outcome.damage.startswith("cannot be opened as a video (")
    assert outcome == Outcome(damage=outcome.damage)


def test_of_a_damaged_clip_only_the_second_decode_is_kept(tmp_path: Path) -> None:
    clip = damage(write_clip(tmp_path / "clip.mkv", n_frames=40, sides=(320, 240), noise=20), flipped=30)
    out = tmp_path / "out"
    with open_clip(clip, Bounds(10**6, 60), strict=False) as opened:
        expected = {frame.index: frame.pixels_hwc for frame in opened.frames(Wanted(10))}
    (outcome,) = decode([clip], out)
    assert "damage begins at" in outcome.damage
    assert {path.name for path in (out / "clip.mkv").iterdir()} == {f"{index:06d}.png" for index in expected}
    for index, pixels_hwc in expected.items():
        written = read_image(out / "clip.mkv" / f"{index:06d}.png", max_pixels=10**6)
        assert np.array_equal(written, pixels_hwc)


def test_a_picture_too_wide_for_jpeg_is_refused(tmp_path: Path) -> None:
    wide = write_photo(tmp_path / "wide.png", sides=(70_000, 8))
    (outcome,) = decode([wide], tmp_path, replace(SETTINGS, suffix=".jpg"))
    assert outcome.error == "wide.png.jpg: 70000 x 8 pixels do not fit into .jpg; set extract.image_format: png"


def test_settings_and_outcomes_survive_json() -> None:
    settings = replace(SETTINGS, wanted=Wanted(2.5, every_n_frames=3, end_seconds=7.25))
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    picture = Picture("a/000000.jpg", 0.1, 64, 48, 12.5, 99.75, "0" * 16, "0" * 64, "small: 20 pixels < 32")
    for outcome in (
        Outcome("0a", (picture,), {"codec": "h264"}, "2 of 3 frames promised", "video named .jpg"),
        Outcome(error="clip.mp4: broken"),
        Outcome(damage="decoder crashed (signal 11)"),
    ):
        assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
