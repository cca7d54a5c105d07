"""The whole chain, as a person runs it: clips in `data/raw`, `dvc repro`, a bundle that answers on its own."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from export.graphs.device_process import AS_ON_A_DEVICE
from pipeline.base import manifest
from pipeline.base.files import read_json, sha256_of
from pipeline.base.project import Project
from pipeline.network.checkpoint import read_checkpoint
from pipeline.network.inference import Frames, infer
from runtime.archive import unpack
from tests.support.bare_environment import bare_environment
from tests.support.command import ROOT, run_pipe
from tests.support.media import write_raw
from tests.support.small_project import set_params
from tests.support.team_project import commit, name_person, typed

DVC: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
# What the command line needs beside a stage's own code.
COMMAND_LINE = (
    "pipeline/__init__.py", "pipeline/__main__.py", "pipeline/cli", "export/__init__.py", "runtime/__init__.py",
    "runtime/errors.py",
)  # fmt: skip
# The checkout is installed in this environment: what a copy lacks must not be found there.
ONLY_FROM_HERE = """
import os, sys
here = os.getcwd()
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # as -B here, in the children too
sys.path[:] = [here, *(path for path in sys.path if not os.path.isfile(os.path.join(path, "dvc.yaml")))]
from pipeline.cli import main as cli
code = cli.run(["--debug", *sys.argv[1:]])
strangers = [
    module.__file__ for name, module in sys.modules.items()
    if name.split(".")[0] in ("pipeline", "export", "runtime") and not (module.__file__ or here).startswith(here)
]
sys.exit(code or (f"loaded from elsewhere: {strangers}" if strangers else 0))
"""


def _clone(folder: Path) -> Project:
    """A copy of the repository's own files as a new repository, without this checkout's data."""
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    _run(folder, "git", "init", "--quiet")
    _run(folder, "git", "add", "--all")
    _run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "start")
    return Project(folder)


def _run(folder: Path, *command: str, home: Path | None = None) -> str:
    """Run a program of this environment, with a home folder of its own if one is given; what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    left_out = ("PYTHONPATH", "ORT_DISABLE_TELEMETRY")
    environment = {key: value for key, value in os.environ.items() if key not in left_out} | {"PATH": path}
    if home:
        environment = bare_environment(home)
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}: {finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = _clone(tmp_path_factory.mktemp("chain") / "project")
    write_raw(project.raw, clips=3)  # one each for train, val and test
    set_params(project, image={"size": 64}, train={"epochs": 3}, extract={"frames_per_second": 4.0})
    # The clips of a class differ in length only: they are near duplicates.
    set_params(project, split={"near_duplicates": {"search": False, "hash_bits": 4, "correlation": 0.7}})
    _run(project.root, "dvc", "repro")
    return project


@pytest.fixture
def finished(_finished: Project, tmp_path: Path) -> Project:
    """A project whose chain has run; a copy of its own for every test."""
    return Project(shutil.copytree(_finished.root, tmp_path / "finished", symlinks=True))


def _outs(stage: str) -> list[str]:
    return [out if isinstance(out, str) else next(iter(out)) for out in DVC["stages"][stage]["outs"]]


def _bytes_under(root: Path, names: list[str]) -> dict[str, str]:
    files = [
        path for name in names for path in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))
    ]
    return {path.relative_to(root).as_posix(): sha256_of(path) for path in files if path.is_file()}


def _test_rows(project: Project) -> list[manifest.Row]:
    return [row for row in manifest.read_split(project.split_csv) if row.split == "test"]


def _answers_of_bundle(project: Project, folder: Path) -> list[dict[str, Any]]:
    unpack(project.bundle_zip, folder)
    paths = [str(project.root / row.path) for row in _test_rows(project)]
    return json.loads(_run(folder, sys.executable, "-c", AS_ON_A_DEVICE, "classify", "--json", *paths))  # type: ignore[no-any-return]


def _labels_of_torch(project: Project, rows: list[manifest.Row]) -> list[str]:
    """The answers of the checkpoint's own network, which is the one that ships."""
    checkpoint = read_checkpoint(project.checkpoint)
    frames = Frames(project, rows, checkpoint.classes, checkpoint.preprocess)
    _, logits = infer(checkpoint.network(), frames, 32, "frames")
    return [checkpoint.classes[answer] for answer in logits.argmax(dim=1)]


def _assert_bundle_agrees(project: Project, folder: Path) -> None:
    """The bundle without torch answers the test frames as torch does and as the reports say, up to the listed flips."""
    rows, answers = _test_rows(project), _answers_of_bundle(project, folder)
    assert len(rows) > 0
    with project.flips_csv.open(encoding="utf-8", newline="") as file:
        flips = {row["path"] for row in csv.DictReader(file)}
    said = [max(answer["probabilities"], key=answer["probabilities"].get) for answer in answers]
    of_torch = zip(rows, said, _labels_of_torch(project, rows), strict=True)
    assert {row.path for row, label, expected in of_torch if label != expected} <= flips
    evaluation, parity = read_json(project.evaluate_json), read_json(project.parity_json)
    if evaluation["estimate"] == "folds":  # the reports are about the heads of the folds, on all clips
        assert parity["as_device"]["n_clips"] == evaluation["as_device"]["n_clips"] > len({row.group for row in rows})
        return
    with project.predictions_csv.open(encoding="utf-8", newline="") as file:
        predicted = {row["path"]: row["predicted"] for row in csv.DictReader(file)}
    assert {row.path for row, label in zip(rows, said, strict=True) if label != predicted[row.path]} <= flips
    top1 = float(np.mean([label == row.label for row, label in zip(rows, said, strict=True)]))
    assert top1 == pytest.approx(evaluation["top1_all_frames"], abs=len(flips) / len(rows))
    assert top1 == pytest.approx(parity["variants"][parity["recommended"]]["top1"])


def test_the_bundle_without_torch_answers_every_test_frame_as_reported(finished: Project, tmp_path: Path) -> None:
    _assert_bundle_agrees(finished, tmp_path / "bundle")


def test_the_unpacked_bundle_passes_its_selfcheck_and_a_flipped_byte_fails_it(
    finished: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    unpack(finished.bundle_zip, folder)
    _run(folder, sys.executable, "-c", AS_ON_A_DEVICE, "selfcheck")
    damaged = bytearray((folder / "model.onnx").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "model.onnx").write_bytes(damaged)
    with pytest.raises(AssertionError, match=r"model\.onnx"):
        _run(folder, sys.executable, "-c", AS_ON_A_DEVICE, "selfcheck")


def test_the_readmes_example_runs_on_the_bundle(finished: Project, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = readme.split("```python\n")[1].split("```")[0]
    unpack(finished.bundle_zip, tmp_path / "bundle")
    row = _test_rows(finished)[0]
    shutil.copy(finished.root / row.path, tmp_path / "bundle" / "photo.jpg")
    label, probability = _run(tmp_path / "bundle", sys.executable, "-c", example).split()
    assert label in {"None", *(row.label for row in _test_rows(finished))}  # None: none of the classes
    assert 0 < float(probability) <= 1


def test_an_extra_or_escaping_entry_in_a_bundle_is_refused(finished: Project, tmp_path: Path) -> None:
    from runtime.errors import BundleError

    for name in ("extra.txt", "../escaped.txt"):
        planted = tmp_path / "planted.zip"
        shutil.copy(finished.bundle_zip, planted)
        with zipfile.ZipFile(planted, "a", zipfile.ZIP_STORED) as archive:
            archive.writestr(name, "planted")
        with pytest.raises(BundleError):
            unpack(planted, tmp_path / "unpacked")
        assert not (tmp_path / "unpacked").exists()
        assert not (tmp_path / "escaped.txt").exists()


def test_a_stage_by_hand_without_those_after_it_leaves_no_bundle_until_they_have_run(finished: Project) -> None:
    set_params(finished, evaluate={"montage_frames": 4})  # other pictures, and so another report
    assert run_pipe(finished.root, "evaluate").returncode == 0
    refused = run_pipe(finished.root, "bundle")
    assert refused.returncode == 3
    assert "report.html: was made from another reports/evaluate.json" in refused.stderr
    assert refused.stderr.endswith("run `pipe report` again\n")
    assert not finished.bundle_zip.exists()
    for stage in ("report", "bundle"):  # the negative control
        assert run_pipe(finished.root, stage).returncode == 0
    assert finished.bundle_zip.is_file()


def test_a_second_repro_does_nothing(finished: Project) -> None:
    assert "Data and pipelines are up to date" in _run(finished.root, "dvc", "repro")


def test_an_earlier_version_comes_back_and_classifies(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    row = _test_rows(finished)[0]
    photo = str(shutil.copy(finished.root / row.path, finished.root.parent / "photo.jpg"))
    name_person(finished.root)
    typed(finished.root, ["dvc add data/raw"], monkeypatch)
    commit(finished.root, "shipped")
    typed(finished.root, ["git tag shipped-in-may", f"pipe remove {row.source}"], monkeypatch)
    commit(finished.root, "One clip less")
    before = run_pipe(finished.root, "predict", photo, "--json")
    for lost in (finished.frames, finished.checkpoint.parent, finished.raw):
        shutil.rmtree(lost)
    assert run_pipe(finished.root, "predict", photo, "--json").returncode == 1
    typed(finished.root, ["git checkout shipped-in-may", "dvc checkout"], monkeypatch)
    assert (finished.root / row.source).is_file()
    after = run_pipe(finished.root, "predict", photo, "--json")
    assert (after.returncode, after.stdout) == (0, before.stdout)


@pytest.mark.trial
def test_a_new_learning_rate_reruns_training_and_what_follows_and_nothing_before(finished: Project) -> None:
    set_params(finished, train={"lr": 0.002})
    status = json.loads(_run(finished.root, "dvc", "status", "--json"))
    assert list(status) == ["train"]
    before = _bytes_under(finished.root, [*_outs("extract"), *_outs("augment"), *_outs("split")])
    said = _run(finished.root, "dvc", "repro")
    ran = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
    assert ran == ["train", "evaluate", "export", "parity", "report", "bundle"]
    assert _bytes_under(finished.root, [*_outs("extract"), *_outs("augment"), *_outs("split")]) == before


@pytest.mark.trial
def test_a_queue_of_two_experiments_runs(finished: Project) -> None:
    _run(finished.root, "git", "add", "--all")
    _run(finished.root, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "ran")
    _run(finished.root, "git", "config", "user.name", "a")
    _run(finished.root, "git", "config", "user.email", "a@example.org")
    _run(finished.root, "dvc", "exp", "run", "--queue", "-S", "train.lr=0.002,0.0005", "-C", "data/raw", "train")
    _run(finished.root, "dvc", "queue", "start", "--jobs", "1")
    _wait_for_queue(finished.root)
    shown = json.loads(_run(finished.root, "dvc", "exp", "show", "--json"))
    rates = {
        entry["revs"][0]["data"]["params"]["params.yaml"]["data"]["train"]["lr"]
        for commit in shown
        for entry in commit.get("experiments") or []
    }
    assert rates == {0.002, 0.0005}


def _wait_for_queue(folder: Path) -> None:
    for _ in range(300):
        status = _run(folder, "dvc", "queue", "status")
        assert "Failed" not in status, status
        if status.count("Success") == 2:
            return
        time.sleep(1)
    raise AssertionError(status)


def _stages_run(output: str) -> list[str]:
    """The stages that `dvc repro` ran, in order, from what it printed."""
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def _comment(project: Project, *paths: str) -> None:
    for path in paths:
        with (project.root / path).open("a", encoding="utf-8") as file:
            file.write("\n# changed\n")


def test_a_change_of_training_leaves_extract_augment_and_split_as_they_are(finished: Project) -> None:
    set_params(finished, train={"lr": 0.005})
    _comment(finished, "pipeline/train/params.py", "pipeline/train/fit.py")
    assert list(json.loads(_run(finished.root, "dvc", "status", "--json"))) == ["train"]
    assert _stages_run(_run(finished.root, "dvc", "repro", "split")) == []


def test_a_change_of_extraction_runs_extract_and_later_stages_only_where_its_outputs_changed(
    finished: Project,
) -> None:
    _comment(finished, "pipeline/extract/stage.py")
    assert _stages_run(_run(finished.root, "dvc", "repro")) == ["extract"]
    set_params(finished, extract={"jpeg_quality": 60})
    assert _stages_run(_run(finished.root, "dvc", "repro", "split")) == ["extract", "augment", "split"]


@pytest.mark.parametrize("stage", DVC["stages"])
def test_a_stage_needs_nothing_but_its_declared_deps_and_writes_nothing_but_its_outs_and_the_cache(
    finished: Project, tmp_path: Path, stage: str
) -> None:
    copy = tmp_path / "copy"
    declared = DVC["stages"][stage]
    for name in [*declared["deps"], *COMMAND_LINE, "params.yaml"]:
        source, target = finished.root / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, target)
    before = {path for path in copy.rglob("*") if path.is_file()}
    home = tmp_path / "home"
    home.mkdir()
    _run(copy, sys.executable, "-B", "-c", ONLY_FROM_HERE, *declared["cmd"].split()[3:], home=home)
    # matplotlib keeps a list of the fonts that it finds; nothing else may be left outside the project.
    assert {path for path in home.rglob("*") if path.is_file() and "matplotlib" not in path.parts} == set()
    written = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file() and path not in before}
    assert written
    allowed = [*_outs(stage), ".cache"]  # the cache outlives runs, so it is no out, which DVC would delete before each
    others = {name for name in written if not any(name == out or name.startswith(f"{out}/") for out in allowed)}
    assert not others


@pytest.mark.parametrize("stage", DVC["stages"])
def test_ctrl_c_in_any_stage_leaves_nothing_half_written_and_the_same_command_then_works(
    finished: Project, stage: str
) -> None:
    command = [sys.executable, "-m", "pipeline", stage]
    outs = [out for name in DVC["stages"] for out in _outs(name)]
    before = _bytes_under(finished.root, outs)
    started = subprocess.Popen(command, cwd=finished.root, stderr=subprocess.PIPE, text=True, start_new_session=True)
    _wait_for_the_door(started)
    time.sleep(0.5)  # inside the imports of the heavy stages, inside the work of the light ones
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: every process of the group
    _, said = started.communicate(timeout=60)
    if started.returncode != 0:  # a light stage may have been faster
        assert started.returncode == 130, said
        assert said.strip() == "pipe: interrupted; the same command starts again cleanly"
        assert _bytes_under(finished.root, outs).items() <= before.items()
    _run(finished.root, *command)
    assert set(_bytes_under(finished.root, outs)) == set(before)


def _wait_for_the_door(started: subprocess.Popen[str]) -> None:
    """Wait until the command has taken charge of signals; before that Python itself dies of them."""
    for _ in range(1000):
        status = Path(f"/proc/{started.pid}/status").read_text(encoding="ascii")
        caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
        if caught >> (signal.SIGALRM - 1) & 1:
            return
        time.sleep(0.01)
    raise AssertionError("the command never took charge of signals")


def test_two_runs_from_scratch_give_the_same_frames_manifests_and_split(finished: Project, tmp_path: Path) -> None:
    again = _clone(tmp_path / "again")
    write_raw(again.raw, clips=3)
    shutil.copy(finished.params_yaml, again.params_yaml)
    for stage in ("extract", "augment", "split"):
        assert run_pipe(again.root, stage).returncode == 0
    names = [name for stage in ("extract", "augment", "split") for name in _outs(stage)]
    assert _bytes_under(again.root, names) == _bytes_under(finished.root, names)


@pytest.mark.trial
def test_real_clips_of_three_classes_become_a_bundle_that_agrees(shared: Path, tmp_path: Path) -> None:
    project = _clone(tmp_path / "real")
    shutil.copytree(shared / "data" / "clips", project.raw)
    set_params(project, split={"ratio": "0.7:0.3"}, augment={"copies": []})
    _run(project.root, "dvc", "repro")
    fp32 = read_json(project.parity_json)["variants"]["fp32"]
    assert fp32["verdict"] == "passed"
    assert fp32["flips"] == 0
    assert fp32["max_abs_logit_difference"] <= 3e-4 * fp32["logit_range"]
    groups = read_json(project.split_json)["groups"]
    assert not set(groups["train"]) & set(groups["test"])
    assert len(groups["test"]) >= 3
    _assert_bundle_agrees(project, tmp_path / "bundle")
