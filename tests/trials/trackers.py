"""Asks the real MLflow and Weights & Biases, without a server, whether they got every epoch of two runs.

pip install mlflow wandb && python -m tests.trials.trackers DIR
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.base.project import Project
from pipeline.train.trackers import Trackers
from tests.support.fitting_by_hand import train_params

HISTORY = [{"train/loss": 1.0 / epoch, "test/loss": 1.5 / epoch} for epoch in range(1, 6)]


def main() -> int:
    """Show two runs, one of them continued, read them back, and print a line per tracker."""
    os.environ["WANDB_MODE"] = "offline"
    project = Project(Path(sys.argv[1]).resolve() / "graphite")
    project.root.mkdir(parents=True)
    for name, n_done in (("row-1", 0), ("row-2", 3)):
        params = train_params(log_with=("tensorboard", "mlflow", "wandb"))
        with Trackers(params, project, name, HISTORY[:n_done]) as trackers:
            for epoch, metrics in enumerate(HISTORY[n_done:], start=n_done + 1):
                trackers.add(epoch, metrics)
    faults = _faults_of_tensorboard(project) + _faults_of_mlflow(project) + _faults_of_wandb(project)
    for fault in faults:
        print(fault)
    print(f"three trackers, two runs of {len(HISTORY)} epochs: {len(faults)} faults")
    return bool(faults)


def _faults_of_tensorboard(project: Project) -> list[str]:
    faults = []
    for name in ("row-1", "row-2"):
        events = EventAccumulator(str(project.tensorboard / name)).Reload()
        steps = [event.step for event in events.Scalars("train/loss")]
        if steps != list(range(1, len(HISTORY) + 1)):
            faults.append(f"tensorboard: {name} has the epochs {steps}")
    return faults


def _faults_of_mlflow(project: Project) -> list[str]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project.cache / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "graphite"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    faults = [] if set(runs) == {"row-1", "row-2"} else [f"mlflow: found the runs {sorted(runs)}"]
    for name, run in runs.items():
        for tag in HISTORY[0]:
            points = {point.step: point.value for point in client.get_metric_history(run.info.run_id, tag)}
            if points != {epoch: metrics[tag] for epoch, metrics in enumerate(HISTORY, start=1)}:
                faults.append(f"mlflow: {name} has {points} for {tag}")
        if run.data.params.get("train.lr") != str(train_params().lr) or run.info.status != "FINISHED":
            faults.append(f"mlflow: {name} has no settings or did not end: {run.info.status}")
    return faults


def _faults_of_wandb(project: Project) -> list[str]:
    """An offline run is one file of records, `run-<id>.wandb`, in a folder of its own."""
    from wandb.proto import wandb_internal_pb2

    faults, names = [], []
    for path in sorted((project.cache / "wandb").glob("offline-run-*/run-*.wandb")):
        steps = []
        for data in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                names.append(record.run.display_name)
            if kind == "history":
                steps.append(record.history.step.num)
        if steps != list(range(1, len(HISTORY) + 1)):
            faults.append(f"wandb: {path.name} has the epochs {steps}")
    return faults if sorted(names) == ["row-1", "row-2"] else [*faults, f"wandb: found the runs {names}"]


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, behind a head of 7 bytes.

    A block of 32 KiB holds parts of records: their checksum (4 bytes), length (2), kind (1) and bytes.
    """
    position, record = 7, b""
    while position + 7 <= len(content):
        if (left := 32768 - position % 32768) < 7:  # the end of a block, too short for a part
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            yield record
            record = b""


if __name__ == "__main__":
    sys.exit(main())
