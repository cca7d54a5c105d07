"""How well the threshold recognises material that was not trained on: each class of a folder is left out in turn.

    python benchmarks/unknown.py FOLDER WEIGHTS    # FOLDER/<class>/*.jpg; weights of MobileNetV2, or imagenet

On frozen features a linear head is fitted to the other classes as `pipe train` would, on 64 % of their photos; 16 %
give the threshold and 20 % are the test. Prints, as means over the splits: top-1, the share of test photos that are
called none of the classes (stated: 5 %), the share of the left-out class's photos that are, and the area under the ROC
curve of the largest logit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import Linear, functional

from pipeline.base.progress import track
from pipeline.base.section import read_section
from pipeline.network.network import build_network, build_preprocess
from pipeline.network.params import ImageParams, ModelParams
from pipeline.train.calibration import fit_unknown_threshold
from runtime.images import read_image

ROOT = Path(__file__).parent.parent
SIDES = {"train": 0.64, "val": 0.16, "test": 0.20}
RATE, SPLITS, EPOCHS, BATCH = 0.05, 10, 20, 32


def main() -> None:
    """Leave out each class of the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights")
    options = parser.parse_args()
    features, classes, names = embed(options.folder, options.weights)
    print(f"{'left out':20} {'top-1':>7} {'alarms':>7} {'unknown':>7} {'AUROC':>7}")
    for unknown, name in enumerate(names):
        means = np.mean([leave_out(unknown, features, classes, seed) for seed in range(SPLITS)], axis=0)
        print(f"{name:20} {means[0]:7.1%} {means[1]:7.1%} {means[2]:7.1%} {means[3]:7.3f}", flush=True)


@torch.inference_mode()
def embed(folder: Path, weights: str) -> tuple[Tensor, NDArray[np.int64], list[str]]:
    """Pooled features (n, channels) of all photos, their class numbers (n,), and the classes' names."""
    model = read_section(ROOT / "params.yaml", "model", ModelParams)
    model = model.model_copy(update={"arch": "mobilenet_v2", "weights": weights})
    image = read_section(ROOT / "params.yaml", "image", ImageParams)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    network, preprocess = build_network(model, image.size, len(names)).eval(), build_preprocess(model, image)
    photos = [
        (class_number, path) for class_number, name in enumerate(names) for path in sorted((folder / name).iterdir())
    ]
    features = [
        network.embed(preprocess(torch.from_numpy(read_image(path, max_pixels=10**8))[None]))
        for _, path in track(photos, "features", len(photos))
    ]
    return torch.cat(features), np.array([class_number for class_number, _ in photos]), names


def leave_out(unknown: int, features: Tensor, classes: NDArray[np.int64], seed: int) -> tuple[float, ...]:
    """Top-1, false alarms, detections and AUROC of one split."""
    generator = np.random.default_rng(seed)
    sides: dict[str, list[int]] = {name: [] for name in SIDES}
    for known in set(classes.tolist()) - {unknown}:
        photos = generator.permutation(np.flatnonzero(classes == known))
        ends = np.round(np.cumsum(list(SIDES.values())) * len(photos)).astype(int)
        for name, part in zip(SIDES, np.split(photos, ends[:-1]), strict=True):
            sides[name] += part.tolist()
    labels = torch.from_numpy(np.where(classes > unknown, classes - 1, classes))
    head = fit(features[sides["train"]], labels[sides["train"]], seed)
    with torch.inference_mode():
        logits = head(features).numpy()
    val, test, strange = sides["val"], sides["test"], np.flatnonzero(classes == unknown)
    threshold = fit_unknown_threshold(logits[val], [str(photo) for photo in val], RATE).value
    if threshold is None:
        raise SystemExit(f"{len(val)} validation photos are too few for {RATE:g} false alarms")
    largest = logits.max(axis=1)
    right = float((logits[test].argmax(axis=1) == labels.numpy()[test]).mean())
    is_strange = np.repeat([0, 1], [len(test), len(strange)])
    area = roc_auc_score(is_strange, -largest[[*test, *strange]])
    return right, float((largest[test] < threshold).mean()), float((largest[strange] < threshold).mean()), float(area)


def fit(features: Tensor, labels: Tensor, seed: int) -> Linear:
    """A linear head, with the defaults of `pipe train`: Adam at 0.001, 20 epochs, batches of 32."""
    torch.manual_seed(seed)
    features = features.clone()  # tensors of inference mode take part in no gradient
    head = Linear(features.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.Adam(head.parameters(), 0.001)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(head(features[batch]), labels[batch]).backward()
            optimizer.step()
    return head


if __name__ == "__main__":
    main()
