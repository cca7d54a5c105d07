"""Trains on two machines, kills one in the middle, goes on, and compares the weights with those of an undisturbed run.

python -m tests.trials.two_machines DIR

Needs root and iproute2. The machines are two network namespaces with a cable between them; they share the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.base.project import Project
from tests.support.children import wait_until
from tests.support.small_project import set_params, small_project

ROOT = Path(__file__).parents[2]
ADDRESSES = {"pipe-a": "10.99.0.1", "pipe-b": "10.99.0.2"}  # by network namespace
PORT = 29500
EPOCHS = 12
MOST_SECONDS = 240


def main() -> int:
    """Run the trial, and print what was seen."""
    folder = Path(sys.argv[1]).resolve()
    projects = {name: make_project(folder / name) for name in ("undisturbed", "killed")}
    with machines():
        ended = [process.wait(MOST_SECONDS) for process in start(projects["undisturbed"])]
        if any(ended):
            print(f"undisturbed: ended with {ended}")
            return 1
        n_epochs = kill_one(projects["killed"])
        processes = start(projects["killed"])
        said = processes[0].communicate(timeout=MOST_SECONDS)[0]
        ended = [process.wait(MOST_SECONDS) for process in processes]
    went_on = f"going on after epoch {n_epochs}" in said
    same = have_same_weights(*projects.values())
    print(f"killed after epoch {n_epochs} of {EPOCHS}; the second run ended with {ended}")
    print(f"it went on where it was: {went_on}; the same weights: {same}")
    return 0 if went_on and same and not any(ended) else 1


def make_project(root: Path) -> Project:
    """Drawn frames, and a whole network to fit, so that gradients travel."""
    project = small_project(root)
    set_params(project, model={"freeze": "none"}, train={"epochs": EPOCHS, "estimate": "holdout", "precision": "fp32"})
    return project


@contextlib.contextmanager
def machines() -> Iterator[None]:
    """Two network namespaces with a cable between them."""
    first, second = ADDRESSES
    with contextlib.ExitStack() as stack:
        for name in ADDRESSES:
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "delete", name)
        run("ip", "link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
        for name, address in ADDRESSES.items():
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "cable")
            run("ip", "-n", name, "link", "set", "cable", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield


def start(project: Project) -> list[subprocess.Popen[str]]:
    """Start `pipe train` on both machines."""
    processes = []
    for number, name in enumerate(ADDRESSES):
        launch = (
            f"torchrun --nnodes 2 --node-rank {number} --nproc-per-node 1 "
            f"--master-addr {ADDRESSES['pipe-a']} --master-port {PORT}"
        )
        own = {"PIPE_LAUNCH": launch, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "cable", "OMP_NUM_THREADS": "1"}
        command = ["ip", "netns", "exec", name, sys.executable, "-m", "pipeline", "train"]
        log = (project.root / f"{name}.log").open("a")
        processes.append(
            subprocess.Popen(
                command,
                cwd=project.root,
                env={**os.environ, **own},
                stdout=subprocess.PIPE if number == 0 else log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        )
    return processes


def kill_one(project: Project) -> int:
    """Kill the second machine once epochs are saved; the first one must end by itself.

    Returns:
        The number of whole epochs that the state holds.
    """
    first, second = start(project)
    if not wait_until(lambda: saved_epochs(project) >= 2, MOST_SECONDS):
        raise RuntimeError("no epoch was saved; see the logs in the folder")
    pids = subprocess.run(["ip", "netns", "pids", list(ADDRESSES)[1]], capture_output=True, text=True, check=True)
    for pid in pids.stdout.split():  # the launcher and its process, as when the power fails
        os.kill(int(pid), signal.SIGKILL)
    killed = time.monotonic()
    code = first.wait(MOST_SECONDS)
    print(f"the other machine ended with {code}, {time.monotonic() - killed:.0f} s after the first was gone")
    second.wait()
    if code == 0:
        raise RuntimeError("the first machine took no notice")
    return saved_epochs(project)


def saved_epochs(project: Project) -> int:
    """How many epochs the state of the run holds, whose file appears whole or not at all."""
    states = list((project.cache / "resume").glob("*.pt"))
    return len(torch.load(states[0], weights_only=True)["history"]) if states else 0


def have_same_weights(first: Project, second: Project) -> bool:
    """Whether two checkpoints hold the same weights, bit for bit."""
    weights = [torch.load(project.checkpoint, weights_only=True)["state_dict"] for project in (first, second)]
    return list(weights[0]) == list(weights[1]) and all(
        torch.equal(one, other) for one, other in zip(weights[0].values(), weights[1].values(), strict=True)
    )


def run(*command: str) -> None:
    """Run a command, or raise."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    if shutil.which("ip") is None or os.geteuid() != 0:
        sys.exit("two_machines: needs root and iproute2")
    sys.exit(main())
