"""Training runs that are killed at planted moments. Each runs in a forked child, so that torch is imported once.

python -m tests.support.killed_runs FOLDER    writes FOLDER/trials.jsonl, a JSON object per trial
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torchvision  # noqa: F401  # imported here, like the two below, so that no child has to
from dvclive.live import Live  # noqa: F401
from torch.utils.tensorboard import SummaryWriter  # noqa: F401

from pipeline.base.project import Project
from pipeline.network.checkpoint import read_checkpoint
from pipeline.params import read_params
from pipeline.train import fit, resume, stage
from tests.support.small_project import set_params, small_project

TRIALS = 12
EPOCHS = 3


class Moments:
    """Counts the moments of a run, and kills it at one of them."""

    def __init__(self, fatal: int | None, log: Path) -> None:
        self.count = 0
        self._fatal = fatal
        self._log = log

    def pass_by(self, name: str) -> bool:
        """Log a moment; returns True where the run has to die at it."""
        self.count += 1
        with self._log.open("a") as log:
            log.write(name + "\n")
        return self.count == self._fatal

    def plant(self) -> None:
        """Make batches, writes, renames and the removal of the state moments."""
        self._wrap(fit.Objective, "forward", "a batch")
        self._wrap(fit.Fit, "run_epoch", "epoch {1}")
        self._wrap(Path, "replace", "before a rename")
        self._wrap(Path, "rename", "before the folder's rename")
        self._wrap(Path, "replace", "after a rename", before=False)
        self._wrap(Path, "rename", "after the folder's rename", before=False)
        save, unlink = torch.save, Path.unlink

        def save_half(value: object, file: BinaryIO) -> None:
            if self.pass_by("half a file"):
                content = io.BytesIO()
                save(value, content)
                file.write(content.getvalue()[: len(content.getvalue()) // 2])
                file.flush()
                die()
            save(value, file)

        def unlink_state(path: Path, missing_ok: bool = False) -> None:
            if path.parent.name == "resume" and path.suffix == ".pt" and self.pass_by("before the state's removal"):
                die()
            unlink(path, missing_ok=missing_ok)

        torch.save, Path.unlink = save_half, unlink_state  # type: ignore[assignment]

    def _wrap(self, owner: Any, name: str, moment: str, *, before: bool = True) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            if before and self.pass_by(moment.format(*arguments[:2])):
                die()
            result = original(*arguments, **named)
            if not before and self.pass_by(moment):
                die()
            return result

        setattr(owner, name, wrapped)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(project: Project, fatal: int | None) -> tuple[int, list[str]]:
    """Train in a forked child; returns its signal or exit code and its moments."""
    log = project.root / "moments.txt"
    log.write_text("")
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        Moments(fatal, log).plant()
        params = read_params(project.params_yaml)
        with Path(os.devnull).open("w") as sys.stdout:
            stage.train(params.train, params.model, params.image, project)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), log.read_text().splitlines()


def clear(project: Project) -> None:
    for folder in (project.cache, project.checkpoint.parent, project.train_reports):
        shutil.rmtree(folder, ignore_errors=True)


def epochs_of(moments: list[str]) -> list[int]:
    return [int(moment.split()[1]) for moment in moments if moment.startswith("epoch ")]


def trial(project: Project, fatal: int, expected: dict[str, torch.Tensor]) -> dict[str, object]:
    clear(project)
    killed, before = run(project, fatal)
    states = [resume.read_state(path) for path in (project.cache / "resume").glob("*.pt")]
    done = max((len(state["history"]) for state in states if state is not None), default=0)
    finished, after = run(project, None)
    resumed = read_checkpoint(project.checkpoint).state_dict
    left = [path.name for folder in (project.cache / "resume", project.checkpoint.parent) for path in folder.iterdir()]
    return {
        "moment": before[-1],
        "killed": killed,
        "finished": finished,
        "done": done,
        "epochs_before": epochs_of(before),
        "epochs_after": epochs_of(after),
        "same_weights": all(torch.equal(value, resumed[name]) for name, value in expected.items()),
        "left": left,
    }


def main(folder: Path) -> None:
    project = small_project(folder / "project")
    set_params(
        project,
        model={
            "arch": "mobilenet_v2", "freeze": {"open_convolutions": 3}, "head": "fc", "fc_widths": [8],
            "fc_dropouts": [0.5],
        },
        train={
            "epochs": EPOCHS, "keep": "best_val", "optimizer": "nadam", "schedule": {"name": "cosine"},
            "online": [{"name": "mirror_left_right", "probability": 0.5}],
        },
    )  # fmt: skip
    code, moments = run(project, None)
    assert code == 0
    expected = read_checkpoint(project.checkpoint).state_dict
    fatal = sorted(random.Random(0).sample(range(1, len(moments) + 1), TRIALS))
    lines = [json.dumps(trial(project, moment, expected)) for moment in fatal]
    (folder / "trials.jsonl").write_text("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
