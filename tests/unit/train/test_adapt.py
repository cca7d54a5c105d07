"""Opening the last blocks after the head is fitted, and the choice between that and the head alone."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from pipeline.base import manifest
from pipeline.base.errors import ParamsError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.checkpoint import read_checkpoint
from pipeline.network.heads import Head
from pipeline.network.network import Network, build_network
from pipeline.network.out_of_fold import read_fold_heads
from pipeline.network.params import FreezeUpTo, ModelParams
from pipeline.params import read_params
from pipeline.train import stage
from pipeline.train.adapt import Training, _without, choose_adaptation, open_blocks
from pipeline.train.fit import Fit
from pipeline.train.folds import FoldData, Part
from pipeline.train.inputs.feature_cache import CachedFeatures
from pipeline.train.run import RunContext
from pipeline.train.stage import TrainReport
from tests.support.small_project import in_folds, set_params, small_project

MODEL = {
    "weights": "none", "freeze": "all", "head": "linear", "pooling": "average", "fc_widths": [], "fc_dropouts": [],
    "output": "softmax",
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Project:
    project = small_project(tmp_path / "small")
    in_folds(project)
    set_params(project, train={"adapt": "tune", "precision": "fp32"})
    return project


def _train(project: Project) -> TrainReport:
    params = read_params(project.params_yaml)
    report = stage.train(params.train, params.model, params.image, project)
    assert report is not None
    return report


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def _weights(project: Project) -> dict[str, Tensor]:
    return read_checkpoint(project.checkpoint).state_dict


def test_tune_fits_the_head_and_then_the_last_blocks(small: Project, capsys: pytest.CaptureFixture[str]) -> None:
    set_params(small, train={"adapt": "head", "estimate": "holdout"})
    _train(small)
    by_head = _weights(small)
    set_params(small, train={"adapt": "tune", "estimate": "auto"})
    report = _train(small)
    checkpoint = read_checkpoint(small.checkpoint)
    assert isinstance(checkpoint.model.freeze, FreezeUpTo)  # what a reader of the checkpoint may rely on
    moved = {name for name, value in checkpoint.state_dict.items() if not torch.equal(value, by_head[name])}
    assert {name.split(".")[1] for name in moved if name.startswith("backbone.")} == {"layer4"}
    assert not [name for name in moved if "running_" in name]
    assert "head.classify.0.weight" in moved
    assert (checkpoint.estimate, checkpoint.refit) == ("holdout", "none")
    assert read_fold_heads(small.fold_heads) == []
    assert "the test side judges the network, not folds: train.adapt is tune" in _said(capsys)
    assert "kept epoch 6 of 6" in report.headline
    network = json.loads((small.train_reports / "network.json").read_text(encoding="utf-8"))
    learning = {layer["name"] for layer in network["layers"] if layer["n_trained_parameters"]}
    assert learning == {"backbone.layer4", "head.classify.0"}
    rates = (small.train_reports / "plots" / "metrics" / "train" / "lr.tsv").read_text(encoding="utf-8").split()
    assert [float(rate) for rate in rates[3::2]] == pytest.approx([1e-3] * 3 + [1e-4, 7.5e-5, 2.5e-5])
    assert not list((small.cache / "resume").iterdir())


@contextlib.contextmanager
def _killed_in_epoch(number: int) -> Iterator[list[int]]:
    """Ctrl-C comes in that epoch, the epochs of the head counted too; gives the numbers of those that began."""
    begun, run_epoch = list[int](), Fit.run_epoch

    def counted(*arguments: object) -> object:
        begun.append(len(begun) + 1)
        if len(begun) == number:
            raise KeyboardInterrupt
        return run_epoch(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "run_epoch", counted)
        yield begun


def test_a_run_that_is_killed_while_the_blocks_learn_goes_on_there(small: Project) -> None:
    set_params(small, train={"epochs": 2})
    _train(small)
    whole = _weights(small)
    with _killed_in_epoch(4) as begun:
        with pytest.raises(KeyboardInterrupt):
            _train(small)
        _train(small)
    assert begun == [1, 2, 3, 4, 5]  # one epoch of the blocks was left
    resumed = _weights(small)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_the_curves_and_the_minutes_of_the_blocks_go_on_from_those_of_the_head(
    small: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params(small, train={"epochs": 2})
    monkeypatch.setenv("DVC_EXP_NAME", "small.tune")
    with _killed_in_epoch(3), pytest.raises(KeyboardInterrupt):
        _train(small)
    _train(small)
    curve = (small.train_reports / "plots" / "metrics" / "train" / "minutes.tsv").read_text(encoding="utf-8").split()
    minutes = [float(value) for value in curve[3::2]]
    assert len(minutes) == 4
    assert minutes == sorted(minutes)
    (folder,) = small.tensorboard.iterdir()
    assert folder.name == "small.tune"
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]


def test_auto_says_what_it_found_and_ships_it(
    small: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(small, train={"adapt": "auto", "epochs": 1})
    _train(small)
    found = json.loads((small.adapt_json()).read_text(encoding="utf-8"))
    assert found["n_clips"] == 4  # of the training side
    assert found["minutes"] > 0
    assert f"train.adapt: auto chose {found['chosen']}: of 4 training clips" in _said(capsys)
    assert (found["chosen"] == "tune") == (found["right"]["tune"] > found["right"]["head"])
    is_tuned = isinstance(read_checkpoint(small.checkpoint).model.freeze, FreezeUpTo)
    assert is_tuned == (found["chosen"] == "tune")
    provenance = json.loads((small.train_reports / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["params"]["train"]["adapt"] == "auto"
    assert not list((small.cache / "resume").iterdir())
    # The other one, by a result that is made up.
    other = "head" if is_tuned else "tune"
    made_up = Mock(way=other, to_json=lambda: {"chosen": other})
    monkeypatch.setattr(stage, "choose_adaptation", lambda *_: made_up)
    _train(small)
    checkpoint = read_checkpoint(small.checkpoint)
    assert isinstance(checkpoint.model.freeze, FreezeUpTo) == (other == "tune")
    assert checkpoint.estimate == ("holdout" if other == "tune" else "folds")


def test_without_folds_auto_keeps_to_the_head_and_says_so(small: Project, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [replace(row, fold=None) for row in manifest.read_split(small.split_csv)]
    manifest.write_split(rows, small.split_csv)
    set_params(small, train={"adapt": "auto", "epochs": 1})
    _train(small)
    assert "train.adapt: auto keeps to the head: the training side has no two folds" in _said(capsys)
    assert read_checkpoint(small.checkpoint).model.freeze == "all"
    assert not small.adapt_json().exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": {"freeze": "none"}}, "train.adapt: tune does not go with this run: model.freeze is not all"),
        ({"train": {"keep": "best_val"}}, "train.keep: best_val compares epochs"),
        ({"train": {"patience_epochs": 2}}, "train.patience_epochs may stop before"),
        (
            {"train": {"online": [{"name": "grey", "probability": 0.5}], "cached_views": 0}},
            "train.cached_views is 0, so nothing is kept of a view",
        ),
        ({"train": {"estimate": "folds"}}, "train.estimate: folds does not go with this run: train.adapt is tune"),
        ({"train": {"estimate": "folds", "adapt": "auto"}}, "folds cannot judge opened blocks, which auto may choose"),
        ({"train": {"refit": "all", "adapt": "auto"}}, "train.adapt: auto does not go with this run: train.refit: all"),
    ],
)
def test_what_does_not_go_with_opened_blocks_is_refused_in_one_line(
    small: Project, changed: dict[str, dict[str, object]], words: str
) -> None:
    set_params(small, **changed)
    with pytest.raises(ParamsError) as refused:
        _train(small)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not small.checkpoint.exists()


@pytest.mark.parametrize(("arch", "dtype"), [("efficientnet_lite0", torch.float32), ("resnet18", torch.bfloat16)])
def test_blocks_with_depthwise_convolutions_learn_in_float32(arch: str, dtype: torch.dtype) -> None:
    network = build_network(ModelParams.model_validate({**MODEL, "arch": arch}), 64, 2)
    blocks = open_blocks(network)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        maps_nchw = blocks.frozen.eval().embed(torch.rand(1, 3, 64, 64))
        assert maps_nchw.dtype == torch.bfloat16
        assert blocks.opened.eval().backbone(maps_nchw).dtype == dtype


# The choice, on numbers instead of pictures

N_CLIPS, N_FRAMES = 6, 3


def _rows() -> list[Row]:
    """Frames of six clips of two classes, in three folds, each with a copy."""
    frames = [
        Row(f"{clip}/{frame}", "ab"[clip % 2], f"clip{clip}", "", f"clip{clip}", split="train", fold=clip // 2)
        for clip in range(N_CLIPS)
        for frame in range(N_FRAMES)
    ]
    return [*frames, *(replace(row, path=f"{row.path}.copy", parent=row.path) for row in frames)]


def _inputs(rows: Sequence[Row]) -> Tensor:
    """Pictures (n, 3, 4, 4): the first channel shows the class."""
    generator = torch.Generator().manual_seed(0)
    pictures_nchw = torch.randn(len(rows), 3, 4, 4, generator=generator) * 0.1
    pictures_nchw[:, 0] += torch.tensor([2.0 * (row.label == "a") for row in rows]).view(-1, 1, 1)
    return pictures_nchw


def _network(last: nn.Conv2d) -> Network:
    backbone = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU(), last)
    with torch.no_grad():
        for layer in (backbone[0], backbone[2]):
            nn.init.dirac_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    torch.manual_seed(0)
    head = Head(nn.Sequential(), nn.Sequential(nn.Linear(3, 2)))
    network = Network(backbone.requires_grad_(False), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), head, 4)
    network.frozen_parts = tuple(network.backbone.modules())
    return network


def _data_of(network: Network, learned: Sequence[Row], judged: Sequence[Row]) -> FoldData:
    def features(rows: Sequence[Row]) -> CachedFeatures:
        labels = torch.tensor([int(row.label == "b") for row in rows])
        with torch.no_grad():
            embedded = network.eval().embed(_inputs(rows))
        return CachedFeatures(embedded[:, None], torch.zeros(len(rows), 1, dtype=torch.int64), labels)

    return FoldData(learned, features(learned), judged, features(judged))


def _run(project: Project) -> RunContext:
    return RunContext(Accelerator(cpu=True), project, "choice", time.perf_counter(), is_shown=False)


def test_auto_opens_the_blocks_where_frozen_features_do_not_tell_the_classes_apart(small: Project) -> None:
    params = read_params(small.params_yaml).train.model_copy(update={"epochs": 20, "lr": 0.1})
    blind = nn.Conv2d(3, 3, 1)
    nn.init.zeros_(blind.weight)
    network = _network(blind)
    before = copy.deepcopy(network.state_dict())
    choice = choose_adaptation(network, params, Training(_rows(), _rows(), _data_of), 2, _run(small))
    assert choice is not None
    assert (choice.way, choice.n_clips, choice.right["tune"]) == ("tune", N_CLIPS, N_CLIPS)
    assert choice.right["head"] <= N_CLIPS // 2  # every head sees constant features
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())


def test_auto_keeps_to_the_head_where_both_ways_get_the_same_number_right(small: Project) -> None:
    params = read_params(small.params_yaml).train.model_copy(update={"epochs": 20, "lr": 0.1})
    seeing = nn.Conv2d(3, 3, 1)
    nn.init.dirac_(seeing.weight)
    choice = choose_adaptation(_network(seeing), params, Training(_rows(), _rows(), _data_of), 2, _run(small))
    assert choice is not None
    assert (choice.way, choice.right) == ("head", {"head": N_CLIPS, "tune": N_CLIPS})


def test_each_way_learns_from_what_it_would_ship_with(small: Project) -> None:
    params = read_params(small.params_yaml).train.model_copy(update={"epochs": 1})
    training = _rows()
    test_side = [replace(row, path=f"test/{row.path}", group=f"{row.group}t", split="test") for row in training]
    asked: list[tuple[int, int]] = []

    def data_of(network: Network, learned: Sequence[Row], judged: Sequence[Row]) -> FoldData:
        assert {row.split for row in judged} == {"train"}
        asked.append((len(learned), len(judged)))
        return _data_of(network, learned, judged)

    network = _network(nn.Conv2d(3, 3, 1))
    choose_adaptation(network, params, Training([*training, *test_side], training, data_of), 2, _run(small))
    assert asked == [(4 * N_CLIPS * N_FRAMES, N_CLIPS * N_FRAMES), (2 * N_CLIPS * N_FRAMES, N_CLIPS * N_FRAMES)]


def test_neither_way_learns_from_the_clips_that_it_is_judged_by() -> None:
    network = _network(nn.Conv2d(3, 3, 1))
    rows = _rows()
    data = _data_of(network, rows, [row for row in rows if not row.is_copy])
    for number in data.numbers:
        inputs, unseen = _without(number, data, network.head)
        assert isinstance(inputs.train, Part)
        seen = {rows[position].group for position in inputs.train.positions}
        judged = {data.judged_rows[position].group for position in unseen.positions}
        assert not seen & judged
        assert seen | judged == {row.group for row in rows}
        assert len(inputs.labels) == len(inputs.train) == 2 * (N_CLIPS - 2) * N_FRAMES
