"""The chain on CUDA; these tests need a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from export.graphs.preprocess_graph import preprocess_graph
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.network.checkpoint import read_checkpoint
from pipeline.network.network import build_network
from pipeline.network.params import ModelParams
from pipeline.network.preprocess import Preprocess
from pipeline.network.torch_settings import forbid_tf32
from pipeline.params import read_params
from pipeline.train.inputs.batched_views import batched_views, padded
from pipeline.train.inputs.random_views import random_views, view_generator
from pipeline.train.params import TrainParams
from runtime.archive import unpack
from tests.support.command import ROOT, run_pipe
from tests.support.report_project import with_data_reports
from tests.support.small_project import set_params, small_project

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees none")

ONLINE = [
    {"name": "random_resized_crop", "area": [0.25, 1.0], "aspect": [0.75, 1.33]},
    {"name": "mirror_left_right", "probability": 0.5},
    {"name": "affine", "degrees": 15.0, "translate": 0.1, "scale": [0.9, 1.1], "shear_degrees": 9.0, "fill": "nearest"},
    {"name": "colour_jitter", "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05},
]  # fmt: skip
DIES_IN_EPOCH_3 = """
import os, signal, sys
from pipeline.cli import main as cli; from pipeline.train.fit import Fit
run_epoch = Fit.run_epoch
def die_at_3(fit, epoch, *arguments):
    if epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return run_epoch(fit, epoch, *arguments)
Fit.run_epoch = die_at_3
sys.argv[1:] = ["train"]
cli.main()
"""


@pytest.fixture
def whole(tmp_path: Path) -> Project:
    """A network that is fitted whole, of a size at which cuDNN's fastest kernels give other bits every time."""
    project = small_project(tmp_path / "whole")
    set_params(
        project,
        model={"arch": "mobilenet_v2", "freeze": "none", "head": "fc", "fc_widths": [8], "fc_dropouts": [0.5]},
        image={"size": 224},
        train={"online": ONLINE, "precision": "fp32", "epochs": 4, "batch_size": 8},
    )
    return project


def _trained(project: Project) -> dict[str, Tensor]:
    finished = run_pipe(project.root, "train")
    assert finished.returncode == 0, finished.stderr
    state = read_checkpoint(project.checkpoint).state_dict
    assert all(value.device.type == "cpu" for value in state.values())
    return state


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("freeze", ["none", "all"])
def test_a_gpu_trains_in_every_precision(whole: Project, precision: str, freeze: str) -> None:
    set_params(whole, model={"freeze": freeze}, train={"precision": precision})
    finished = run_pipe(whole.root, "train")
    assert finished.returncode == 0, finished.stderr
    assert f"images ({precision})" in finished.stdout
    assert read_json(whole.train_reports / "metrics.json")["train"]["loss"] < 1.0


def test_the_same_seed_gives_the_same_weights_on_a_gpu(whole: Project) -> None:
    assert _same(_trained(whole), _trained(whole))


def test_a_run_killed_on_a_gpu_continues_and_ends_with_the_same_weights(whole: Project) -> None:
    undisturbed = _trained(whole)
    _killed_in_epoch_3_and_run_again(whole)
    assert _same(undisturbed, read_checkpoint(whole.checkpoint).state_dict)


def _killed_in_epoch_3_and_run_again(project: Project) -> str:
    killed = subprocess.run(
        [sys.executable, "-c", DIES_IN_EPOCH_3],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -9
    finished = run_pipe(project.root, "train")
    assert finished.returncode == 0, finished.stderr
    assert "going on after epoch 2" in finished.stderr + finished.stdout
    return finished.stdout


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("freeze", ["none", "all"])
@pytest.mark.parametrize("arch", ["mobilenet_v2", "resnet34"])
def test_a_killed_run_goes_on_in_half_precision(whole: Project, arch: str, freeze: str, precision: str) -> None:
    set_params(whole, model={"arch": arch, "freeze": freeze}, train={"precision": precision})
    assert f"images ({precision})" in _killed_in_epoch_3_and_run_again(whole)
    assert read_json(whole.train_reports / "metrics.json")["train"]["loss"] < 1.0


def test_one_process_of_a_launcher_has_the_weights_of_a_run_without_it(whole: Project) -> None:
    alone = _trained(whole)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    launched = subprocess.run(
        [*launcher, "-m", "pipeline", "train"],
        cwd=whole.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    assert _same(alone, read_checkpoint(whole.checkpoint).state_dict)


def test_float32_on_a_gpu_is_that_of_a_cpu_and_tf32_is_not(whole: Project) -> None:
    params = read_params(whole.params_yaml)
    torch.manual_seed(0)
    model = ModelParams.model_validate({**params.model.model_dump(), "arch": "resnet18", "head": "linear"})
    network = build_network(model, 224, 2).eval()
    input_nchw = torch.randn(4, 3, 224, 224)
    with torch.inference_mode():
        expected = network(input_nchw)
        network.cuda()
        forbid_tf32()
        exact = network(input_nchw.cuda()).cpu()
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        rough = network(input_nchw.cuda()).cpu()
        forbid_tf32()
    span = float(expected.max() - expected.min())
    assert float((exact - expected).abs().max()) < 1e-5 * span
    assert float((rough - expected).abs().max()) > 1e-5 * span


def test_the_views_of_a_batch_on_a_gpu_are_those_of_single_pictures_on_a_cpu(whole: Project) -> None:
    views = read_section(whole.params_yaml, "train", TrainParams).online
    torch.manual_seed(0)
    rough_nchw = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    pictures_nchw = functional.interpolate(rough_nchw, size=(256, 256), mode="bilinear")

    def generators(epoch: int) -> list[np.random.Generator]:
        return [view_generator(0, epoch, index) for index in range(4)]

    pictures_hwc = [*pictures_nchw.permute(0, 2, 3, 1).numpy()]
    together = batched_views(padded(pictures_hwc, torch.device("cuda")), views, generators(0), 224).cpu().float()
    difference = (together - random_views(pictures_nchw, views, generators(0), 224)).abs()
    assert float((difference > 1).float().mean()) < 0.001  # a level before a change of colour may be two behind it
    assert float((together - random_views(pictures_nchw, views, generators(1), 224)).abs().mean()) > 20


@pytest.mark.parametrize("n_transforms", [1, 2])
def test_a_crop_and_a_mirror_on_a_gpu_are_those_of_a_cpu_bit_for_bit(whole: Project, n_transforms: int) -> None:
    set_params(whole, train={"online": ONLINE[:n_transforms]})
    views = read_section(whole.params_yaml, "train", TrainParams).online
    pictures_hwc = [*np.random.default_rng(0).integers(0, 256, (8, 400, 300, 3), dtype=np.uint8)]
    drawn = []
    for device in ("cuda", "cpu"):
        generators = [view_generator(0, 0, index) for index in range(8)]
        drawn.append(batched_views(padded(pictures_hwc, torch.device(device)), views, generators, 224).cpu().int())
    assert torch.equal(*drawn)  # the sums have no rounding errors, in whatever order they are added


@pytest.mark.parametrize("sides", [(1080, 1920), (100, 150), (5, 2000)])
@pytest.mark.parametrize("n_pictures", [1, 3])
def test_preprocessing_on_cuda_is_that_of_torch(n_pictures: int, sides: tuple[int, int]) -> None:
    preprocess = Preprocess(224, "squash", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    graph = preprocess_graph(preprocess, 18).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CUDAExecutionProvider"])
    assert "CUDAExecutionProvider" in session.get_providers()
    images_nhwc = np.random.default_rng(0).integers(0, 256, (n_pictures, *sides, 3), dtype=np.uint8)
    expected = preprocess(torch.from_numpy(images_nhwc)).numpy()
    np.testing.assert_allclose(session.run(None, {"image": images_nhwc})[0], expected, rtol=0, atol=1e-4)


def test_parity_and_the_bundle_pass_on_cuda_and_prove_that_they_ran_there(exported: Project, tmp_path: Path) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA")
    judged = read_json(exported.parity_json)
    assert judged["passed"], judged
    shutil.copytree(ROOT / "runtime", exported.root / "runtime")
    for stage in ("report", "bundle"):
        finished = run_pipe(with_data_reports(exported).root, stage)
        assert finished.returncode == 0, finished.stderr
    unpack(exported.bundle_zip, tmp_path / "bundle")
    report = _selfcheck(tmp_path / "bundle")
    assert report["passed"], report
    on_cuda = [check for check in report["variants"] if check["provider"] == "CUDAExecutionProvider"]
    assert {check["variant"] for check in on_cuda} == {check["variant"] for check in report["variants"]}
    assert all(check["placement"]["nodes"]["CUDAExecutionProvider"] for check in on_cuda)
    hidden = _selfcheck(tmp_path / "bundle", CUDA_VISIBLE_DEVICES="")
    assert {check["provider"] for check in hidden["variants"]} == {"CPUExecutionProvider"}
    assert "CUDAExecutionProvider" in hidden["not_used"]


def _selfcheck(bundle: Path, **environment: str) -> dict[str, object]:
    finished = subprocess.run(
        [sys.executable, "-m", "runtime", "selfcheck", "--json"],
        cwd=bundle, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    report: dict[str, object] = json.loads(finished.stdout)
    return report
