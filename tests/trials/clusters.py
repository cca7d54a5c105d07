"""Extracts, augments and splits the demo's clips on this machine, on Ray and on Dask, and compares every byte.

pip install 'ray>=2.40' distributed && python -m tests.trials.clusters DIR

Each cluster has two nodes of one processor, as processes on this machine. In a second run one of the two is killed once
some clips are decoded.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.base.project import Project
from pipeline.tools.demo.demo_clips import CLIPS_PER_CLASS, PHOTOGRAPHS, make_demo_clips
from tests.support.children import wait_until
from tests.trials.small_chain import ROOT, digests, outputs

STAGES = ("extract", "augment", "split")
MOST_SECONDS = 300
N_CLIPS = CLIPS_PER_CLASS * len(PHOTOGRAPHS)
_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cluster:
    """An engine, the commands that start its nodes, and what the environment tells the command `pipe`."""

    engine: str
    head: tuple[str, ...]
    worker: tuple[str, ...]
    n_workers: int  # beside the head, where the head works too
    environment: dict[str, str]
    is_up: tuple[str, ...]  # succeeds once all nodes are there


# Where later programs would look for the killed cluster.
_LEFT_BY_RAY = Path(tempfile.gettempdir(), "ray", "ray_current_cluster")
_RAY, _DASK = "127.0.0.1:6399", "tcp://127.0.0.1:8799"
_COUNT_RAY = "import ray; ray.init(log_to_driver=False); assert ray.cluster_resources()['CPU'] == 2"
_COUNT_DASK = "from distributed import Client as C; import sys; C(sys.argv[1], timeout=2).wait_for_workers(2, 2)"
CLUSTERS = (
    Cluster(
        "ray",
        ("ray", "start", "--head", "--block", "--num-cpus=1", "--port=6399", "--include-dashboard=false"),
        ("ray", "start", "--block", "--num-cpus=1", f"--address={_RAY}"),
        1,
        {
            "RAY_ADDRESS": _RAY,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",  # else the head asks for one where it finds one, and the others send none
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        },
        ("-c", _COUNT_RAY),
    ),
    Cluster(
        "dask",
        ("dask", "scheduler", "--host", "127.0.0.1", "--port", "8799", "--no-dashboard"),
        ("dask", "worker", _DASK, "--nworkers=1", "--nthreads=1", "--no-nanny", "--no-dashboard"),
        2,
        {"DASK_SCHEDULER_ADDRESS": _DASK},
        ("-c", _COUNT_DASK, _DASK),
    ),
)


def main() -> int:
    """Run the chain on every engine, undisturbed and with a node killed, and print a line for each."""
    folder = Path(sys.argv[1]).resolve()
    raw = folder / "raw"
    make_demo_clips(raw)
    expected = _run(_project(folder / "local", raw), {})
    n_bad = 0
    for cluster in CLUSTERS:
        for is_killed in (False, True):
            project = _project(folder / f"{cluster.engine}{'-killed' * is_killed}", raw)
            with nodes(cluster, project.root) as kill_worker:
                own = {**cluster.environment, "PIPE_ENGINE": cluster.engine}
                found = _run(project, own, kill_worker if is_killed else None)
            n_bad += found != expected
            shown = "the same bytes" if found == expected else f"other bytes in {_different(found, expected)}"
            print(f"{cluster.engine}{', one node killed' * is_killed}: {len(found)} files, {shown}")
    return bool(n_bad)


def _project(root: Path, raw: Path) -> Project:
    root.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(raw, root / "data" / "raw")
    return Project(root)


def _run(project: Project, own: dict[str, str], kill: Callable[[], None] | None = None) -> dict[str, str]:
    """Run the three stages; give the digest of every file that they write, but not of the reports with times."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **own}
    for stage in STAGES:
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "pipeline", stage], cwd=project.root, env=environment)
        if kill is not None and stage == "extract":
            wait_until(lambda p=process: _n_decoded(project) >= 2 or p.poll() is not None, MOST_SECONDS)
            kill()
            n_decoded = _n_decoded(project)
            print(f"{project.root.name}: one node was killed after {n_decoded} of {N_CLIPS} clips")
            if n_decoded == N_CLIPS or process.poll() is not None:
                raise RuntimeError("nothing was left to disturb; run it again")
        if process.wait(MOST_SECONDS):
            print(f"{project.root.name}: {stage} ended with {process.returncode}")
        print(f"{project.root.name}: {stage} took {time.monotonic() - started:.1f} s")
    return digests(project.root, [out for stage in STAGES for out in outputs(stage)])


def _n_decoded(project: Project) -> int:
    return len(list(project.cache.glob("clips/[!.]*/recorded.json")))


@contextlib.contextmanager
def nodes(cluster: Cluster, folder: Path) -> Iterator[Callable[[], None]]:
    """Start a cluster that writes its log into a folder; gives what kills its last worker."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **cluster.environment}
    log = (folder / "cluster.log").open("w")

    def start(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        own = [str(_BIN / command[0]), *command[1:]]
        return subprocess.Popen(own, env=environment, stdout=log, stderr=log, cwd="/")

    def is_up() -> bool:
        command = [sys.executable, *cluster.is_up]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0

    nodes = [start(cluster.head)]
    try:
        time.sleep(1)
        nodes += [start(cluster.worker) for _ in range(cluster.n_workers)]
        if not wait_until(is_up, 60):
            raise RuntimeError(f"{cluster.engine}: no cluster; see {log.name}")
        yield lambda: _kill(nodes[-1])
    finally:
        for node in reversed(nodes):
            _kill(node)
        _LEFT_BY_RAY.unlink(missing_ok=True)


def _kill(node: subprocess.Popen[bytes]) -> None:
    """Kill a node and all that it started, as when its power fails."""
    if node.poll() is not None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    node.wait()


def _different(found: dict[str, str], expected: dict[str, str]) -> str:
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"{', '.join(names[:3])} and {max(0, len(names) - 3)} more"


if __name__ == "__main__":
    sys.exit(main())
