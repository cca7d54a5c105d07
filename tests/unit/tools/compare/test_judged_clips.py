"""The page counts the runs that the same clips have judged: whoever picks the best of many picks luck too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.base.project import Project
from pipeline.tools.compare.compare import compare_all
from pipeline.tools.compare.judged_clips import count_judged_runs, digest_of_clips
from tests.support.compared_runs import reports
from tests.support.experiment_project import commit, plant_experiment, run


def table_of(clips: Sequence[str], frames: int = 1) -> str:
    lines = [f"{clip}/{frame}.jpg,{clip},a,a,0.9,true" for clip in clips for frame in range(frames)]
    return "\n".join(["path,group,label,predicted,confidence,kept", *lines]) + "\n"


def files(clips: Sequence[str], top1: float, frames: int = 1) -> dict[str, str]:
    evaluation = {"top1": top1, "group_top1": top1, "n_groups": len(clips)}
    return reports({}, **evaluation) | {"reports/predictions.csv": table_of(clips, frames)}


def page(project: Project) -> str:
    compare_all(project)
    return (project.compare_reports / "experiments" / "table.md").read_text(encoding="utf-8")


def test_clips_and_classes_make_the_digest_and_neither_frames_nor_their_order() -> None:
    digest = digest_of_clips(table_of(["x", "y"]))
    assert digest == digest_of_clips(table_of(["y", "x"], frames=3)) is not None
    assert digest != digest_of_clips(table_of(["x", "z"]))
    assert digest != digest_of_clips(table_of(["x", "y"]).replace(",a,a,", ",b,a,"))
    assert digest_of_clips(None) is None
    assert digest_of_clips("path,label\nx,a\n") is None


BROKEN = ['path,group,label\nx,"a\n', "path,group,label\nx,y,a\n<<<<<<< HEAD\n"]


@pytest.mark.parametrize("table", BROKEN)
def test_a_broken_table_in_a_commit_is_no_run_and_stops_no_comparison(project: Project, table: str) -> None:
    plant_experiment(project, "first", files(["x", "y"], 0.5))
    plant_experiment(project, "broken", files(["x"], 0.75) | {"reports/predictions.csv": table}, lr=0.2)
    assert digest_of_clips(table) is None
    assert count_judged_runs(project) == {digest_of_clips(table_of(["x", "y"])): 1}
    text = page(project)
    assert "- broken is in no pair: broken has no reports/predictions.csv of this version." in text.replace("\\", "")


def test_the_first_commit_counts_where_git_is_told_to_hide_it(project: Project) -> None:
    for path, text in files(["x", "y"], 0.5).items():
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        (project.root / path).write_text(text, encoding="utf-8")
    run(project.root, "git", "checkout", "--quiet", "--orphan", "first")
    commit(project.root)
    run(project.root, "git", "config", "log.showRoot", "false")
    assert count_judged_runs(project).total() == 1


def test_commits_and_experiments_are_counted_and_a_report_that_did_not_change_is_no_run(project: Project) -> None:
    plant_experiment(project, "first", files(["x", "y"], 0.5))
    plant_experiment(project, "second", files(["x", "y"], 0.75), lr=0.2)
    plant_experiment(project, "elsewhere", files(["x", "z"], 0.25), lr=0.3)
    same, other = (digest_of_clips(table_of(clips)) for clips in (["x", "y"], ["x", "z"]))
    assert same is not None
    assert other is not None
    assert count_judged_runs(project) == {same: 2, other: 1}
    for path, text in files(["x", "y"], 1.0, frames=2).items():
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        (project.root / path).write_text(text, encoding="utf-8")
    commit(project.root)
    (project.root / "notes.txt").write_text("another commit with the same report", encoding="utf-8")
    commit(project.root)
    assert count_judged_runs(project) == {same: 3, other: 1}
    run(project.root, "git", "rm", "--quiet", "reports/evaluate.json")
    run(project.root, "git", "commit", "--quiet", "-m", "without its report")
    assert count_judged_runs(project) == {same: 3, other: 1}


def test_the_page_says_how_many_runs_there_were_and_what_the_best_of_them_shows_by_chance(project: Project) -> None:
    clips = [f"clip{number}" for number in range(50)]
    plant_experiment(project, "first", files(clips, 0.88))
    plant_experiment(project, "second", files(clips, 0.92), lr=0.2)
    text = page(project)
    assert "- These test clips have judged at least 2 runs, 2 of them in this table" in text
    assert "- If all 2 rows were equally good, with 90.0 % of 50 clips right, the best of them would show 92." in text
    assert "The best of all" not in text
    for number in range(3):  # runs that were committed and are no experiments
        for path, report in files(clips, 0.5 + number / 10).items():
            (project.root / path).parent.mkdir(parents=True, exist_ok=True)
            (project.root / path).write_text(report, encoding="utf-8")
        commit(project.root)
    text = page(project)
    assert "- These test clips have judged at least 5 runs, 2 of them in this table" in text
    assert "The best of all 5 runs would show 9" in text


def test_rows_that_other_clips_judged_are_named(project: Project) -> None:
    plant_experiment(project, "first", files(["x", "y"], 0.5))
    plant_experiment(project, "second", files(["x", "z"], 0.75), lr=0.2)
    text = page(project)
    assert "- first: These test clips have judged at least 1 run," in text
    assert "- second: These test clips have judged at least 1 run," in text
    assert "equally good" not in text


def test_without_predictions_the_page_says_that_nobody_can_tell(project: Project) -> None:
    plant_experiment(project, "first", reports({}))
    text = page(project)
    assert "Without reports/predictions.csv nobody can tell how many runs" in text
    assert "at least" not in text
