from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.network.calibration import fit_temperature, not_calibrated
from pipeline.network.checkpoint import read_checkpoint
from pipeline.network.inference import Frames, infer
from pipeline.params import read_params
from pipeline.train.stage import first_weights_identity
from tests.support.command import ROOT, run_pipe
from tests.support.small_project import set_params, small_project

_OBSERVED_RUN = """
import json
from pathlib import Path
import torch
from pipeline.train import precision, stage
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.params import read_params
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
dtypes, in_float32 = set(), precision._in_float32
def noted(forward, input_nchw):
    output = in_float32(forward, input_nchw)
    dtypes.add(str(output.dtype))
    return output
precision._in_float32 = noted
params = read_params(Path("params.yaml"))
stage.train(params.train, params.model, params.image, Project(Path.cwd()))
tf32 = [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]
print(json.dumps({"deterministic": torch.backends.cudnn.deterministic, "tf32": tf32, "dtypes": sorted(dtypes)}))
"""


_SPLIT_CHANGED_MEANWHILE = """
from pathlib import Path
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.cli.main import run
from pipeline.train.fit import Fit
run_epoch, split_csv = Fit.run_epoch, Project(Path.cwd()).split_csv
def changing(*arguments):
    split_csv.write_text(split_csv.read_text(encoding="utf-8").replace(",val,", ",train,"), encoding="utf-8")
    return run_epoch(*arguments)
Fit.run_epoch = changing
raise SystemExit(run(["train"]))
"""


@pytest.fixture
def small(tmp_path: Path) -> Project:
    return small_project(tmp_path / "small")


def test_without_validation_frames_there_is_no_temperature(small: Project) -> None:
    sides = {"val": "train"}
    rows = [
        dataclasses.replace(row, split=sides.get(row.split, row.split)) for row in manifest.read_split(small.split_csv)
    ]
    manifest.write_split(rows, small.split_csv)
    set_params(small, train={"epochs": 1})
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 0, finished.stderr
    assert read_checkpoint(small.checkpoint).calibration == not_calibrated("no validation frames; set split.val")


@pytest.mark.parametrize("freeze", ["all", "none"])
def test_the_temperature_is_fitted_to_the_validation_frames_of_the_kept_epoch(small: Project, freeze: str) -> None:
    rows = manifest.read_split(small.split_csv)
    held_out = [row for row in rows if row.split == "val"]
    shown = next(row for row in rows if row.split == "train" and row.label != held_out[0].label)
    # One frame that shows the other class is wrong, so that there is a best temperature.
    shutil.copy(small.root / shown.path, small.root / held_out[0].path)
    set_params(small, model={"freeze": freeze}, train={"epochs": 2, "keep": "best_val"})
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 0, finished.stderr
    checkpoint = read_checkpoint(small.checkpoint)
    frames = Frames(small, held_out, checkpoint.classes, checkpoint.preprocess)
    _, logits = infer(checkpoint.network(), frames, 8, "validation frames")
    truth = np.array([checkpoint.classes.index(row.label) for row in held_out])
    expected = fit_temperature(logits.numpy(), truth, [row.group for row in held_out])
    assert checkpoint.calibration.temperature == pytest.approx(expected, rel=1e-3)
    assert checkpoint.calibration.unknown_reason == "2 clips or photos to calibrate on; thresholds need 10"


def test_the_test_side_is_watched_and_the_best_epoch_on_it_kept(small: Project) -> None:
    set_params(small, train={"keep": "best_test", "epochs": 2})
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 0, finished.stderr
    assert read_checkpoint(small.checkpoint).selection == "best_test"
    curves = json.loads((small.train_reports / "metrics.json").read_text())
    assert set(curves["test"]) == {"loss", "accuracy", "mse"}
    assert f"kept epoch {curves['kept']['epoch']} of 2" in finished.stdout
    assert len(list((small.cache / "tensorboard").glob("*/events.*"))) == 1
    assert not list((small.cache / "resume").iterdir())


def test_a_gpu_computes_in_float32_and_adds_in_a_fixed_order(small: Project) -> None:
    assert _observed_in_a_run(small) == {"deterministic": True, "tf32": [False, False], "dtypes": []}


def test_on_a_cpu_the_strided_depthwise_convolutions_of_the_network_that_learns_leave_bf16(small: Project) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    set_params(small, model={"arch": "mobilenet_v2", "freeze": "none"}, train={"epochs": 1, "precision": "bf16"})
    assert _observed_in_a_run(small)["dtypes"] == ["torch.float32"]


def _observed_in_a_run(project: Project) -> dict[str, object]:
    """Return what a run sets and does inside, in a process of its own, since accelerate keeps its state for good."""
    command = [sys.executable, "-c", _OBSERVED_RUN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    observed: dict[str, object] = json.loads(finished.stdout.splitlines()[-1])
    return observed


def test_half_precision_of_16_bits_is_refused_without_a_gpu(small: Project) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    set_params(small, train={"precision": "fp16"})
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 1
    assert "train.precision: fp16 needs a GPU" in finished.stderr


@pytest.mark.parametrize("marked", [True, False])
def test_frames_that_screening_dropped_are_not_read(small: Project, marked: bool) -> None:
    rows = manifest.read_split(small.split_csv)
    for row in rows[:2]:
        (small.root / row.path).unlink()
    kept = [dataclasses.replace(row, kept=not marked or row not in rows[:2]) for row in rows]
    manifest.write_split(kept, small.split_csv)
    assert run_pipe(small.root, "train").returncode == (0 if marked else 1)


def test_a_run_that_starts_from_other_weights_of_the_same_name_is_another(tmp_path: Path, small: Project) -> None:
    weights = tmp_path / "weights.pt"
    model = read_params(small.params_yaml).model.model_copy(update={"weights": str(weights)})
    identities = set()
    for content in (b"some", b"some", b"others"):
        weights.write_bytes(content)
        identities.add(first_weights_identity(model))
    assert len(identities) == 2
    assert first_weights_identity(model.model_copy(update={"weights": "imagenet"})) == "imagenet"


def test_a_frozen_backbone_keeps_every_weight(small: Project) -> None:
    set_params(small, model={"freeze": "all"}, train={"epochs": 1})
    assert run_pipe(small.root, "train").returncode == 0
    frozen = read_checkpoint(small.checkpoint).state_dict
    set_params(small, train={"epochs": 2})
    assert run_pipe(small.root, "train").returncode == 0
    again = read_checkpoint(small.checkpoint).state_dict
    assert all(torch.equal(frozen[name], again[name]) for name in frozen if name.startswith("backbone."))
    assert any(not torch.equal(frozen[name], again[name]) for name in frozen if name.startswith("head."))


def test_the_whole_network_trains_when_it_is_not_frozen_and_the_same_seed_gives_the_same_weights(
    small: Project,
) -> None:
    set_params(
        small,
        model={"freeze": "none", "head": "fc", "fc_widths": [8, 4], "fc_dropouts": [0.5, 0.5]},
        train={"epochs": 2},
    )
    states = []
    for _ in range(2):
        finished = run_pipe(small.root, "train")
        assert finished.returncode == 0, finished.stderr
        states.append(read_checkpoint(small.checkpoint).state_dict)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    curves = json.loads((small.train_reports / "metrics.json").read_text())
    assert set(curves) == {"train", "val", "kept", "step"}


def test_the_curves_are_there_for_dvc_to_plot(exported: Project) -> None:
    losses = (exported.train_reports / "plots" / "metrics" / "train" / "loss.tsv").read_text().splitlines()
    assert len(losses) == 1 + 3  # a header and an epoch a line


def test_a_split_that_changes_during_training_gives_no_checkpoint(small: Project) -> None:
    before = small.split_csv.read_bytes()
    command = [sys.executable, "-c", _SPLIT_CHANGED_MEANWHILE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, cwd=small.root, env=environment, capture_output=True, text=True, check=False)
    assert small.split_csv.read_bytes() != before
    assert finished.returncode == 1, finished.stderr
    assert finished.stderr.strip().endswith(
        "split.csv: changed during training, so no checkpoint was written; run `pipe train` again"
    )
    assert not small.checkpoint.exists()
    assert not small.train_reports.exists()


def test_training_refuses_a_split_with_a_group_on_two_sides(small: Project) -> None:
    rows = manifest.read_split(small.split_csv)
    test_row = next(row for row in rows if row.split == "test")
    manifest.write_split(
        [dataclasses.replace(row, split="train") if row == test_row else row for row in rows], small.split_csv
    )
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 3
    assert test_row.group in finished.stderr
    assert not small.checkpoint.exists()


def test_an_exploding_loss_stops_with_the_epoch_and_what_to_try(small: Project) -> None:
    set_params(small, model={"freeze": "none"}, train={"lr": 1e30, "precision": "fp32"})
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 1
    assert "lower train.lr" in finished.stderr
    assert not small.checkpoint.exists()
    assert not small.train_reports.exists()


def test_a_missing_frame_is_one_clear_line(small: Project) -> None:
    row = next(row for row in manifest.read_split(small.split_csv) if row.split == "train")
    (small.root / row.path).unlink()
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 1
    assert Path(row.path).name in finished.stderr
    assert finished.stderr.strip().count("\n") == 0


def test_another_loss_optimiser_and_schedule_train_too(small: Project) -> None:
    set_params(
        small,
        train={
            "loss": {"name": "focal", "gamma": 0.25, "alpha": [1.0, 2.0]},
            "optimizer": "nadam",
            "schedule": {"name": "step", "every": 1, "factor": 0.1},
            "clip_gradient_norm": 1.0,
            "keep": "best_val",
        },
    )
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 0, finished.stderr
    rates = (small.train_reports / "plots" / "metrics" / "train" / "lr.tsv").read_text().split()[3::2]
    assert [float(rate) for rate in rates] == pytest.approx([1e-3, 1e-4, 1e-5])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": {"name": "focal", "gamma": 2.0, "alpha": [1.0]}}, "train.loss.alpha: found 1 weights; expected 2"),
        ({"loss": {"name": "focal", "gama": 2.0, "alpha": None}}, "the nearest valid name is 'gamma'"),
        (
            {"watch_test": True, "test_called": "val", "estimate": "holdout"},
            "train.test_called: the validation clips are called val; use test, or set split.val: null",
        ),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(small: Project, changed: dict[str, object], message: str) -> None:
    set_params(small, train=changed)
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 1
    assert message in finished.stderr


def test_the_best_epoch_needs_validation_clips(small: Project) -> None:
    set_params(small, train={"keep": "best_val"})
    rows = manifest.read_split(small.split_csv)
    manifest.write_split([row for row in rows if row.split != "val"], small.split_csv)
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 1
    assert "need validation clips; set split.val" in finished.stderr


def test_the_centres_of_the_joint_loss_are_in_no_checkpoint_and_so_in_no_graph(small: Project) -> None:
    joint = {"name": "joint", "centre_weight": 1.0, "delta": 1.0, "centre_lr": 0.5}
    set_params(small, train={"epochs": 1, "loss": joint})
    finished = run_pipe(small.root, "train")
    assert finished.returncode == 0, finished.stderr
    checkpoint = read_checkpoint(small.checkpoint)
    names = set(checkpoint.state_dict)
    assert names == set(checkpoint.network().state_dict())  # graphs are built from this network alone
    with pytest.raises(DataError, match="centres"):  # a centre in the checkpoint would be refused
        dataclasses.replace(checkpoint, state_dict=checkpoint.state_dict | {"centres": torch.zeros(2)}).network()


_FEATURES_TAKE_TWO_MINUTES = """
import time
from pipeline.cli.main import run
from pipeline.train.inputs.feature_cache import _Embedder
clock, fill, later = time.perf_counter, _Embedder.fill, [0.0]
time.perf_counter = lambda: clock() + later[0]
def slow(*arguments):
    later[0] += 120
    return fill(*arguments)
_Embedder.fill = slow
raise SystemExit(run(["train"]))
"""


def test_the_minutes_hold_the_time_of_features_that_lie_ready(small: Project) -> None:
    set_params(small, model={"freeze": "all"}, train={"epochs": 2})
    command, environment = [sys.executable, "-c", _FEATURES_TAKE_TWO_MINUTES], {**os.environ, "PYTHONPATH": str(ROOT)}
    caching = []
    for _ in range(2):
        finished = subprocess.run(command, cwd=small.root, env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        last_epoch = json.loads((small.train_reports / "metrics.json").read_text(encoding="utf-8"))["train"]
        assert 2 <= last_epoch["caching_minutes"] < last_epoch["minutes"] < 3
        caching.append(last_epoch["caching_minutes"])
    assert caching[0] == caching[1]


_GROWING = """
import json, shutil, sys
from pathlib import Path
import torch
from pipeline.base import manifest
from pipeline.base.project import Project
from pipeline.network.checkpoint import read_checkpoint
from pipeline.params import read_params
from pipeline.train import stage
from pipeline.train.inputs import frame_cache
project, params = Project(Path.cwd()), read_params(Path("params.yaml"))
rows = manifest.read_split(project.split_csv)
decode, n_decoded = frame_cache.read_frame, []
def counting(project, row):
    n_decoded[-1] += 1
    return decode(project, row)
frame_cache.read_frame = counting
def weights(rows):
    n_decoded.append(0)
    manifest.write_split(rows, project.split_csv)
    model = params.model.model_copy(update={"freeze": sys.argv[1]})
    stage.train(params.train, model, params.image, project)
    return read_checkpoint(project.checkpoint).state_dict
for part in ([row for row in rows if "clip_1" not in row.source], rows[::-1]):
    weights(part)
after_others = weights(rows)
shutil.rmtree(project.cache)
without = weights(rows)
print(json.dumps({
    "equal": [torch.equal(value, without[name]) for name, value in after_others.items()],
    "decoded": n_decoded,
}))
"""


@pytest.mark.parametrize("freeze", ["all", "none"])
def test_the_weights_are_the_same_with_and_without_the_cache_and_old_frames_are_not_decoded_again(
    small: Project, freeze: str
) -> None:
    flip = {"name": "mirror_left_right", "probability": 0.5}
    set_params(small, train={"epochs": 1, "online": [flip], "cached_views": 2})
    command, environment = [sys.executable, "-c", _GROWING, freeze], {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, cwd=small.root, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout.splitlines()[-1])
    assert all(report["equal"])
    first, second, third, anew = report["decoded"]
    assert min(first, second) > 0
    assert (third, anew) == (0, first + second)
