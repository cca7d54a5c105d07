"""How many cached views are as good as fresh ones: `python benchmarks/views.py`.

The photos, weights, views and rates are those of `train.py`: a linear head on frozen MobileNetV2, 100 epochs. A few
whole runs cannot tell one photo of 80 from chance, and a frozen backbone gives the same features of a view every time.
So 320 views of every training photo go through it once, ours (frame cache, then the views of `train.online`) and the
loop's (every view cut from the decoded photo by torchvision), and each seed trains heads on its own draw of them: on
8 or 32 views in turn, and on 100, one an epoch, which is what fresh views are. Accuracies are of the held-out photos;
the differences are means over seeds of the same number, with their standard errors.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler
from train import (
    BATCH_FROZEN,
    EPOCHS,
    LR,
    ONLINE,
    SIZE,
    WEIGHTS,
    params_with,
    project_of_photos,
    rows_of,
    view_of_the_loop,
)

from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.network.network import Network, build_network, build_preprocess
from pipeline.train.inputs.batches import Images, label_images
from pipeline.train.inputs.feature_cache import exact_features, fold_batch_norm, view_features

SEEDS = 60
POOL = 320  # views of a photo that all seeds draw from
CACHED = (8, 32, EPOCHS)
CPU = torch.device("cpu")

Tops = dict[str, list[float]]  # accuracy by "whose views, how many", one a seed


@dataclass(frozen=True)
class Features:
    """Features of the frozen backbone."""

    train: Tensor  # (photos, POOL, channels)
    labels: Tensor
    test: Tensor  # (held-out photos, channels) float32
    truth: Tensor


def main() -> None:
    """Run and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = _result(_tops(_features(project_of_photos(Path(folder))), range(SEEDS)))
    print("\n".join(f"{name:44} {value}" for name, value in result.items()))


def _features(project: Project) -> dict[str, Features]:
    params = params_with(
        model={"arch": "mobilenet_v2", "weights": str(WEIGHTS), "freeze": "all", "head": "linear"},
        image={"size": SIZE},
        train={"online": ONLINE, "cached_views": POOL},
    )
    network = build_network(params.model, SIZE, 2).eval().to(memory_format=torch.channels_last)
    preprocess = build_preprocess(params.model, params.image)
    classes = sorted({row.label for row in rows_of(project, "train")})
    train, test = (label_images(project, rows_of(project, side), classes, preprocess) for side in ("train", "test"))
    held_out = exact_features(network, test, BATCH_FROZEN).features[:, 0].float()
    drawn = {
        "ours": view_features(network, train, params.train, torch.bfloat16, CPU).features,
        "the loop's": _features_of_the_loop(network, train),
    }
    return {name: Features(features, train.labels, held_out, test.labels) for name, features in drawn.items()}


@torch.inference_mode()
def _features_of_the_loop(network: Network, images: Images) -> Tensor:
    """Return features of the loop's views, through the backbone in bf16, as ours are."""
    network.backbone = fold_batch_norm(network.backbone).to(memory_format=torch.channels_last)
    transform = view_of_the_loop()
    photos = [Image.open(images.project.root / row.path).convert("RGB") for row in images.rows]
    torch.manual_seed(0)
    features = []
    for _ in track(range(POOL), "views of the loop", POOL):
        input_nchw = torch.stack([transform(photo) for photo in photos]).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features.append(network.embed(input_nchw).bfloat16())
    return torch.stack(features, dim=1)


def _tops(features: Mapping[str, Features], seeds: Sequence[int]) -> Tops:
    tops: Tops = {}
    for seed in track(seeds, "heads", len(seeds)):
        for name, values in features.items():
            turns = np.tile(np.arange(POOL), (len(values.labels), 1))
            for n_views in CACHED:
                order = np.random.default_rng((seed, n_views)).permuted(turns, axis=1)[:, :n_views]
                tops.setdefault(f"{name}, {n_views} views", []).append(_top1(values, order, seed))
    return tops


def _top1(features: Features, order: np.ndarray, seed: int) -> float:
    """Accuracy of a head that saw photo i in epoch e in its view `order[i, e % views]`."""
    torch.manual_seed(seed)
    head = nn.Linear(features.test.shape[1], 2)
    optimizer = torch.optim.Adam(head.parameters(), LR)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        view = torch.from_numpy(order[:, epoch % order.shape[1]])
        for batch in torch.randperm(len(features.labels)).split(BATCH_FROZEN):
            optimizer.zero_grad()
            logits = head(features.train[batch, view[batch]].float())
            functional.cross_entropy(logits, features.labels[batch]).backward()
            optimizer.step()
        schedule.step()
    with torch.inference_mode():
        return float((head(features.test).argmax(dim=1) == features.truth).float().mean())


def _result(tops: Tops) -> dict[str, str]:
    lines = {name: f"{100 * statistics.mean(values):.2f} % over {len(values)} seeds" for name, values in tops.items()}
    fresh = tops[f"the loop's, {EPOCHS} views"]
    for name, values in tops.items():
        points = [100 * (top - of_fresh) for top, of_fresh in zip(values, fresh, strict=True)]
        if values is not fresh:
            error = statistics.stdev(points) / len(points) ** 0.5
            lines[f"{name}, less fresh ones of the loop"] = f"{statistics.mean(points):+.2f} +- {error:.2f} points"
    return lines


if __name__ == "__main__":
    main()
