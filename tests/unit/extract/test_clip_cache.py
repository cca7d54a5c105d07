from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import PipeError
from pipeline.extract.child import Outcome, Picture, Settings
from pipeline.extract.clip_cache import ClipCache, clip_key
from runtime.clips.decode_plan import Wanted

SETTINGS = Settings(Wanted(1), ".jpg", 95, 10**6, 60, 2)
BYTES = b"a picture"
PICTURE = Picture(
    "a clip/000000.jpg",
    0.0,
    width=1,
    height=1,
    sharpness=0.0,
    brightness=0.0,
    phash="0" * 16,
    sha256=hashlib.sha256(BYTES).hexdigest(),
)


def decode(entry: Path) -> Outcome:
    (entry / "a clip").mkdir()
    (entry / "a clip" / "000000.jpg").write_bytes(BYTES)
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


def paint_over(entry: Path) -> None:
    (entry / "a clip" / "000000.jpg").write_bytes(b"another")


def rot(entry: Path) -> None:
    """Change a byte of the picture; size and time stay."""
    picture = entry / "a clip" / "000000.jpg"
    status = picture.stat()
    picture.write_bytes(b"a pictUre")
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove_picture(entry: Path) -> None:
    (entry / "a clip" / "000000.jpg").unlink()


def link_picture(entry: Path) -> None:
    """Replace the picture by a link to a file outside the cache that has its size and time."""
    picture, outside = entry / "a clip" / "000000.jpg", entry.parents[1] / "outside.jpg"
    picture.rename(outside)
    picture.symlink_to(outside)


def link_folder(entry: Path) -> None:
    (entry / "a clip").rename(entry.parents[1] / "outside")
    (entry / "a clip").symlink_to(entry.parents[1] / "outside")


def link_entry(entry: Path) -> None:
    entry.rename(entry.parents[1] / "outside")
    entry.symlink_to(entry.parents[1] / "outside")


def cut_short(entry: Path) -> None:
    stored = entry / "recorded.json"
    stored.write_bytes(stored.read_bytes()[:-20])


def replace_by_pipe(entry: Path) -> None:
    (entry / "recorded.json").unlink()
    os.mkfifo(entry / "recorded.json")


def replace_by_folder(entry: Path) -> None:
    (entry / "recorded.json").unlink()
    (entry / "recorded.json").mkdir()


def replace_by_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("no entry", encoding="utf-8")


@pytest.mark.parametrize(
    "harm",
    [
        paint_over, rot, remove_picture, link_picture, link_folder, link_entry, cut_short, replace_by_pipe,
        replace_by_folder, replace_by_file,
    ],
)  # fmt: skip
def test_a_changed_entry_is_a_miss_and_is_replaced(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    cache = ClipCache(tmp_path / "clips")
    cache.store("key", decode)
    harm(tmp_path / "clips" / "key")
    outside = {path: path.read_bytes() for path in tmp_path.glob("outside*") if path.is_file()}
    assert cache.find("key") is None
    assert cache.store("key", decode) == cache.find("key")
    assert {path: path.read_bytes() for path in outside} == outside


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "[" * 100_000, "\xff", '{"recorded": NaN}',
        '{"recorded": {}, "marks": {}, "digest": ""}', '{"recorded": null, "marks": null, "digest": null}',
    ],
)  # fmt: skip
def test_an_outcome_that_is_broken_in_any_way_is_a_miss(tmp_path: Path, text: str) -> None:
    cache = ClipCache(tmp_path / "clips")
    cache.store("key", decode)
    (tmp_path / "clips" / "key" / "recorded.json").write_text(text, encoding="latin-1")
    assert cache.find("key") is None


def forge(entry: Path, change: Callable[[dict[str, Any]], object], *, signed: bool = True) -> None:
    """Change what an entry's JSON holds, and let its digest fit."""
    stored = json.loads((entry / "recorded.json").read_text(encoding="utf-8"))
    change(stored)
    if signed:
        values = [entry.name, stored["recorded"], stored["marks"]]
        stored["digest"] = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    (entry / "recorded.json").write_text(json.dumps(stored), encoding="utf-8")


def test_a_value_that_was_changed_is_a_miss(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    outcome = cache.store("key", decode)
    entry = tmp_path / "clips" / "key"
    forge(entry, lambda stored: stored["recorded"]["pictures"][0].update(brightness=99.0), signed=False)
    assert cache.find("key") is None
    forge(entry, lambda stored: stored["recorded"]["pictures"][0].update(brightness=0.0))
    assert cache.find("key") == outcome  # the negative control: the digest fits again


def test_an_entry_under_the_key_of_another_clip_is_a_miss(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    cache.store("key", decode)
    shutil.copytree(tmp_path / "clips" / "key", tmp_path / "clips" / "other", copy_function=shutil.copy2)
    assert cache.find("other") is None


@pytest.mark.parametrize("name", ["{outside}", "../../outside.jpg", "a clip/../../../outside.jpg", "..", ".", "", "\0"])
def test_a_path_that_leaves_the_entry_is_a_miss(tmp_path: Path, name: str) -> None:
    cache = ClipCache(tmp_path / "clips")
    cache.store("key", decode)
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"nobody's frame")
    path = name.format(outside=outside)

    def point_outside(stored: dict[str, Any]) -> None:
        sha256 = hashlib.sha256(outside.read_bytes()).hexdigest()
        stored["recorded"]["pictures"][0] |= {"path": path, "sha256": sha256}
        stored["marks"] = {path: [outside.stat().st_size, outside.stat().st_mtime_ns]}

    forge(tmp_path / "clips" / "key", point_outside)
    assert cache.find("key") is None


def test_two_pictures_of_one_name_are_a_miss(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    cache.store("key", decode)
    forge(tmp_path / "clips" / "key", lambda stored: stored["recorded"]["pictures"].append(asdict(PICTURE)))
    assert cache.find("key") is None


def test_a_clip_without_pictures_leaves_no_entry(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "clips")
    for outcome in (Outcome(error="clip.mp4: broken"), Outcome(damage="nothing decodes")):
        assert cache.store("key", lambda entry, outcome=outcome: outcome) == outcome
    assert not list((tmp_path / "clips").iterdir())


def test_of_two_runs_that_decode_a_clip_at_once_the_first_ones_entry_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, inodes = ClipCache(tmp_path / "clips"), list[int]()

    def decode_while_another_run_stores_it(entry: Path) -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            ClipCache(cache.folder).store("key", decode)
        inodes.append((cache.folder / "key" / PICTURE.path).stat().st_ino)
        return decode(entry)

    assert cache.store("key", decode_while_another_run_stores_it).pictures == (PICTURE,)
    assert [(cache.folder / "key" / PICTURE.path).stat().st_ino] == inodes
    assert [path.name for path in cache.folder.iterdir() if path.name != ".lock"] == ["key"]


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
