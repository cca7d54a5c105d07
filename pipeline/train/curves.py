"""Curves of a run that is over, for DVC and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.base.files import write_json
from pipeline.train.best_epoch import BestEpoch, Metrics
from pipeline.train.summary import NetworkSummary


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
