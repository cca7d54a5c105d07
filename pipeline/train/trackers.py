"""Trackers: TensorBoard, MLflow or Weights & Biases show the curves while a run goes on, through accelerate."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import DataError, ParamsError, one_line
from pipeline.base.progress import warn
from pipeline.base.project import Project
from pipeline.train.best_epoch import Metrics
from pipeline.train.params import TrainParams

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


def run_name(key: str) -> str:
    """Return the name that trackers show for a run: the DVC experiment's name, else the run's key.

    The experiment of a study's row is called after the row, so that the curves of several rows lie over one another.
    """
    return re.sub(r"[^\w.-]+", "-", os.environ.get("DVC_EXP_NAME", "")).strip(".-") or key


def refuse_missing_trackers(params: TrainParams) -> None:
    """Refuse a tracker whose package is not installed, before any work is done.

    Raises:
        ParamsError: it names the command that installs the package.
    """
    for name in params.log_with:
        if importlib.util.find_spec(name) is None:
            raise ParamsError(f"train.log_with: {name} is not installed; run `pip install {name}`, or take it out")


class Trackers:
    """The trackers of one run; a context manager."""

    def __init__(
        self, params: TrainParams, project: Project, name: str, history: Sequence[Metrics] = (), *, is_on: bool = True
    ) -> None:
        """Set up the trackers of a run; each is started at `with`.

        Args:
            params: the section `train`: which trackers, and the settings that they show.
            project: its cache has the files of trackers that have no server.
            name: of the run. TensorBoard forgets an earlier one of this name.
            history: the epochs before, of a run that is continued.
            is_on: False shows nothing.
        """
        self._params = params
        self._project = project
        self._name = name
        self._history = history
        self._names = params.log_with if is_on else ()
        self._running: list[GeneralTracker] = []

    def __enter__(self) -> Trackers:
        for name in self._names:
            try:
                self._running.append(self._started(name))
            except _errors_of(name) as error:
                self.__exit__()
                raise DataError(f"train.log_with: {name} did not start ({one_line(error, 200)})") from error
        for epoch, metrics in enumerate(self._history, start=1):
            self.add(epoch, metrics)
        return self

    def add(self, epoch: int, metrics: Metrics) -> None:
        """Show an epoch's metrics. A tracker that fails is left out from then on, and training goes on."""
        values = {self._tag(name): value for name, value in metrics.items()}
        for tracker in list(self._running):
            try:
                tracker.log(values, step=epoch)
            except _errors_of(tracker.name) as error:  # such as of a server that is gone
                self._running.remove(tracker)
                warn(f"{tracker.name}: shows no more epochs ({one_line(error, 200)}); training goes on")
                with contextlib.suppress(*_errors_of(tracker.name)):  # a run that stays open would refuse the next one
                    tracker.finish()

    def __exit__(self, *_: object) -> None:
        while self._running:
            tracker = self._running.pop()
            try:
                tracker.finish()
            except _errors_of(tracker.name) as error:  # all epochs are fitted: they must not be lost
                warn(f"{tracker.name}: did not end well ({one_line(error, 200)})")

    def _tag(self, name: str) -> str:
        side, _, quantity = name.partition("/")
        return f"{self._params.test_called}/{quantity}" if side == "test" else name

    def _started(self, name: str) -> GeneralTracker:
        from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

        tracker: GeneralTracker
        whole_project = self._project.root.resolve().name
        if name == "tensorboard":
            shutil.rmtree(self._project.tensorboard / self._name, ignore_errors=True)
            tracker = TensorBoardTracker(self._name, self._project.tensorboard)
            tracker.start()  # of settings it would write one file a run, which its own page shows as a second run
            return tracker
        if name == "mlflow":
            database = self._project.cache.resolve() / "mlflow.db"
            database.parent.mkdir(parents=True, exist_ok=True)
            os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it calls home otherwise
            tracker = MLflowTracker(whole_project, run_name=self._name)
        else:
            self._project.cache.mkdir(parents=True, exist_ok=True)
            tracker = WandBTracker(whole_project, name=self._name, dir=str(self._project.cache))
        tracker.start()
        tracker.store_init_configuration(_flat(self._params.model_dump(mode="json"), "train"))
        return tracker


def _errors_of(name: str) -> tuple[type[Exception], ...]:
    """What a tracker raises that its user can mend: of its own package, of files, and of the network."""
    if name == "mlflow":
        return importlib.import_module("mlflow.exceptions").MlflowException, OSError
    if name == "wandb":
        return importlib.import_module("wandb.errors").Error, OSError
    return (OSError,)


def _flat(settings: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Settings by dotted name, as trackers show them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}.{name}") if isinstance(value, dict) else {f"{prefix}.{name}": value}
    return flat
