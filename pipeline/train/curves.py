"""Curves: for TensorBoard while the run goes on, and for DVC and the report when it is over."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.files import write_json
from pipeline.train.best_epoch import BestEpoch, Metrics
from pipeline.train.summary import NetworkSummary


def board_name(key: str) -> str:
    """Return the folder's name that TensorBoard shows for a run: the DVC experiment's name, else the run's key.

    The experiment of a study's row is called after the row, so that the curves of several rows lie over one another.
    """
    return re.sub(r"[^\w.-]+", "-", os.environ.get("DVC_EXP_NAME", "")).strip(".-") or key


class TensorBoard:
    """One run's event files in a folder of their own; `tensorboard --logdir` shows them as they grow."""

    def __init__(self, folder: Path, history: Sequence[Metrics], *, is_on: bool, test_called: str) -> None:
        """Start anew, with the epochs of a run that is continued.

        Args:
            folder: of the event files; what an earlier run of this name wrote there is deleted.
            history: the epochs before.
            is_on: False writes nothing.
            test_called: the name of the test side in the tags, such as `val` in `val/loss`.
        """
        self._folder = folder
        self._history = history
        self._is_on = is_on
        self._test_called = test_called

    def __enter__(self) -> TensorBoard:
        if self._is_on:
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(self._folder, ignore_errors=True)
            self._writer = SummaryWriter(str(self._folder))
            for epoch, metrics in enumerate(self._history, start=1):
                self.add(epoch, metrics)
        return self

    def add(self, epoch: int, metrics: Metrics) -> None:
        """Show an epoch's metrics."""
        if self._is_on:
            for name, value in metrics.items():
                side, _, quantity = name.partition("/")
                tag = f"{self._test_called}/{quantity}" if side == "test" else name
                self._writer.add_scalar(tag, value, epoch)
            self._writer.flush()

    def __exit__(self, *_: object) -> None:
        if self._is_on:
            self._writer.close()


def write_curves(folder: Path, history: Sequence[Metrics], best: BestEpoch, summary: NetworkSummary) -> None:
    """Write the curves that DVC plots, `metrics.json` with the last and the kept epoch, and `network.json`.

    Args:
        folder: where they are written.
        history: the metrics of every epoch.
        best: the kept epoch.
        summary: the layers and numbers of the network.
    """
    from dvclive.live import Live

    with Live(dir=str(folder), dvcyaml=None, report=None, save_dvc_exp=False) as live:
        for metrics in history:
            for name, value in metrics.items():
                live.log_metric(name, value)
            live.next_step()
        for name, value in {"epoch": best.epoch, **best.metrics}.items():
            live.log_metric(f"kept/{name}", value, plot=False)
    write_json(folder / "network.json", summary.to_json())
