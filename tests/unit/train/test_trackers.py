"""Trackers show every epoch once, and one that fails stops no training."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import accelerate.tracking
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.project import Project
from pipeline.train.trackers import Trackers, refuse_missing_trackers, run_name
from tests.support.fitting_by_hand import train_params

HISTORY = [{"train/loss": 0.5, "test/loss": 0.6}, {"train/loss": 0.4, "test/loss": 0.7}]


def _events(project: Project, name: str) -> EventAccumulator:
    return EventAccumulator(str(project.tensorboard / name)).Reload()


def _shown(project: Project, name: str = "run") -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 3)) for event in _events(project, name).Scalars("train/loss")]


def _fit(project: Project, n_done: int, losses: list[float], name: str = "run", *, is_on: bool = True) -> None:
    with Trackers(train_params(), project, name, HISTORY[:n_done], is_on=is_on) as trackers:
        for epoch, loss in enumerate(losses, start=n_done + 1):
            trackers.add(epoch, {"train/loss": loss})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "graphite")


def test_tensorboard_shows_every_epoch(project: Project) -> None:
    _fit(project, 0, [0.5, 0.4])
    assert _shown(project) == [(1, 0.5), (2, 0.4)]


def test_a_run_that_continues_shows_an_epoch_once(project: Project) -> None:
    _fit(project, 0, [0.5, 0.4])
    _fit(project, 1, [0.3, 0.2])
    assert _shown(project) == [(1, 0.5), (2, 0.3), (3, 0.2)]


def test_a_run_that_starts_anew_forgets_the_old_curve(project: Project) -> None:
    _fit(project, 0, [0.5, 0.4])
    _fit(project, 0, [0.3])
    assert _shown(project) == [(1, 0.3)]


def test_a_run_that_continues_under_another_name_shows_its_earlier_epochs_too(project: Project) -> None:
    _fit(project, 0, [0.5], "key")
    _fit(project, 1, [0.3], "fish-ResNet34")
    assert _shown(project, "fish-ResNet34") == [(1, 0.5), (2, 0.3)]


def test_the_test_side_has_the_name_that_a_text_gives_it(project: Project) -> None:
    with Trackers(train_params(test_called="val"), project, "run", HISTORY[:1]) as trackers:
        trackers.add(2, HISTORY[1])
    events = _events(project, "run")
    assert set(events.Tags()["scalars"]) == {"train/loss", "val/loss"}
    assert [round(event.value, 3) for event in events.Scalars("val/loss")] == [0.6, 0.7]


@pytest.mark.parametrize(
    ("experiment", "name"),
    [("fish-ResNet34", "fish-ResNet34"), ("a/b c", "a-b-c"), ("../up", "up"), ("鳞片-s0", "鳞片-s0"), ("", "0a1b")],
)
def test_a_run_is_called_after_its_experiment(experiment: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", experiment)
    assert run_name("0a1b") == name


def test_a_run_without_an_experiment_is_called_after_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert run_name("0a1b") == "0a1b"


def test_a_process_that_shows_nothing_writes_nothing(project: Project) -> None:
    _fit(project, 0, [0.5], is_on=False)
    assert not project.root.exists()


def test_no_tracker_is_a_choice(project: Project) -> None:
    with Trackers(train_params(log_with=()), project, "run", HISTORY) as trackers:
        trackers.add(3, HISTORY[0])
    assert not project.root.exists()


def test_a_tracker_that_is_not_installed_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else True)
    refuse_missing_trackers(train_params(log_with=("tensorboard",)))
    with pytest.raises(ParamsError, match=r"train\.log_with: wandb is not installed; run `pip install wandb`"):
        refuse_missing_trackers(train_params(log_with=("tensorboard", "wandb")))


class GoneError(Exception):
    """As MLflow raises it."""


class FakeTracker:
    """What MLflow and Weights & Biases are asked for; `tests/trials/trackers.py` asks the real ones."""

    name = "mlflow"
    fails_at = ""

    def __init__(self, project: str, **options: Any) -> None:
        self.calls: list[Any] = [("project", project, options)]
        made.append(self)

    def start(self) -> None:
        self._called("start")

    def store_init_configuration(self, settings: dict[str, Any]) -> None:
        self._called("settings", settings)

    def log(self, values: dict[str, float], step: int) -> None:
        self._called("log", values, step)

    def finish(self) -> None:
        self._called("finish")

    def _called(self, what: str, *values: Any) -> None:
        self.calls.append((what, *values))
        if what == self.fails_at:
            raise GoneError("the server\nis gone")


made: list[FakeTracker] = []


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    made.clear()
    monkeypatch.setattr(accelerate.tracking, "MLflowTracker", FakeTracker)
    errors = ModuleType("mlflow.exceptions")
    errors.MlflowException = GoneError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", errors)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # so that it is undone
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return FakeTracker


def test_a_tracker_gets_the_project_the_run_the_settings_and_every_epoch(
    fake: type[FakeTracker], project: Project
) -> None:
    with Trackers(train_params(log_with=("mlflow",)), project, "row-1", HISTORY[:1]) as trackers:
        trackers.add(2, HISTORY[1])
    (tracker,) = made
    assert tracker.calls[0] == ("project", "graphite", {"run_name": "row-1"})
    settings = next(call[1] for call in tracker.calls if call[0] == "settings")
    assert (settings["train.lr"], settings["train.loss.name"]) == (train_params().lr, "cross_entropy")
    assert [call for call in tracker.calls if call[0] == "log"] == [("log", HISTORY[0], 1), ("log", HISTORY[1], 2)]
    assert tracker.calls[-1] == ("finish",)


def test_a_tracker_that_does_not_start_stops_the_run_in_one_line(
    fake: type[FakeTracker], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "fails_at", "start")
    with (
        pytest.raises(DataError, match=r"^train\.log_with: mlflow did not start \(the server is gone\)$"),
        Trackers(train_params(log_with=("tensorboard", "mlflow")), project, "run"),
    ):
        pass


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ("log", "mlflow: shows no more epochs (the server is gone); training goes on"),
        ("finish", "mlflow: did not end well (the server is gone)"),
    ],
)
def test_a_tracker_that_fails_later_stops_no_training(
    step: str,
    line: str,
    fake: type[FakeTracker],
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fake, "fails_at", step)
    with Trackers(train_params(log_with=("mlflow", "tensorboard")), project, "run") as trackers:
        for epoch, metrics in enumerate(HISTORY, start=1):
            trackers.add(epoch, metrics)
    assert capsys.readouterr().err.count(line) == 1
    assert made[0].calls[-1] == ("finish",)
    assert _shown(project) == [(1, 0.5), (2, 0.4)]
