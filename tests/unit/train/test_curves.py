from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from pipeline.network.network import build_network
from pipeline.train.best_epoch import BestEpoch
from pipeline.train.curves import TensorBoard, board_name, write_curves
from pipeline.train.summary import summarise
from tests.support.fitting_by_hand import MODEL, train_params

HISTORY = [{"train/loss": 0.5, "val/loss": 0.6}, {"train/loss": 0.4, "val/loss": 0.7}]


def _shown(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, round(event.value, 3)) for event in events.Scalars("train/loss")]


def _fit(folder: Path, n_done: int, losses: list[float], *, is_on: bool = True) -> None:
    with TensorBoard(folder, HISTORY[:n_done], is_on=is_on, test_called="test") as board:
        for epoch, loss in enumerate(losses, start=n_done + 1):
            board.add(epoch, {"train/loss": loss})


def test_tensorboard_shows_every_epoch(tmp_path: Path) -> None:
    _fit(tmp_path / "run", 0, [0.5, 0.4])
    assert _shown(tmp_path / "run") == [(1, 0.5), (2, 0.4)]


def test_a_run_that_continues_shows_an_epoch_once(tmp_path: Path) -> None:
    _fit(tmp_path / "run", 0, [0.5, 0.4])
    _fit(tmp_path / "run", 1, [0.3, 0.2])
    assert _shown(tmp_path / "run") == [(1, 0.5), (2, 0.3), (3, 0.2)]


def test_a_run_that_starts_anew_forgets_the_old_curve(tmp_path: Path) -> None:
    _fit(tmp_path / "run", 0, [0.5, 0.4])
    _fit(tmp_path / "run", 0, [0.3])
    assert _shown(tmp_path / "run") == [(1, 0.3)]


def test_a_run_that_continues_under_another_name_shows_its_earlier_epochs_too(tmp_path: Path) -> None:
    _fit(tmp_path / "key", 0, [0.5])
    _fit(tmp_path / "fish-ResNet34", 1, [0.3])
    assert _shown(tmp_path / "fish-ResNet34") == [(1, 0.5), (2, 0.3)]


def test_the_test_side_has_the_name_that_a_text_gives_it(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, [{"train/loss": 0.5, "test/loss": 0.6}], is_on=True, test_called="val") as board:
        board.add(2, {"train/loss": 0.4, "test/loss": 0.7})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "val/loss"}
    assert [round(event.value, 3) for event in events.Scalars("val/loss")] == [0.6, 0.7]


@pytest.mark.parametrize(
    ("experiment", "name"),
    [("fish-ResNet34", "fish-ResNet34"), ("a/b c", "a-b-c"), ("../up", "up"), ("鳞片-s0", "鳞片-s0"), ("", "0a1b")],
)
def test_a_run_is_called_after_its_experiment(experiment: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", experiment)
    assert board_name("0a1b") == name


def test_a_run_without_an_experiment_is_called_after_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert board_name("0a1b") == "0a1b"


def test_only_one_process_writes(tmp_path: Path) -> None:
    _fit(tmp_path / "run", 0, [0.5], is_on=False)
    assert not (tmp_path / "run").exists()


def test_dvc_gets_the_curves_the_kept_epoch_and_the_network(tmp_path: Path) -> None:
    best = BestEpoch(train_params(keep="best_val"))
    for epoch, metrics in enumerate(HISTORY, start=1):
        best.consider(epoch, metrics, nn.Linear(1, 1))
    summary = summarise(build_network(MODEL, 32, 3))
    write_curves(tmp_path, HISTORY, best, summary)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["kept"] == {"epoch": 1, "train": {"loss": 0.5}, "val": {"loss": 0.6}}
    assert (written["train"], written["val"], written["step"]) == ({"loss": 0.4}, {"loss": 0.7}, 1)
    lines = (tmp_path / "plots" / "metrics" / "val" / "loss.tsv").read_text().splitlines()
    assert [float(line.split("\t")[1]) for line in lines[1:]] == [0.6, 0.7]
    assert json.loads((tmp_path / "network.json").read_text()) == summary.to_json()
