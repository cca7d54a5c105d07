"""A DVC project in git whose three small stages stand for the chain: their reports depend on the params alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dvc  # noqa: F401  # its log keeps the streams of this moment; those of a test are closed after it
from ruamel.yaml import YAML

from pipeline.base.project import Project
from pipeline.tools.studies.dvc_experiments import list_experiments
from tests.support.small_project import set_params

ROOT = Path(__file__).parents[2]

# As the real chain: data/raw -> split -> train -> evaluate, reports in git.
_DVC_YAML = """
stages:
  split:
    cmd: python split.py
    deps: [data/raw, split.py]
    params: [split]
    outs: [data/split.csv]
  train:
    cmd: python train.py
    deps: [data/split.csv, train.py]
    params: [model, image, train]
    outs:
      - models/checkpoint.pt
      - reports/train: {cache: false}
  evaluate:
    cmd: python evaluate.py
    deps: [data/split.csv, models/checkpoint.pt, evaluate.py]
    params: [evaluate]
    outs:
      - reports/evaluate.json: {cache: false}
metrics: [reports/evaluate.json]
"""

_SPLIT = """
import os, pathlib
pathlib.Path("data/split.csv").write_text(",".join(sorted(os.listdir("data/raw"))))
"""

# momentum 0.5 stands for a training that fails after an epoch, weight_decay 0.5 for a training that never ends. In the
# folder MEETING, two trainings wait for each other; each leaves a file with what it was given.
_TRAIN = """
import json, os, pathlib, sys, time
from ruamel.yaml import YAML

params = YAML(typ="safe").load(pathlib.Path("params.yaml").read_text(encoding="utf-8"))
train = params["train"]
with open("trained.log", "a") as log:
    log.write(f"{train['lr']} {train['seed']} {os.environ.get('DVC_EXP_NAME')}\\n")
if "MEETING" in os.environ:
    meeting = pathlib.Path(os.environ["MEETING"])
    given = [os.getpid(), os.environ.get("OMP_NUM_THREADS"), pathlib.Path("data/raw/clip.mp4").read_text()]
    (meeting / str(train["lr"])).write_text(json.dumps(given))
    last = time.monotonic() + float(os.environ.get("MEETING_SECONDS", 60))
    while len(os.listdir(meeting)) < 2:
        if time.monotonic() > last:
            sys.exit("pipe: train: nobody came")
        time.sleep(0.05)
if train["weight_decay"] == 0.5:
    time.sleep(60)
if train["momentum"] == 0.5:
    sys.exit("pipe: train: the loss of epoch 1 is inf; lower train.lr")
curves = pathlib.Path("reports/train/plots/metrics")
start = {"train/loss": 1.0, "train/accuracy": 0.5, "train/minutes": 0.25}
if train["watch_test"]:
    start |= {"test/loss": 1.5, "test/accuracy": 0.25}
for name, first in start.items():
    table = curves / f"{name}.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    step = 0.25 if name.endswith("accuracy") or name.endswith("minutes") else -0.25
    lines = [f"{epoch}\\t{first + step * epoch + train['seed'] / 8}" for epoch in range(train["epochs"])]
    table.write_text("\\n".join([f"step\\t{name.split('/')[1]}", *lines]) + "\\n")
numbers = {"n_parameters": 1000, "n_trained_parameters": 10, "n_layers": 16}
numbers |= {"has_batch_norm": False, "has_residual": True}
pathlib.Path("reports/train/network.json").write_text(json.dumps(numbers))
pathlib.Path("models").mkdir(exist_ok=True)
pathlib.Path("models/checkpoint.pt").write_text(json.dumps([train["lr"], train["seed"]]))
"""

_EVALUATE = """
import json, pathlib

lr, seed = json.loads(pathlib.Path("models/checkpoint.pt").read_text())
report = {
    "n_frames": 40, "n_groups": 4, "top1": 1 - lr - seed / 100, "group_top1": 0.75, "mse": lr, "nll": 2 * lr,
    "auc": 0.5, "top5": None, "top5_reason": "fewer than 6 classes", "protocol": "grouped",
    "optimistic": "one photograph per class",
}
pathlib.Path("reports/evaluate.json").write_text(json.dumps(report))
"""


def experiment_project(root: Path) -> Project:
    """Write the project and commit it; no experiment has run."""
    root.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    (root / "dvc.yaml").write_text(_DVC_YAML, encoding="utf-8")
    for name, text in (("split", _SPLIT), ("train", _TRAIN), ("evaluate", _EVALUATE)):
        (root / f"{name}.py").write_text(text, encoding="utf-8")
    (root / ".gitignore").write_text("/data/raw\n/data/split.csv\n/models\n/trained.log\n", encoding="utf-8")
    project = Project(root)
    project.raw.mkdir(parents=True)
    (project.raw / "clip.mp4").write_text("a clip", encoding="utf-8")
    make_repository(root)
    return project


def make_repository(root: Path) -> None:
    """A git repository whose first commit has everything that git does not ignore."""
    run(root, "git", "init", "--quiet")
    run(root, "git", "config", "user.name", "a")
    run(root, "git", "config", "user.email", "a@example.org")
    commit(root)


def commit(root: Path) -> None:
    """Commit everything that git does not ignore."""
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "-m", "as it is")


def write_recipe(project: Project, text: str, name: str = "tiny") -> None:
    """Write `recipes/<name>.yaml`."""
    project.recipes.mkdir(exist_ok=True)
    (project.recipes / f"{name}.yaml").write_text(text, encoding="utf-8")


def plant_experiment(project: Project, name: str, reports: dict[str, str], lr: float = 0.1, seed: int = 0) -> None:
    """Put a successful run into git as DVC would, in a fraction of the time. The workspace stays clean.

    `reports` are texts of files by their path in the project; `dvc.lock` has the digest of `reports/evaluate.json`.
    """
    head = run(project.root, "git", "rev-parse", "HEAD").strip()
    set_params(project, train={"lr": lr, "seed": seed})
    train = YAML(typ="safe").load(project.params_yaml)["train"]
    evaluation = hashlib.md5(reports["reports/evaluate.json"].encode(), usedforsecurity=False).hexdigest()
    checkpoint = {"path": "models/checkpoint.pt", "md5": name}
    stages = {
        "train": {"params": {"params.yaml": {"train": train}}, "outs": [checkpoint]},
        "evaluate": {"deps": [checkpoint], "outs": [{"path": "reports/evaluate.json", "md5": evaluation}]},
    }
    for path, text in {**reports, "dvc.lock": json.dumps({"stages": stages})}.items():
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        (project.root / path).write_text(text, encoding="utf-8")
    commit(project.root)
    run(project.root, "git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", "HEAD")
    run(project.root, "git", "reset", "--quiet", "--hard", head)


def trainings(project: Project) -> list[str]:
    """Learning rate and seed of every training that has begun."""
    log = project.root / "trained.log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def results_of(project: Project) -> dict[str, list[str | None]]:
    """What each experiment found, but for how long it took."""
    files = (project.evaluate_json, project.predictions_csv, project.split_csv, project.params_yaml)
    return {name: [experiment.text(path) for path in files] for name, experiment in list_experiments(project).items()}


def run(folder: Path, *command: str) -> str:
    """Run a program of this environment; give its output."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}: {finished.stdout}\n{finished.stderr}"
    return finished.stdout


def clone_of_repository(root: Path) -> Project:
    """The repository's own files as a new repository."""
    for name in run(ROOT, "git", "ls-files").splitlines():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    make_repository(root)
    return Project(root)
