"""Damage costs no more than it must, and is always reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.extract.params import ExtractParams
from pipeline.extract.stage import ExtractReport, extract
from tests.support.crashing_decoder import CRASHING_CHILD
from tests.support.extraction import extract_params
from tests.support.media import RATE, damage, spoil, write_intra, write_raw


def params(**changes: Any) -> ExtractParams:
    """The defaults, but every frame is wanted, so that damage in any of them is met."""
    return extract_params(frames_per_second=RATE, **changes)


@pytest.fixture
def mixed(project: Project) -> Project:
    """A class of two whole clips, and one of a whole clip and a damaged one."""
    write_raw(project.raw, ("brick",), clips=2)
    write_intra(project.raw / "sand" / "whole.mp4")
    spoil(write_intra(project.raw / "sand" / "hurt.mp4"), 7)
    return project


def sources_with_frames(project: Project) -> list[str]:
    return sorted({path.parent.name for path in project.frames.rglob("*.jpg")})


def test_keep_keeps_what_decodes_and_says_when_damage_begins(mixed: Project) -> None:
    report = extract(params(on_damage="keep"), mixed)
    assert sources_with_frames(mixed) == ["clip_1.mp4", "clip_2.mp4", "hurt.mp4", "whole.mp4"]
    hurt = {Path(clip["source"]).name: clip["first_damage_seconds"] for clip in report.clips}
    assert hurt == {"clip_1.mp4": None, "clip_2.mp4": None, "hurt.mp4": pytest.approx(0.7), "whole.mp4": None}
    assert report.left_out == {}
    assert report.headline.endswith("; 1 clip with warnings")


def test_drop_leaves_damaged_clips_out_and_no_other(mixed: Project) -> None:
    report = extract(params(on_damage="drop"), mixed)
    assert sources_with_frames(mixed) == ["clip_1.mp4", "clip_2.mp4", "whole.mp4"]
    assert [path.name for path in (mixed.frames / "sand").iterdir()] == ["whole.mp4"]
    ((source, line),) = report.left_out.items()
    assert source == "data/raw/sand/hurt.mp4"
    assert "damage begins at 0.70 s" in line
    assert report.headline.endswith("; 1 left out as damaged")
    again = extract(params(on_damage="keep"), mixed)  # the clip cache does not depend on the policy
    assert len(again.clips) == 4


def test_fail_names_the_damaged_clip_and_leaves_nothing(mixed: Project) -> None:
    with pytest.raises(DataError, match=r"^data/raw/sand/hurt\.mp4: .*damage begins at 0\.70 s$"):
        extract(params(on_damage="fail"), mixed)
    assert not mixed.frames.exists()
    (mixed.raw / "sand" / "hurt.mp4").unlink()
    assert extract(params(on_damage="fail"), mixed).left_out == {}  # the negative control


def test_dropping_empties_no_class(mixed: Project) -> None:
    (mixed.raw / "sand" / "whole.mp4").unlink()
    with pytest.raises(DataError, match=r"^data/raw/sand/hurt\.mp4: .*damage begins at 0\.70 s$"):
        extract(params(on_damage="drop"), mixed)
    assert len(extract(params(on_damage="keep"), mixed).clips) == 3


def test_a_clip_of_which_nothing_decodes_is_left_out_with_its_line(mixed: Project) -> None:
    damage(write_intra(mixed.raw / "sand" / "stump.mp4"), share_kept=0.01)
    report = extract(params(), mixed)
    assert list(report.left_out) == ["data/raw/sand/stump.mp4"]
    assert report.left_out["data/raw/sand/stump.mp4"].startswith("cannot be opened as a video (Invalid data")


# Decoders that crash.


def crashed(project: Project, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> ExtractReport:
    monkeypatch.setattr("pipeline.extract.decode_all.CHILD", CRASHING_CHILD)
    return extract(params(**changes), project)


def test_a_decoder_that_crashes_costs_one_clip_and_one_line(mixed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    report = crashed(mixed, monkeypatch)
    assert report.left_out == {
        "data/raw/sand/whole.mp4": "decoder crashed (signal 11); delete or re-copy the file",
    }
    assert sources_with_frames(mixed) == ["clip_1.mp4", "clip_2.mp4", "hurt.mp4"]


def test_a_decoder_that_crashes_fails_the_run_where_damage_does(
    mixed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mixed.raw / "sand" / "hurt.mp4").unlink()
    with pytest.raises(DataError, match=r"whole\.mp4: decoder crashed \(signal 11\); delete or re-copy the file$"):
        crashed(mixed, monkeypatch, on_damage="fail")
