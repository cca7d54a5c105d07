from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.base.errors import PipeError
from pipeline.extract.child import Recorded, Settings
from pipeline.extract.clip_cache import ClipCache, key_of
from pipeline.media.decode_plan import Wanted

SETTINGS = Settings(Wanted(1), ".jpg", 95, 10**6, 60, 2)
PICTURE = {"time_seconds": 0.0, "width": 1, "height": 1, "sharpness": 0.0, "brightness": 0.0, "phash": "0" * 16}


def made(entry: Path) -> Recorded:
    (entry / "a clip").mkdir()
    (entry / "a clip" / "000000.jpg").write_bytes(b"a picture")
    return {"sha256": "0", "clip": {"codec": "h264"}, "pictures": [{"path": "a clip/000000.jpg", **PICTURE}]}  # type: ignore[typeddict-item]


def test_the_key_is_that_of_all_that_decides_on_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_of("0", SETTINGS)
    assert key == key_of("0", replace(SETTINGS, threads=7))
    others = [
        key_of("1", SETTINGS),
        key_of("0", replace(SETTINGS, jpeg_quality=90)),
        key_of("0", replace(SETTINGS, wanted=Wanted(1, max_frames=3))),
    ]
    monkeypatch.setattr("av.__version__", "0.0")
    others.append(key_of("0", SETTINGS))
    assert len({key, *others}) == 5


def test_what_is_kept_is_found_and_linked_under_another_name(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    assert cache.find("key") is None
    recorded = cache.keep("key", made)
    assert cache.find("key") == recorded
    assert not isinstance(recorded, str)
    linked = cache.link("key", recorded, tmp_path / "frames", "class/other")
    assert [picture["path"] for picture in linked["pictures"]] == ["class/other/000000.jpg"]
    assert (tmp_path / "frames" / "class" / "other" / "000000.jpg").read_bytes() == b"a picture"


@pytest.mark.parametrize("harm", ["painted over", "removed", "record cut short"])
def test_what_was_harmed_is_not_found(tmp_path: Path, harm: str) -> None:
    cache = ClipCache(tmp_path / "clips")
    cache.keep("key", made)
    picture = tmp_path / "clips" / "key" / "a clip" / "000000.jpg"
    record = tmp_path / "clips" / "key" / "recorded.json"
    if harm == "painted over":
        picture.write_bytes(b"another")
    elif harm == "removed":
        picture.unlink()
    else:
        record.write_bytes(record.read_bytes()[:-20])
    assert cache.find("key") is None
    assert cache.keep("key", made) == cache.find("key")


def test_a_clip_that_cannot_be_used_leaves_nothing(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    assert cache.keep("key", lambda entry: "clip.mp4: broken") == "clip.mp4: broken"
    assert not list((tmp_path / "clips").iterdir())


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(entry: Path) -> Recorded:
        raise OSError(28, "No space left on device")

    with pytest.raises(PipeError, match=r"cannot be written \(No space left on device\)"):
        ClipCache(tmp_path / "clips").keep("key", full)


def test_what_dead_processes_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    dead, living = (cache.folder / f".key.{owner}.tmp" for owner in (2**22 + 1, 1))
    for folder in (dead, living):
        folder.mkdir(parents=True)
    cache.sweep()
    assert (dead.exists(), living.exists()) == (False, True)
