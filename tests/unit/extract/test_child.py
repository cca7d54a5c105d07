from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.extract.child import Settings, record
from pipeline.media.clip import open_clip
from pipeline.media.decode_plan import Wanted
from pipeline.media.demuxer import Bounds
from runtime.images import read_image
from tests.support.media import damage, write_clip, write_photo

SETTINGS: dict[str, Any] = asdict(Settings(Wanted(10), ".png", 95, 10_000_000, 60, 2))


def test_a_bad_recording_gives_its_line_and_the_others_their_pictures(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video", encoding="utf-8")
    sources = [write_photo(tmp_path / "a.png"), tmp_path / "bad.mp4", write_clip(tmp_path / "c.mp4", n_frames=3)]
    photo, bad, clip = record([(str(path), path.name) for path in sources], str(tmp_path / "out"), SETTINGS)
    assert isinstance(bad, str)
    assert bad.startswith(f"{tmp_path}/bad.mp4: its content is not MP4")
    assert not isinstance(photo, str)
    assert not isinstance(clip, str)
    assert (photo["clip"], [made["path"] for made in photo["pictures"]]) == (None, ["a.png.png"])
    assert [made["path"] for made in clip["pictures"]] == [f"c.mp4/{index:06d}.png" for index in range(3)]
    assert clip["clip"] is not None
    assert clip["clip"]["frames_decoded"] == 3


def test_of_a_damaged_clip_only_the_second_decode_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = damage(write_clip(tmp_path / "clip.mkv", n_frames=40, sides=(320, 240), noise=20), flipped=30)
    out = tmp_path / "out"
    with open_clip(clip, Bounds(10**6, 60), strict=False) as opened:
        expected = {frame.index: frame.pixels_hwc for frame in opened.frames(Wanted(10))}
    (made,) = record([(str(clip), "clip.mkv")], str(out), SETTINGS)
    assert not isinstance(made, str)
    assert {path.name for path in (out / "clip.mkv").iterdir()} == {f"{index:06d}.png" for index in expected}
    for index, pixels_hwc in expected.items():
        written = read_image(out / "clip.mkv" / f"{index:06d}.png", max_pixels=10**6)
        assert np.array_equal(written, pixels_hwc)


def test_a_picture_too_wide_for_jpeg_is_refused(tmp_path: Path) -> None:
    wide = write_photo(tmp_path / "wide.png", sides=(70_000, 8))
    (said,) = record([(str(wide), "wide.png")], str(tmp_path), SETTINGS | {"suffix": ".jpg"})
    assert said == "wide.png.jpg: 70000 x 8 pixels do not fit into .jpg; set extract.image_format: png"
