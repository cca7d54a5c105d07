from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.base.errors import PipeError
from pipeline.extract.child import Outcome, Picture, Settings
from pipeline.extract.clip_cache import ClipCache, clip_key
from runtime.clips.decode_plan import Wanted

SETTINGS = Settings(Wanted(1), ".jpg", 95, 10**6, 60, 2)
PICTURE = Picture("a clip/000000.jpg", 0.0, width=1, height=1, sharpness=0.0, brightness=0.0, phash="0" * 16)


def decode(entry: Path) -> Outcome:
    (entry / "a clip").mkdir()
    (entry / "a clip" / "000000.jpg").write_bytes(b"a picture")
    return Outcome("0", (PICTURE,), {"codec": "h264"})


def test_everything_that_decides_on_the_bytes_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = clip_key("0", SETTINGS)
    assert key == clip_key("0", replace(SETTINGS, threads=7))
    others = [
        clip_key("1", SETTINGS),
        clip_key("0", replace(SETTINGS, jpeg_quality=90)),
        clip_key("0", replace(SETTINGS, wanted=Wanted(1, max_frames=3))),
    ]
    monkeypatch.setattr("av.__version__", "0.0")
    others.append(clip_key("0", SETTINGS))
    assert len({key, *others}) == 5


def test_a_stored_clip_is_found_and_linked_under_another_name(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    assert cache.find("key") is None
    outcome = cache.store("key", decode)
    assert cache.find("key") == outcome
    linked = cache.link("key", outcome, tmp_path / "frames", "class/other")
    assert [picture.path for picture in linked.pictures] == ["class/other/000000.jpg"]
    assert (tmp_path / "frames" / "class" / "other" / "000000.jpg").read_bytes() == b"a picture"


@pytest.mark.parametrize("harm", ["painted over", "removed", "outcome cut short"])
def test_a_changed_entry_is_not_found(tmp_path: Path, harm: str) -> None:
    cache = ClipCache(tmp_path / "clips")
    cache.store("key", decode)
    picture = tmp_path / "clips" / "key" / "a clip" / "000000.jpg"
    stored = tmp_path / "clips" / "key" / "recorded.json"
    if harm == "painted over":
        picture.write_bytes(b"another")
    elif harm == "removed":
        picture.unlink()
    else:
        stored.write_bytes(stored.read_bytes()[:-20])
    assert cache.find("key") is None
    assert cache.store("key", decode) == cache.find("key")


def test_a_clip_without_pictures_leaves_no_entry(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    for outcome in (Outcome(error="clip.mp4: broken"), Outcome(damage="nothing decodes")):
        assert cache.store("key", lambda entry, outcome=outcome: outcome) == outcome
    assert not list((tmp_path / "clips").iterdir())


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(entry: Path) -> Outcome:
        raise OSError(28, "No space left on device")

    with pytest.raises(PipeError, match=r"cannot be written \(No space left on device\)"):
        ClipCache(tmp_path / "clips").store("key", full)


def test_entries_of_dead_processes_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    dead, living = (cache.folder / f".key.{owner}.tmp" for owner in (2**22 + 1, 1))
    for folder in (dead, living):
        folder.mkdir(parents=True)
    cache.sweep()
    assert (dead.exists(), living.exists()) == (False, True)
