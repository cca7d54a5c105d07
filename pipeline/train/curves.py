"""Curves: for TensorBoard while the run goes on, and for DVC and the report when it is over."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.files import write_json
from pipeline.train.best_epoch import BestEpoch, Metrics
from pipeline.train.summary import NetworkSummary


class TensorBoard:
    """One run's event files in a folder of their own; `tensorboard --logdir` shows them as they grow."""

    def __init__(self, folder: Path, history: Sequence[Metrics], *, is_on: bool) -> None:
        """Continue after the epochs of a run, or start anew.

        Args:
            folder: of the event files.
            history: the epochs that were shown before; without any, old files in the folder are deleted.
            is_on: False writes nothing.
        """
        self._folder = folder
        self._n_epochs_done = len(history)
        self._is_on = is_on

    def __enter__(self) -> TensorBoard:
        if self._is_on:
            from torch.utils.tensorboard import SummaryWriter

            if not self._n_epochs_done:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._writer = SummaryWriter(str(self._folder), purge_step=self._n_epochs_done + 1)
        return self

    def add(self, epoch: int, metrics: Metrics) -> None:
        """Show an epoch's metrics."""
        if self._is_on:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, epoch)
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
