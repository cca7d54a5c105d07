"""Curves: for TensorBoard while the run goes on, and for DVC and the report when it is over."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.files import write_json
from pipeline.train.best_epoch import Best
from pipeline.train.summary import NetworkSummary

Numbers = dict[str, float]


class TensorBoard:
    """One run's event files in a folder of its own; `tensorboard --logdir` shows them as they grow."""

    def __init__(self, folder: Path, history: Sequence[Numbers], *, is_on: bool) -> None:
        """Go on after the epochs of `history`, or begin anew where there are none; write nothing where it is off."""
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

    def add(self, epoch: int, numbers: Numbers) -> None:
        """Show an epoch's numbers."""
        if self._is_on:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, epoch)
            self._writer.flush()

    def __exit__(self, *_: object) -> None:
        if self._is_on:
            self._writer.close()


def write_curves(folder: Path, history: Sequence[Numbers], best: Best, summary: NetworkSummary) -> None:
    """Write what DVC plots, `metrics.json` with the last epoch and the kept one, and `network.json`."""
    from dvclive.live import Live

    with Live(dir=str(folder), dvcyaml=None, report=None, save_dvc_exp=False) as live:
        for numbers in history:
            for name, value in numbers.items():
                live.log_metric(name, value)
            live.next_step()
        for name, value in {"epoch": best.epoch, **best.numbers}.items():
            live.log_metric(f"kept/{name}", value, plot=False)
    write_json(folder / "network.json", summary.as_json())
