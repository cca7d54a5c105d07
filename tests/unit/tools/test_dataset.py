"""`pipe dataset`: what it counts, what it warns of, and what it draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.draw.sheets import Cell
from pipeline.tools import dataset as module
from pipeline.tools.dataset import dataset, dataset_statistics, statistics_as_text
from tests.support.command import run_pipe
from tests.support.media import write_photo

LABELS = ("砾石", "brick")


def frame(label: str, clip: int, number: int, **values: object) -> Row:
    row = Row(
        path=f"data/frames/{label}/{clip}.mp4/{number:06}.png",
        label=label,
        source=f"data/raw/{label}/{clip}.mp4",
        source_sha256=f"{clip:064}",
        group=f"{label}/{clip}",
        time_seconds=float(number),
        width=64,
        height=48,
        brightness=100.0,
    )
    return replace(row, **values)  # type: ignore[arg-type]


def frames_of(label: str, n_clips: int = 3, n_frames: int = 4) -> list[Row]:
    return [frame(label, clip, number) for clip in range(n_clips) for number in range(n_frames)]


@pytest.fixture
def filled(project: Project) -> Project:
    rows = [row for label in LABELS for row in frames_of(label)]
    for number, row in enumerate(rows):
        write_photo(project.root / row.path, number)
    manifest.write(rows, project.frames_csv)
    return project


def split_of(rows: Sequence[Row]) -> list[Row]:
    """Clip 0 is tested on; each frame of the others has a copy."""
    sides = [replace(row, split="test" if row.group.endswith("/0") else "train") for row in rows]
    unused = {"test": "unused", "train": "train"}
    copies = [
        replace(row, path=f"{row.path}.0.jpg", parent=row.path, transform="grey", split=unused[row.split])
        for row in sides
    ]
    return sides + copies


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_frames_are_counted_by_class_clip_and_side() -> None:
    rows = [*frames_of("砾石"), *frames_of("brick", n_clips=2)]
    rows[1] = replace(rows[1], kept=False, drop_reason="blurred")
    value = dataset_statistics(rows, split_of(rows))
    assert list(value["classes"]) == ["brick", "砾石"]
    assert value["classes"]["砾石"] == {
        "clips": 3, "groups": 3, "frames": 11, "dropped": 1, "sides": {"train": 8, "test": 3}, "copies": 8,
    }  # fmt: skip
    clip = {"source": "data/raw/砾石/0.mp4", "label": "砾石", "group": "砾石/0"}
    assert value["clips"][2] == clip | {"frames": 3, "dropped": 1, "sides": ["test"]}
    assert value["dropped"] == {"blurred": 1}
    assert value["warnings"] == []


def test_before_the_split_no_side_is_made_up() -> None:
    value = dataset_statistics(frames_of("brick"), [])
    assert value["classes"]["brick"]["sides"] == {}
    assert statistics_as_text(value)[0].split() == ["class", "clips", "frames", "dropped"]


def test_sizes_and_brightness_are_those_of_the_kept_frames() -> None:
    rows = [
        frame("brick", 0, 0, brightness=0.0),
        frame("brick", 0, 1, brightness=255.0, width=1920, height=1080),
        frame("brick", 0, 2, brightness=255.0, width=1920, height=1080),
        frame("brick", 0, 3, brightness=128.0, width=8, height=8, kept=False, drop_reason="dark"),
        frame("brick", 0, 4, brightness=None),
    ]
    value = dataset_statistics(rows, [])
    assert value["resolutions"] == {"1920 x 1080": 2, "64 x 48": 2}
    assert value["brightness"]["brick"] == [1, *[0] * 14, 2]


def test_the_text_lines_up_where_names_are_wide() -> None:
    rows = [*frames_of("砾石"), *frames_of("brick")]
    lines = statistics_as_text(dataset_statistics(rows, split_of(rows)))
    assert lines[:3] == [
        "class  clips  frames  dropped  train  test  copies",
        "brick      3      12        0      8     4       8",
        "砾石       3      12        0      8     4       8",
    ]
    assert "brick  |      █         |" in lines


def test_an_imbalance_is_a_warning_that_names_both_classes_and_a_balance_is_none() -> None:
    (warning,) = dataset_statistics([*frames_of("砾石", 4), *frames_of("brick", 2)], [])["warnings"]
    assert warning.startswith("砾石 has 16 frames, brick has 8: 2.0 times as many")
    assert dataset_statistics([*frames_of("砾石", 3), *frames_of("brick", 2)], [])["warnings"] == []


def test_dropped_frames_do_not_count_for_the_balance() -> None:
    rows = [*frames_of("砾石", 2), *(replace(row, kept=row.group == "brick/0") for row in frames_of("brick", 2))]
    assert len(dataset_statistics(rows, [])["warnings"]) == 1


def test_a_class_without_a_kept_frame_is_a_warning() -> None:
    rows = [*frames_of("砾石"), *(replace(row, kept=False, drop_reason="dark") for row in frames_of("brick"))]
    assert dataset_statistics(rows, [])["warnings"] == ["brick: screening kept no frame; film it again"]


def test_a_split_of_other_frames_is_a_warning() -> None:
    rows = frames_of("brick")
    assert dataset_statistics(rows, split_of(rows))["warnings"] == []
    (warning,) = dataset_statistics(rows, split_of(rows[1:]))["warnings"]
    assert "run `pipe split` again" in warning


def test_many_clips_are_shortened_in_the_text_only() -> None:
    value = dataset_statistics(frames_of("brick", n_clips=50, n_frames=1), [])
    assert len(value["clips"]) == 50
    assert "… and 10 more in dataset.json" in statistics_as_text(value)


def test_many_sizes_are_shortened_in_the_text_only() -> None:
    value = dataset_statistics([frame("brick", 0, number, width=number + 1) for number in range(13)], [])
    assert len(value["resolutions"]) == 13
    assert "… and 3 more in dataset.json" in statistics_as_text(value)


def test_the_command_prints_the_counts_and_says_where_the_sheets_are(filled: Project) -> None:
    finished = run_pipe(filled.root, "dataset")
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[-1].startswith("24 frames of 2 classes, 0 warnings; contact sheets in reports/dataset; next: ")
    written = everything_in(filled.dataset_reports)
    assert set(written) == {"dataset.json", "dataset.txt", "classes/brick.png", "classes/砾石.png"}
    assert written["dataset.txt"].decode() == "\n".join(lines[:-1]) + "\n"
    assert json.loads(written["dataset.json"])["classes"]["砾石"]["frames"] == 12


def test_the_sides_come_from_the_split_where_there_is_one(filled: Project) -> None:
    manifest.write_split(split_of(manifest.read(filled.frames_csv)), filled.split_csv)
    dataset(filled)
    value = json.loads((filled.dataset_reports / "dataset.json").read_text(encoding="utf-8"))
    assert value["classes"]["brick"]["sides"] == {"train": 8, "test": 4}


def test_the_same_data_gives_the_same_bytes(filled: Project) -> None:
    dataset(filled)
    first = everything_in(filled.dataset_reports)
    dataset(filled)
    assert everything_in(filled.dataset_reports) == first


def test_a_sheet_shows_frames_from_the_first_to_the_last_of_its_class_alone(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[str]] = {}

    def sheet(cells: Sequence[Cell], heading: str, **_: object) -> NDArray[np.uint8]:
        drawn[heading] = [cell.title for cell in cells]
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(module, "sheet", sheet)
    monkeypatch.setattr(module, "FRAMES_ON_A_SHEET", 3)
    rows = manifest.read(filled.frames_csv)
    first = min(row.path for row in rows if row.label == "brick")
    manifest.write([replace(row, kept=row.path != first) for row in rows], filled.frames_csv)
    dataset(filled)
    assert drawn == {
        "brick: 3 of 11 frames": ["1.0 s 0.mp4", "2.0 s 1.mp4", "3.0 s 2.mp4"],
        "砾石: 3 of 12 frames": ["0.0 s 0.mp4", "2.0 s 1.mp4", "3.0 s 2.mp4"],
    }


def test_sheets_go_where_they_are_asked_for_and_replace_only_their_like(filled: Project, tmp_path: Path) -> None:
    folder = tmp_path / "鳞 片"
    for _ in range(2):
        assert dataset(filled, folder).folder == str(folder)
    assert (folder / "classes" / "砾石.png").is_file()
    assert not filled.dataset_reports.exists()
    holiday = tmp_path / "holiday"
    write_photo(holiday / "photo.jpg")
    with pytest.raises(DataError, match=r"holds photo\.jpg"):
        dataset(filled, holiday)
    assert (holiday / "photo.jpg").is_file()
    sheets = tmp_path / "sheets"  # names like ours, in a folder that the command never made
    write_photo(sheets / "classes" / "mine.png")
    with pytest.raises(DataError, match=r"holds classes/mine\.png"):
        dataset(filled, sheets)
    assert (sheets / "classes" / "mine.png").is_file()


@pytest.mark.parametrize("name", ["photo.jpg", "classes/notes.txt", "classes/more/photo.png", ".hidden"])
def test_a_folder_that_holds_more_than_sheets_is_left_alone(filled: Project, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "annotated"
    dataset(filled, folder)  # so it has a dataset.json, as other people's data sets have too
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"precious")
    with pytest.raises(DataError, match=f"holds {name}; expected a new folder"):
        dataset(filled, folder)
    assert (folder / name).read_bytes() == b"precious"


def test_a_frame_that_cannot_be_read_leaves_the_earlier_sheets(filled: Project) -> None:
    dataset(filled)
    before = everything_in(filled.dataset_reports)
    (filled.root / manifest.read(filled.frames_csv)[0].path).write_bytes(b"torn")
    with pytest.raises(DataError, match="run `pipe extract` again"):
        dataset(filled)
    assert everything_in(filled.dataset_reports) == before


def test_no_frames_are_an_error(project: Project) -> None:
    finished = run_pipe(project.root, "dataset")
    assert finished.returncode == 1
    assert "frames.csv: missing" in finished.stderr
    assert not project.dataset_reports.exists()


def test_what_the_split_joined_is_listed_with_the_reason_and_the_way_to_say_no() -> None:
    rows = [*frames_of("brick", 3), *frames_of("砾石", 2)]
    because = "chapters of one recording by their names"
    joined = [
        replace(row, group="brick/0", group_reason=because)
        if row.source.endswith(("brick/0.mp4", "brick/1.mp4"))
        else row
        for row in split_of(rows)
    ]
    value = dataset_statistics(rows, joined)
    assert value["joined"] == [
        {
            "group": "brick/0", "label": "brick", "reason": because,
            "sources": ["data/raw/brick/0.mp4", "data/raw/brick/1.mp4"],
        }
    ]  # fmt: skip
    lines = statistics_as_text(value)
    assert [line.split() for line in lines if because in line] == [["2", "brick/0", *because.split()]]
    assert any("data/groups.csv" in line for line in lines)
    apart = dataset_statistics(rows, split_of(rows))
    assert apart["joined"] == []
    assert not any("data/groups.csv" in line for line in statistics_as_text(apart))


def test_of_many_joined_groups_the_text_shows_the_first() -> None:
    rows = frames_of("brick", 2 * module.JOINED_SHOWN + 4)
    joined = [
        replace(row, group=str(int(row.group.split("/")[1]) // 2), group_reason="one burst") for row in split_of(rows)
    ]
    lines = statistics_as_text(dataset_statistics(rows, joined))
    assert "… and 2 more in dataset.json" in lines
    assert sum("one burst" in line for line in lines) == module.JOINED_SHOWN
