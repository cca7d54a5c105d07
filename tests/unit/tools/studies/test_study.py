"""A study runs every row as an experiment, goes on after failures, and restores params.yaml."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import joblib
import pytest

from pipeline.base.errors import DataError, ParamsError, PipeError
from pipeline.base.project import Project
from pipeline.params import read_params
from pipeline.tools.compare.compare import compare_study
from pipeline.tools.studies.dvc_experiments import list_experiments, remove_experiments
from pipeline.tools.studies.study import experiment_names, study
from pipeline.tools.studies.workspace_copy import outside_of_copies
from runtime.system.scratch import is_running
from tests.support.command import ROOT, run_pipe
from tests.support.experiment_project import (
    clone_of_repository,
    commit,
    experiment_project,
    results_of,
    run,
    trainings,
    write_recipe,
)
from tests.support.media import write_raw

RECIPE = """
params: {train: {epochs: 3, watch_test: true}}
rows:
  I-VGG16 + FL: {train: {lr: 0.1}}
  fails: {train: {lr: 0.3, momentum: 0.5}}
  鳞片: {train: {lr: 0.2}}
compare: {columns: [top1, train_loss], figures: []}
"""


@pytest.fixture(scope="module")
def first_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project whose baseline has run and is committed, with a study of three rows, one of which fails."""
    project = experiment_project(tmp_path_factory.mktemp("study") / "project")
    write_recipe(project, RECIPE)
    run(project.root, sys.executable, "-m", "dvc", "repro", "--quiet")
    commit(project.root)
    with pytest.raises(PipeError) as caught:
        study("tiny", (), 1, project)
    return project, str(caught.value)


@pytest.fixture
def studied(first_study: tuple[Project, str], tmp_path: Path) -> Project:
    return Project(shutil.copytree(first_study[0].root, tmp_path / "studied", symlinks=True))


def test_a_row_that_fails_is_named_with_its_reason_and_the_others_run(first_study: tuple[Project, str]) -> None:
    project, message = first_study
    assert "1 of 3 runs failed: tiny-fails: train: the loss of epoch 1 is inf; lower train.lr" in message
    assert "\n" not in message
    assert list(list_experiments(project)) == ["tiny-I-VGG16-FL", "tiny-鳞片"]
    assert [line.split()[0] for line in trainings(project)] == ["0.001", "0.1", "0.3", "0.2"]


def test_a_training_is_told_the_name_of_its_row_by_which_tensorboard_calls_it(
    first_study: tuple[Project, str],
) -> None:
    told = [line.split()[2] for line in trainings(first_study[0])]
    assert told[1:] == ["tiny-I-VGG16-FL", "tiny-fails", "tiny-鳞片"]


def test_params_yaml_is_restored_afterwards(first_study: tuple[Project, str]) -> None:
    project, _ = first_study
    assert project.params_yaml.read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_an_experiment_has_the_recipes_params_and_its_rows(first_study: tuple[Project, str]) -> None:
    params = list_experiments(first_study[0])["tiny-I-VGG16-FL"].params
    assert (params["train"]["lr"], params["train"]["epochs"], params["train"]["seed"]) == (0.1, 3, 0)


def test_a_row_that_failed_has_no_numbers_in_the_comparison_though_its_baseline_has(studied: Project) -> None:
    assert (studied.root / "reports" / "evaluate.json").is_file()
    report = compare_study("tiny", studied)
    table = (studied.compare_reports / "tiny" / "table.md").read_text(encoding="utf-8")
    assert report.not_run == ("fails",)
    assert "| fails | not run |  |  |" in table
    assert "| I-VGG16 + FL | 1 | 90.0 % | 0.5000 |" in table


def test_what_has_run_is_kept_and_only_the_rest_runs_again(studied: Project, capfd: pytest.CaptureFixture[str]) -> None:
    before = list_experiments(studied)
    write_recipe(studied, RECIPE.replace(", momentum: 0.5", ""))
    report = study("tiny", (), 1, studied)
    assert (report.n_run, report.n_kept) == (1, 2)
    assert [line.split()[0] for line in trainings(studied)] == ["0.001", "0.1", "0.3", "0.2", "0.3"]
    after = list_experiments(studied)
    assert all(after[name].commit == experiment.commit for name, experiment in before.items())
    stderr = capfd.readouterr().err
    assert "study tiny: 1/3 tiny-I-VGG16-FL: kept; it ran with the same params, data and code" in stderr
    assert "Running stage 'train'" in stderr  # DVC's own output is passed on


def test_a_change_of_the_data_or_of_a_value_runs_the_row_again_and_replaces_its_experiment(studied: Project) -> None:
    (studied.raw / "another.mp4").write_text("another clip", encoding="utf-8")
    old = list_experiments(studied)["tiny-鳞片"].commit
    assert study("tiny", ["鳞片"], 1, studied).n_run == 1
    new = list_experiments(studied)["tiny-鳞片"]
    assert new.commit != old
    write_recipe(studied, RECIPE.replace("0.2}", "0.25}"))
    assert study("tiny", ["鳞片"], 1, studied).n_run == 1
    assert list_experiments(studied)["tiny-鳞片"].params["train"]["lr"] == 0.25


def test_seeds_are_runs_of_their_own(studied: Project) -> None:
    assert study("tiny", ["鳞片"], 2, studied).n_run == 2
    seeds = {name: experiment.params["train"]["seed"] for name, experiment in list_experiments(studied).items()}
    assert seeds == {"tiny-I-VGG16-FL": 0, "tiny-鳞片": 0, "tiny-鳞片-s0": 0, "tiny-鳞片-s1": 1}
    report = compare_study("tiny", studied)
    assert report.n_runs == 3  # the row's own run has the seed of the first: counted once
    table = (studied.compare_reports / "tiny" / "table.md").read_text(encoding="utf-8")
    assert "| 鳞片 | 2 | 79.5 ± 0.7 % | 0.5625 ± 0.0884 |" in table


def test_a_study_in_small_runs_the_rows_own_values_under_names_of_its_own(studied: Project) -> None:
    (studied.raw / "clip.mp4").unlink()
    for label in ("a", "b"):
        (studied.raw / label).mkdir()
        (studied.raw / label / "photo.jpg").touch()
    write_recipe(studied, "params: {train: {epochs: 2, batch_size: 8}}\n", "small")
    before = list_experiments(studied)
    report = study("tiny", ["鳞片"], 1, studied, small=True)
    assert report.headline == (
        "study tiny.small: 1 experiment run; models/checkpoint.pt is that of tiny.small-鳞片, and no graph of it is "
        "exported: dvc exp apply tiny.small-鳞片 && dvc repro"
    )
    after = list_experiments(studied)
    assert after.keys() - before.keys() == {"tiny.small-鳞片"}
    train = after["tiny.small-鳞片"].params["train"]
    assert (train["lr"], train["epochs"], train["batch_size"]) == (0.2, 2, 8)
    assert compare_study("tiny", studied, small=True).n_runs == 1
    table = (studied.compare_reports / "tiny.small" / "table.md").read_text(encoding="utf-8")
    assert "# Study tiny, in small: its numbers mean nothing" in table
    assert "ran with another" not in table
    assert compare_study("tiny", studied).n_runs == 2  # the whole study's own


def test_an_experiment_that_stopped_before_evaluate_is_not_counted_with_its_baselines_report(studied: Project) -> None:
    write_recipe(studied, RECIPE.replace("fails:", "stops:").replace(", momentum: 0.5", ""))
    dvc = [sys.executable, "-m", "dvc", "exp", "run", "--name", "tiny-stops", "-S", "train.lr=0.4", "train"]
    run(studied.root, *dvc)
    fault = list_experiments(studied)["tiny-stops"].fault()
    assert fault is not None
    assert "models/checkpoint.pt is not the one that was judged" in fault
    report = compare_study("tiny", studied)
    assert report.not_run == ("stops",)
    table = (studied.compare_reports / "tiny" / "table.md").read_text(encoding="utf-8")
    assert f"- tiny-stops is not counted: {fault}." in table


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_training_too_and_put_params_back(studied: Project, number: int) -> None:
    write_recipe(studied, "params: {}\nrows:\n  never ends: {train: {weight_decay: 0.5}}\n")
    before, n_before = studied.params_yaml.read_bytes(), len(trainings(studied))
    command = [sys.executable, "-m", "pipeline", "study", "tiny"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(command, cwd=studied.root, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if len(trainings(studied)) > n_before:
                break
            time.sleep(0.1)
        assert studied.params_yaml.read_bytes() != before
        interrupted = time.monotonic()
        with pytest.raises(DataError, match="another `pipe study` is running here"):
            study("tiny", (), 1, studied)
        started.send_signal(number)
        _, stderr = started.communicate(timeout=40)
    finally:
        started.kill()
    assert started.returncode == 130, stderr
    assert time.monotonic() - interrupted < 40  # the training alone would take a minute
    assert studied.params_yaml.read_bytes() == before
    assert "tiny-never-ends" not in list_experiments(studied)


@dataclass(frozen=True)
class Beside:
    """The study of `first_study` once more, two rows at a time."""

    project: Project
    meeting: Path  # where the first two rows waited for each other
    before: dict[str, bytes]
    message: str
    stderr: str


def files_of(project: Project) -> dict[str, bytes]:
    """What lies in the workspace, but for the caches and git's own files."""
    paths = (path for path in project.root.rglob("*") if path.is_file())
    names = {path.relative_to(project.root).as_posix(): path for path in paths}
    own = (".git/", ".cache/", ".dvc/cache/", ".dvc/tmp/")
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(own)}


def copies_of(project: Project) -> list[Path]:
    """The folders of copies that are left, of every project that has this `.dvc`."""
    return [path for path in (project.root / ".dvc" / "tmp" / "study").glob("*") if path.is_dir()]


def trees_of(project: Project) -> dict[str, str]:
    """Everything that each experiment holds, as one digest."""
    commits = {name: experiment.commit for name, experiment in list_experiments(project).items()}
    return {name: run(project.root, "git", "rev-parse", f"{commit}^{{tree}}") for name, commit in commits.items()}


def push_by_itself(project: Project, folder: Path) -> None:
    """Let DVC push every experiment, to remotes in a folder."""
    run(project.root, "git", "init", "--quiet", "--bare", str(folder / "origin"))
    run(project.root, "git", "remote", "add", "origin", str(folder / "origin"))
    settings = "[exp]\nauto_push = true\n[core]\nremote = store\n"
    text = f"""{settings}['remote "store"']\nurl = {folder / "store"}\n"""
    (project.root / ".dvc" / "config.local").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def beside(first_study: tuple[Project, str], tmp_path_factory: pytest.TempPathFactory) -> Beside:
    if joblib.cpu_count() < 2:
        pytest.skip("one processor runs one row at a time")
    folder = tmp_path_factory.mktemp("beside")
    project = Project(shutil.copytree(first_study[0].root, folder / "project", symlinks=True))
    for name in list_experiments(project):
        remove_experiments(name, project)
    meeting = folder / "meeting"
    meeting.mkdir()
    left_by_a_kill = outside_of_copies(project).copies / "0" / "project"
    left_by_a_kill.mkdir(parents=True)
    (left_by_a_kill.parents[1] / "running").touch()
    push_by_itself(project, folder)
    before = files_of(project)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as stderr:
        patch.setenv("MEETING", str(meeting))
        with pytest.raises(PipeError) as caught:
            study("tiny", (), 1, project, jobs=2)
    return Beside(project, meeting, before, str(caught.value), stderr.getvalue())


def test_two_rows_at_a_time_wait_for_each_other(beside: Beside) -> None:
    assert sorted(path.name for path in beside.meeting.iterdir()) == ["0.1", "0.2", "0.3"]
    assert "nobody came" not in beside.stderr
    assert "study tiny: 3 runs, 2 at a time, " in beside.stderr
    lines = beside.stderr.splitlines()
    assert "tiny-I-VGG16-FL | Running stage 'train':" in lines  # DVC's own output, with the name of the row
    assert [line for line in lines if line.startswith("study tiny: 3/3 tiny-鳞片: done in ")]


def test_a_row_that_is_alone_would_wait_in_vain(studied: Project, tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    environment = os.environ | {"MEETING": str(meeting), "MEETING_SECONDS": "0"}
    command = [sys.executable, "train.py"]
    alone = subprocess.run(command, cwd=studied.root, env=environment, capture_output=True, check=False)
    assert b"nobody came" in alone.stderr


def test_rows_in_copies_leave_the_same_experiments(beside: Beside, first_study: tuple[Project, str]) -> None:
    expected = trees_of(first_study[0])
    assert list(expected) == ["tiny-I-VGG16-FL", "tiny-鳞片"]
    assert trees_of(beside.project) == expected
    assert {experiment.fault() for experiment in list_experiments(beside.project).values()} == {None}


def test_a_row_that_fails_in_a_copy_is_told_as_in_the_workspace(
    beside: Beside, first_study: tuple[Project, str]
) -> None:
    assert beside.message == first_study[1]
    assert "study tiny: 2/3 tiny-fails: failed: train: the loss of epoch 1 is inf; lower train.lr" in beside.stderr


def test_rows_in_copies_leave_the_workspace_alone_and_no_copy(beside: Beside) -> None:
    assert files_of(beside.project) == beside.before
    assert copies_of(beside.project) == []
    assert "shared-stages" not in run(beside.project.root, "git", "for-each-ref")


def test_rows_in_copies_are_not_pushed_by_themselves(beside: Beside) -> None:
    assert list(list_experiments(beside.project)) == ["tiny-I-VGG16-FL", "tiny-鳞片"]
    assert run(beside.project.root, "git", "ls-remote", "origin") == ""


def test_rows_in_copies_share_the_processors_and_read_the_recordings(beside: Beside) -> None:
    share = max(1, joblib.cpu_count() // 2)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    _, n_threads, recording = json.loads((beside.meeting / "0.1").read_text(encoding="utf-8"))
    assert int(n_threads) == (min(share, int(asked)) if asked else share)
    assert recording == "a clip"


def test_what_ran_in_copies_is_kept_though_nothing_has_run_in_the_workspace(
    beside: Beside, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project = Project(shutil.copytree(beside.project.root, tmp_path / "project", symlinks=True))
    project.dvc_lock.unlink()
    report = study("tiny", ["I-VGG16 + FL", "鳞片"], 1, project, jobs=2)
    assert report.headline == "study tiny: 0 experiments run, 2 kept"
    assert "study tiny: 2/2 tiny-鳞片: kept; it ran with the same params, data and code" in capfd.readouterr().err


def test_ctrl_c_ends_the_rows_in_copies_and_leaves_no_copy_also_when_it_is_pressed_again(
    studied: Project, tmp_path: Path
) -> None:
    write_recipe(
        studied,
        "params: {train: {weight_decay: 0.5}}\n"
        "rows: {a: {train: {lr: 0.1}}, b: {split: {seed: 1}, train: {lr: 0.2}}}\n",
    )
    before, meeting = files_of(studied), tmp_path / "meeting"
    meeting.mkdir()
    stderr, processes = interrupted_until_it_ends(studied, meeting, n_processes=2)
    assert not any(is_running(process) for process in processes)
    assert files_of(studied) == before
    assert copies_of(studied) == [], stderr
    assert list(list_experiments(studied)) == ["tiny-I-VGG16-FL", "tiny-鳞片"]


@pytest.mark.trial
def test_ctrl_c_ends_a_stage_that_all_rows_share(studied: Project, tmp_path: Path) -> None:
    (studied.root / "split.py").write_text(_NEVER_ENDS, encoding="utf-8")
    before, meeting = files_of(studied), tmp_path / "meeting"
    meeting.mkdir()
    stderr, processes = interrupted_until_it_ends(studied, meeting, n_processes=1)
    assert not any(is_running(process) for process in processes)
    assert (tmp_path / "meeting" / "ended in order").exists()
    assert files_of(studied) == before
    assert copies_of(studied) == [], stderr


_NEVER_ENDS = """
import json, os, pathlib, time

meeting = pathlib.Path(os.environ["MEETING"])
(meeting / "split").write_text(json.dumps([os.getpid()]))
try:
    time.sleep(60)
finally:
    (meeting / "ended in order").touch()
"""


def interrupted_until_it_ends(project: Project, meeting: Path, n_processes: int) -> tuple[str, list[int]]:
    """Press Ctrl-C when so many processes have come to a meeting, and again and again until the copies are gone.

    Returns:
        What the study printed, and the numbers of the processes.
    """
    if joblib.cpu_count() < 2:
        pytest.skip("one processor runs one row at a time")
    command = [sys.executable, "-m", "pipeline", "study", "tiny", "--jobs", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MEETING": str(meeting)}
    started = subprocess.Popen(command, cwd=project.root, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if len([path for path in meeting.iterdir() if path.stat().st_size]) == n_processes:
                break
            time.sleep(0.1)
        processes = [json.loads(path.read_text(encoding="utf-8"))[0] for path in meeting.iterdir()]
        assert len(processes) == n_processes
        started.send_signal(signal.SIGINT)
        lines = iter(started.stderr or ())
        assert any("study tiny: stopping; the copies are removed when the rows have ended" in line for line in lines)
        while copies_of(project) and started.poll() is None:
            started.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, stderr = started.communicate(timeout=50)
    finally:
        started.kill()
    assert started.returncode == 130, stderr
    return stderr, processes


@pytest.mark.trial
def test_a_stage_that_all_rows_share_fails_once_and_each_row_is_told(
    studied: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    (studied.root / "split.py").write_text("import sys; sys.exit('pipe: split: one class')", encoding="utf-8")
    with pytest.raises(PipeError) as caught:
        study("tiny", ["I-VGG16 + FL", "鳞片"], 1, studied, jobs=2)
    assert str(caught.value) == (
        "study tiny: 2 of 2 runs failed: tiny-I-VGG16-FL: split: one class; tiny-鳞片: split: one class"
    )
    assert capfd.readouterr().err.count("Running stage 'split'") == 1
    assert copies_of(studied) == []


@pytest.mark.trial
def test_rows_run_in_the_processes_of_an_engine(
    first_study: tuple[Project, str], studied: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list_experiments(studied):
        remove_experiments(name, studied)
    monkeypatch.setenv("PIPE_ENGINE", "loky")
    monkeypatch.chdir(ROOT)
    with pytest.raises(PipeError) as caught:
        study("tiny", (), 1, studied, jobs=2)
    assert str(caught.value) == first_study[1]
    assert trees_of(studied) == trees_of(first_study[0])
    assert copies_of(studied) == []


def refusal(project: Project, rows: tuple[str, ...] = ()) -> str:
    with pytest.raises(PipeError) as caught:
        study("tiny", rows, 1, project)
    assert "\n" not in str(caught.value)
    assert trainings(project) == []
    return str(caught.value)


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    project = experiment_project(tmp_path / "fresh")
    write_recipe(project, RECIPE)
    return project


def test_an_unknown_row_is_refused_with_the_nearest(fresh: Project) -> None:
    assert "tiny.yaml: rows: found 'I-VGG16', which is not known; the nearest is 'I-VGG16 + FL'" in refusal(
        fresh, ("I-VGG16",)
    )


def test_a_slip_in_the_last_row_is_found_before_the_first_row_runs(fresh: Project) -> None:
    write_recipe(fresh, RECIPE.replace("lr: 0.2", "learning: 0.2"))
    assert "tiny.yaml: train.learning: unknown key" in refusal(fresh)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("top1", "top_1", "compare.columns: found 'top_1', which is not known; the nearest is 'top1'"),
        ("top1", "train.rate", "the nearest is 'train."),
        ("figures: []", "figures: [{title: f, curves: [train/los], rows: [鳞片]}]", "nearest is 'train/loss'"),
        ("figures: []", "figures: [{title: f, curves: [train/loss], rows: [鱗片]}]", "nearest is '鳞片'"),
        ("figures: []", "figurs: []", "compare.figurs: unknown key; the nearest valid name is 'figures'"),
    ],
)
def test_an_unknown_name_in_compare_is_refused_before_the_study_runs(
    fresh: Project, old: str, new: str, expected: str
) -> None:
    write_recipe(fresh, RECIPE.replace(old, new))
    assert expected in refusal(fresh)


def test_a_recipe_without_rows_is_refused(fresh: Project) -> None:
    write_recipe(fresh, "params: {train: {epochs: 3}}\n")
    assert "no mapping `rows:`" in refusal(fresh)


def test_a_folder_without_git_or_without_a_commit_is_refused(fresh: Project) -> None:
    shutil.rmtree(fresh.root / ".git")
    assert "no git repository" in refusal(fresh)
    run(fresh.root, "git", "init", "--quiet")
    assert "no commit yet" in refusal(fresh)


def test_an_empty_data_raw_is_refused(fresh: Project) -> None:
    (fresh.raw / "clip.mp4").unlink()
    with pytest.raises(DataError, match="no recordings"):
        study("tiny", (), 1, fresh)


def test_rows_become_names_that_git_allows_and_no_two_the_same() -> None:
    rows = ["VGG16", "vgg16", "I-VGG16 + FL", "I VGG16/FL", "鳞片", "++", "lr 1e-4", "x-s1", "x", "a" * 300, ".lock"]
    names = experiment_names("graphite", rows)
    assert len({name.casefold() for name in names.values()}) == len(rows)
    assert names["鳞片"] == "graphite-鳞片"
    assert names["lr 1e-4"] == "graphite-lr-1e-4"
    assert names["x"] + "-s1" not in names.values()
    for name in names.values():
        run(ROOT, "git", "check-ref-format", f"refs/exps/00/0/{name}")
        assert len(name) < 100
    assert not set(experiment_names("a", ["b-c"]).values()) & set(experiment_names("a-b", ["c"]).values())


def test_the_recipe_itself_still_goes_into_params_without_its_rows(fresh: Project) -> None:
    from pipeline.tools.studies.recipe import apply_recipe

    apply_recipe("tiny", fresh)
    assert read_params(fresh.params_yaml).train.epochs == 3


def test_rows_that_are_no_mappings_are_refused(fresh: Project) -> None:
    write_recipe(fresh, "params: {}\nrows: [VGG16]\n")
    with pytest.raises(ParamsError, match="rows: Input should be a valid dictionary"):
        study("tiny", (), 1, fresh)


@pytest.mark.trial
def test_the_real_chain_runs_as_a_study_and_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # the copy runs its own code
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the same number beside another row as alone
    project = clone_of_repository(tmp_path / "project")
    write_raw(project.raw, clips=3)  # one each for train, val and test
    write_recipe(
        project,
        """
params:
  augment: {copies: []}
  split: {near_duplicates: {search: false}}
  model: {arch: resnet18, weights: none, freeze: none}
  image: {size: 32}
  train: {epochs: 2, batch_size: 8}
rows:
  slow: {train: {lr: 0.0001}}
  fast: {train: {lr: 0.001}}
compare:
  columns: [top1, group_top1, mse, nll, train_loss, best_epoch, train.lr]
  figures: [{title: both, curves: [train/loss, val/loss, val/accuracy], rows: [slow, fast]}]
""",
    )
    assert study("tiny", (), 1, project).n_run == 2
    assert study("tiny", (), 1, project).n_kept == 2
    finished = run_pipe(project.root, "compare", "tiny")
    assert finished.returncode == 0, finished.stderr
    text = (project.compare_reports / "tiny" / "table.md").read_text(encoding="utf-8")
    assert "| slow | 1 | " in text
    assert "test frames of 2 clips or photos, protocol grouped" in text
    assert "has no" not in text
    assert (project.compare_reports / "tiny" / "figure_1.png").is_file()
    assert {experiment.fault() for experiment in list_experiments(project).values()} == {None}

    expected = results_of(project)
    for name in list_experiments(project):
        remove_experiments(name, project)
    assert study("tiny", (), 1, project, jobs=2).n_run == 2
    assert results_of(project) == expected
    assert study("tiny", (), 1, project).n_kept == 2
