"""Groups: those that the person names, those that the files show, and those that are pinned."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.split.grouping import merge_groups, regroup
from pipeline.split.sessions import read_sessions


def frame(name: str, number: int = 0, *, label: str = "brick", sha256: str | None = None) -> Row:
    source = f"data/raw/{label}/{name}.mp4"
    return Row(
        path=f"data/frames/{label}/{name}.mp4/{number:06}.jpg",
        label=label,
        source=source,
        source_sha256=f"sha of {name}" if sha256 is None else sha256,
        group=source,
    )


def table(folder: Path, *lines: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refusal(path: Path, frames: list[Row], pattern: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        regroup(frames, path, pattern)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_where_the_person_names_no_groups_a_clip_is_its_own_group(tmp_path: Path) -> None:
    frames = [frame("a"), frame("b")]
    assert regroup(frames, tmp_path / "groups.csv", None) == frames
    assert regroup(frames, table(tmp_path, "source,group"), None) == frames


def test_a_file_says_which_clips_show_the_same_sample(tmp_path: Path) -> None:
    path = table(tmp_path, "source,group", "data/raw/brick/a.mp4,样品 1", "", "data/raw/brick/b.mp4,样品 1")
    rows = regroup([frame("a"), frame("b"), frame("c")], path, None)
    assert [row.group for row in rows] == ["样品 1", "样品 1", "data/raw/brick/c.mp4"]


def test_a_file_saved_by_a_spreadsheet_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffsource,group", "data/raw/brick/a.mp4,one")
    assert regroup([frame("a")], path, None)[0].group == "one"


def test_a_pattern_takes_the_group_from_the_name_of_the_file(tmp_path: Path) -> None:
    frames = [frame("fish7_frame1"), frame("fish7_frame2"), frame("fish8_frame1")]
    rows = regroup(frames, tmp_path / "none.csv", "^(.*)_frame")
    assert [row.group for row in rows] == ["fish7", "fish7", "fish8"]
    assert regroup(frames, tmp_path / "none.csv", r"fish\d")[2].group == "fish8"


def test_the_file_goes_before_the_pattern(tmp_path: Path) -> None:
    path = table(tmp_path, "source,group", "data/raw/brick/odd.mp4,fish7")
    rows = regroup([frame("fish7_frame1"), frame("odd")], path, "^(.*)_frame")
    assert [row.group for row in rows] == ["fish7", "fish7"]


def test_a_source_with_a_session_and_without_a_group_keeps_its_own(tmp_path: Path) -> None:
    path = table(tmp_path, "source,group,session", "data/raw/brick/a.mp4,,day 1", "data/raw/brick/b.mp4,one,")
    assert [row.group for row in regroup([frame("a"), frame("b")], path, None)] == ["data/raw/brick/a.mp4", "one"]
    assert read_sessions(path) == {"data/raw/brick/a.mp4": "day 1"}


@pytest.mark.parametrize("pattern", ["^(.*)_frame", "^(x?)"])
def test_a_file_that_the_pattern_does_not_fit_is_named(tmp_path: Path, pattern: str) -> None:
    message = refusal(tmp_path / "none.csv", [frame("fish"), frame("x")], pattern)
    assert message.startswith("data/raw/brick/fish.mp4: split.group_pattern")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["source,group", "data/raw/brick/z.mp4,one"], "table.csv:2: no frame comes from 'data/raw/brick/z.mp4'"),
        (["source,group", "data/raw/brick/a.mp4,one", "data/raw/brick/a.mp4,two"], "in 'one' and in 'two'"),
        (["source,group", "data/raw/brick/a.mp4,"], "expected a value for each of source,group"),
        (["source,group", "data/raw/brick/a.mp4"], "expected a value for each of source,group"),
        (["group,source"], "found the columns group,source; expected source,group, and perhaps session"),
        (["source,group,session", "data/raw/brick/a.mp4,,"], "expected a value for source, and one of group,session"),
        (["source,group,session", ",one,day 1"], "expected a value for source, and one of group,session"),
        (["source,group,session", "data/raw/brick/a.mp4,one"], "expected a value for source, and one of group,session"),
        (["source,group,session", "data/raw/brick/z.mp4,,day 1"], "table.csv:2: no frame comes from"),
        (["source,group", '"data/raw'], "not a UTF-8 CSV file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, lines: list[str], expected: str) -> None:
    assert expected in refusal(table(tmp_path, *lines), [frame("a")])


def test_a_source_in_two_sessions_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "source,group,session", "data/raw/brick/a.mp4,,day 1", "data/raw/brick/a.mp4,,day 2")
    with pytest.raises(DataError, match=r"table\.csv:3: .* is in 'day 1' and in 'day 2'; expected one session"):
        read_sessions(path)


def test_groups_with_the_same_recording_become_one() -> None:
    frames = [frame("c"), frame("b", sha256="sha of c"), frame("b", 1, sha256="sha of a"), frame("a"), frame("d")]
    rows, merged = merge_groups(frames)
    a, b, c, d = (f"data/raw/brick/{name}.mp4" for name in "abcd")
    assert [row.group for row in rows] == [a, a, a, a, d]
    assert merged == [[a, b, c]]


def test_groups_of_unknown_recordings_stay_apart() -> None:
    frames = [frame(name, sha256="") for name in "ab"]
    assert merge_groups(frames) == (frames, [])


def test_frames_that_are_alike_merge_their_groups() -> None:
    frames = [frame(name, number) for name in "abc" for number in range(2)]
    rows, merged = merge_groups(frames, [(frames[1].path, frames[4].path)])
    assert merged == [[frames[0].group, frames[4].group]]
    assert [row.group for row in rows] == [frames[0].group] * 2 + [frames[2].group] * 2 + [frames[0].group] * 2


def test_frames_that_are_alike_under_two_labels_are_not_merged_in_silence() -> None:
    frames = [frame("a"), frame("b", label="grass")]
    with pytest.raises(DataError, match=r"label 'brick'.*label 'grass'.*show the same"):
        merge_groups(frames, [(frames[0].path, frames[1].path)])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20), st.randoms(use_true_random=False))
def test_merging_gives_the_connected_parts_whatever_the_order(pairs: list[tuple[int, int]], random: object) -> None:
    frames = [frame(f"clip{number:02}") for number in range(13)]
    rows, merged = merge_groups(frames, [(frames[a].path, frames[b].path) for a, b in pairs])
    part = {number: {number} for number in range(13)}
    for a, b in pairs:
        joined = part[a] | part[b]
        part |= dict.fromkeys(joined, joined)
    assert [row.group for row in rows] == [frames[min(part[number])].group for number in range(13)]
    assert sorted(name for names in merged for name in names) == sorted(
        frames[n].group for n in range(13) if len(part[n]) > 1
    )
    assert merge_groups(frames, [(frames[b].path, frames[a].path) for a, b in reversed(pairs)]) == (rows, merged)
