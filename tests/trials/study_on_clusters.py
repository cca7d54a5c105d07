"""Runs two rows of a study on Ray and on Dask, on this machine, and compares what each experiment found.

pip install 'ray>=2.40' distributed && python -m tests.trials.study_on_clusters DIR

The rows run in small, on generated photos, and first without an engine, one after the other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pipeline.base.project import Project
from tests.support.experiment_project import clone_of_repository, results_of
from tests.trials.clusters import CLUSTERS, nodes
from tests.trials.every_row import CLASSES, write_photos

STUDY, ROWS = "lfw", ("MobileNetV2, SoftMax Loss", "MobileNetV2, Joint Loss")
MOST_SECONDS = 1200


def main() -> int:
    """Run the rows without an engine and on every engine, and print a line for each."""
    folder = Path(sys.argv[1]).resolve()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the nodes too: another number changes sums, and so where training leads
    project = clone_of_repository(folder / "project")  # one commit for all: checkpoints name it
    write_photos(project, CLASSES[STUDY])
    expected = results_of(_studied(project, folder / "local", {}))
    n_bad = len(ROWS) - len(expected)
    for cluster in CLUSTERS:
        with nodes(cluster, folder):
            own = {**cluster.environment, "PIPE_ENGINE": cluster.engine}
            found = results_of(_studied(project, folder / cluster.engine, own))
        n_bad += found != expected
        print(f"{cluster.engine}: {len(found)} experiments, {'the same' if found == expected else 'other'} results")
    return bool(n_bad)


def _studied(project: Project, root: Path, own: dict[str, str]) -> Project:
    shutil.copytree(project.root, root)
    started = time.monotonic()
    rows = [word for row in ROWS for word in ("--row", row)]
    command = [sys.executable, "-m", "pipeline", "study", STUDY, *rows, "--small"]
    environment = {**os.environ, "PYTHONPATH": str(root), **own}
    jobs = ["--jobs", "2"] if own else []
    code = subprocess.run([*command, *jobs], cwd=root, env=environment, timeout=MOST_SECONDS, check=False).returncode
    print(f"{root.name}: the study ended with {code} after {time.monotonic() - started:.0f} s")
    return Project(root)


if __name__ == "__main__":
    sys.exit(main())
