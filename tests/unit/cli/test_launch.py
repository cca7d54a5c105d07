"""`PIPE_LAUNCH` starts `pipe train` by another program."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import DataError
from pipeline.cli.launch import launch_processes
from tests.support.command import ROOT


def test_without_a_launcher_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(os, "execv", lambda program, command: started.append((program, command)))
    for text in ("", "  "):
        monkeypatch.setenv("PIPE_LAUNCH", text)
        launch_processes()
    monkeypatch.delenv("PIPE_LAUNCH", raising=False)
    launch_processes()
    assert started == []


def test_the_launcher_gets_the_command_and_its_processes_do_not_launch_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(os, "execv", lambda program, command: started.append((program, command)))
    monkeypatch.setenv("PIPE_LAUNCH", "torchrun --standalone --nproc-per-node '2'")
    launch_processes()
    ((program, command),) = started
    assert Path(program).name == "torchrun"
    assert command == ["torchrun", "--standalone", "--nproc-per-node", "2", "-m", "pipeline", "train"]
    assert "PIPE_LAUNCH" not in os.environ
    monkeypatch.setenv("PIPE_LAUNCH", "torchrun")
    monkeypatch.setattr(sys, "argv", ["pipe", "--debug", "train"])
    launch_processes()
    assert started.pop()[1] == ["torchrun", "-m", "pipeline", "--debug", "train"]
    launch_processes()
    assert len(started) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("torchrnu -n 2", "PIPE_LAUNCH: torchrnu: no such program; expected one such as torchrun --standalone"),
        (
            "torchrun 'x",
            'PIPE_LAUNCH: found "torchrun \'x" (No closing quotation); expected one such as torchrun --standalone',
        ),
    ],
)
def test_a_launcher_that_is_not_there_is_one_line(text: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPE_LAUNCH", text)
    with pytest.raises(DataError) as caught:
        launch_processes()
    assert str(caught.value) == line


JOBS = ROOT / "docs" / "jobs"


def test_the_job_of_slurm_is_a_script_that_starts_the_training_by_the_launcher() -> None:
    path = JOBS / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    lines = path.read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    (launch,) = [line for line in lines if line.startswith("PIPE_LAUNCH=")]
    assert shlex.split(launch)[-5:] == ["srun", "python", "-m", "pipeline", "train"]
    assert lines.index(launch) < lines.index("dvc commit --force train") < lines.index("dvc repro")


def test_the_job_of_kubernetes_starts_as_many_pods_as_its_launcher_expects() -> None:
    service, job = YAML(typ="safe").load_all((JOBS / "kubernetes.yaml").read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command = shlex.split(next(item["value"] for item in container["env"] if item["name"] == "PIPE_LAUNCH"))
    assert container["command"] == ["python", "-m", "pipeline", "train"]
    assert int(command[command.index("--nnodes") + 1]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert command[-1] == f"{job['metadata']['name']}-0.{service['metadata']['name']}:29500"
