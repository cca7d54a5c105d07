from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.network.checkpoint import read_checkpoint
from pipeline.params import read_params
from pipeline.train import stage
from pipeline.train.resume import read_state, run_key, write_state
from tests.support.code_copy import copy_of_the_code
from tests.support.killed_runs import EPOCHS, TRIALS
from tests.support.small_project import ROOT, set_params, small_project

STATE = {"weights": torch.arange(5.0), "history": [{"train/loss": 0.5}], "score": float("inf")}


@contextlib.contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond this meanwhile: what a full disk looks like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small(tmp_path: Path) -> Project:
    return small_project(tmp_path / "small")


def _key(project: Project) -> str:
    params = read_params(project.params_yaml)
    return run_key(project, manifest.read_split(project.split_csv), (params.model, params.train), ["cpu", "no", "1"])


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    write_state(tmp_path / "state.pt", STATE)
    state = read_state(tmp_path / "state.pt")
    assert state is not None
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {name: value for name, value in STATE.items() if name != "weights"}


def test_no_state_is_none_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert read_state(tmp_path / "state.pt") is None
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_an_error_of_the_system_and_leaves_the_state_before_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_state(path, STATE)
    with file_size_limit(5000), pytest.raises(OSError, match="File too large"):
        write_state(path, STATE | {"weights": torch.zeros(10_000)})
    state = read_state(path)
    assert state is not None
    assert torch.equal(state["weights"], STATE["weights"])
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("damage", ["empty", "short", "foreign", "torn", "changed"])
def test_a_torn_or_foreign_state_is_ignored_with_a_line(
    tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.pt"
    write_state(path, STATE)
    content = path.read_bytes()
    middle = len(content) // 2
    changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    broken = {"empty": b"", "short": b"x", "foreign": b"x" * 999, "torn": content[:middle], "changed": changed}
    path.write_bytes(broken[damage])
    assert read_state(path) is None
    assert "damaged state of a run" in capfd.readouterr().err


def test_a_state_with_a_right_digest_that_is_none_is_one_line(tmp_path: Path) -> None:
    path, content = tmp_path / "state.pt", b"no state at all"
    path.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(DataError, match=r"state\.pt: not a file of plain tensors and values"):
        read_state(path)


def test_a_state_of_another_run_is_one_line_that_names_it(small: Project) -> None:
    params = read_params(small.params_yaml)
    stage.train(params.train, params.model, params.image, small)
    asked: list[Path] = []

    def foreign(path: Path) -> dict[str, object]:
        asked.append(path)
        return {"fit": {}, "best": {}, "history": [3.0]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.train.run.read_state", foreign)
        with pytest.raises(DataError, match=r"resume/\w+.pt: found a state that is not of this run .*; delete it"):
            stage.train(params.train, params.model, params.image, small)
    assert asked


def test_a_run_that_ended_after_its_last_epoch_is_calibrated_like_an_undisturbed_one(small: Project) -> None:
    set_params(
        small,
        model={"freeze": "all", "head": "fc", "fc_widths": [16], "fc_dropouts": [0.5]},
        train={"estimate": "holdout", "refit": "none"},
    )
    params = read_params(small.params_yaml)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "refuse_changed_split", Mock(side_effect=InterruptedError))
        with pytest.raises(InterruptedError):
            stage.train(params.train, params.model, params.image, small)
    assert not small.checkpoint.exists()
    stage.train(params.train, params.model, params.image, small)
    of_continued = read_checkpoint(small.checkpoint)
    stage.train(params.train, params.model, params.image, small)
    undisturbed = read_checkpoint(small.checkpoint)
    assert of_continued.calibration == undisturbed.calibration
    assert undisturbed.calibration.temperature is not None


def test_a_run_of_other_settings_pictures_or_rows_has_another_key(small: Project) -> None:
    keys = [_key(small), _key(small)]
    assert keys[0] == keys[1]
    set_params(small, train={"lr": 0.5})
    keys.append(_key(small))
    row = manifest.read_split(small.split_csv)[0]
    (small.root / row.path).write_bytes(b"another picture")
    keys.append(_key(small))
    manifest.write_split(manifest.read_split(small.split_csv)[1:], small.split_csv)
    keys.append(_key(small))
    assert len(set(keys)) == 4


def test_changed_code_never_goes_on_from_an_old_state(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    code = copy_of_the_code(small.root / "code", monkeypatch)
    before = _key(small)
    (code / "tools" / "add.py").write_text("# training does not run this")
    assert _key(small) == before
    (code / "train" / "a_sub_room").mkdir()
    (code / "train" / "a_sub_room" / "fit.py").write_text("# a bug was fixed here")
    assert _key(small) != before


def test_a_picture_that_is_gone_is_named(small: Project) -> None:
    row = manifest.read_split(small.split_csv)[0]
    (small.root / row.path).unlink()
    with pytest.raises(DataError, match=f"{row.path}: missing"):
        _key(small)


def test_a_run_that_was_killed_at_any_moment_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.killed_runs", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    trials = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert len(trials) == TRIALS
    for trial in trials:
        assert (trial["killed"], trial["finished"]) == (-9, 0), trial
        assert trial["same_weights"], trial
        assert trial["epochs_after"] == list(range(trial["done"] + 1, EPOCHS + 1)), trial
        assert trial["left"] == ["checkpoint.pt", "folds.pt"], trial
    kinds = {moment.split(" 1")[0] for moment in (trial["moment"] for trial in trials)}
    assert kinds >= {"a batch", "half a file", "before a rename", "after a rename"}
    assert any(0 < trial["done"] < EPOCHS for trial in trials)
    assert any(trial["done"] == EPOCHS for trial in trials)
