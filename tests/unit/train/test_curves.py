from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from pipeline.network.network import build_network
from pipeline.train.best_epoch import BestEpoch
from pipeline.train.curves import write_curves
from pipeline.train.summary import summarise
from tests.support.fitting_by_hand import MODEL, train_params

HISTORY = [{"train/loss": 0.5, "val/loss": 0.6}, {"train/loss": 0.4, "val/loss": 0.7}]


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
