"""Which score tells "none of the classes": `python benchmarks/unknown.py [--weights FILE] [--quick] [--json]`.

Five sets of PIPE_SHARED (fish, hymenoptera, cats_dogs, lfw_top20, neu_surface) and its clips of people are embedded
once by a frozen backbone: the default one, or MobileNetV2 with the weights of a file. A set's clips or photos are
divided in halves, three times. On one half the folds give a threshold for each score, as `pipe train` would: head,
class means and neighbours come from the training folds, and every clip has the same weight. Then head and score are
fitted to all of that half, and the threshold is judged on pictures that nothing has seen. The tables give the per cent
that are called strange:

- known pictures: the other half (asked: 5 %, or 1 / (clips + 1)), and the same pictures darkened, turned, mirrored or
  blurred;
- other sets: pictures of the four other sets and of the clips of people;
- left-out class: pictures of a class that was left out of the half;
- fish, the set with several frames a clip: frames by the threshold of frames; clips by a threshold on the mean score
  of a clip; and clips of which every frame is below the threshold of frames.

AUROC is 100 times the area under the ROC curve against the known pictures.

`--features FOLDER` keeps the features there for the next run.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from torch.nn import Linear, functional

sys.path.insert(0, str(Path(__file__).parent.parent))  # the checkout that the benchmark lies in

from pipeline.base.progress import track
from pipeline.base.section import read_section
from pipeline.network.fit_known_score import fit_known_score
from pipeline.network.known_score import KnownScore
from pipeline.network.network import build_network, build_preprocess
from pipeline.network.params import ImageParams, ModelParams
from runtime.images import read_image

ROOT = Path(__file__).parent.parent
SETS = {
    "fish": "fish/*/*.png",
    "hymenoptera": "hymenoptera/*/*/*.jpg",
    "cats_dogs": "cats_dogs/*/*.jpg",
    "lfw": "lfw_top20/*/*.jpg",
    "neu": "neu_surface/*/*.jpg",
}
CLIPS = "people"  # a set of clips that no head is fitted to
RATE, DIVISIONS, FOLDS = 0.05, 3, 5
LEFT_OUT = 20  # divisions with a left-out class, of a set: about
MOST_SHIFTED = 300  # pictures of a set
FRAMES_OF_A_CLIP = 8
EPOCHS, BATCH = 20, 32  # the defaults of `pipe train`
SHIFTS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "darkened": lambda image: (image * 0.4).astype(np.uint8),
    "turned_90": np.rot90,
    "turned_180": lambda image: image[::-1, ::-1],
    "mirrored": lambda image: image[::-1],  # upside down
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 0.01 * min(image.shape[:2])),
}

Array = NDArray[np.float32]
Score = Callable[[Array, Array], Array]  # of features (n, channels) and logits (n, classes): (n,), high where known


@dataclass(frozen=True)
class Pictures:
    """Pooled features of a set's pictures."""

    features: Array  # (n, channels)
    labels: NDArray[np.int64]  # (n,)
    clips: NDArray[np.str_]  # (n,) the clip or photo of each
    shifted_rows: NDArray[np.int64]  # which pictures were shifted
    shifted: Mapping[str, Array]  # by shift: (shifted, channels)


@dataclass(frozen=True)
class Fit:
    """Training pictures and the head that was fitted to them."""

    features: Array  # (n, channels)
    labels: NDArray[np.int64]  # (n,), from 0
    head: Linear

    @functools.cached_property
    def middle(self) -> Array:
        """The mean of all training pictures (channels,)."""
        middle: Array = self.features.mean(axis=0)
        return middle

    @functools.cached_property
    def class_means(self) -> Array:
        """(classes, channels)."""
        return np.stack([self.features[self.labels == label].mean(axis=0) for label in np.unique(self.labels)])

    @functools.cached_property
    def known_score(self) -> KnownScore:
        """The score that `pipe train` fits."""
        return fit_known_score(self.features, self.labels)

    @functools.cached_property
    def within(self) -> Covariance:
        """The covariance around the classes' means."""
        return Covariance.of(self.features - self.class_means[self.labels])

    @torch.inference_mode()
    def logits(self, features: Array) -> Array:
        """(n, classes)."""
        logits: Array = self.head(torch.from_numpy(np.ascontiguousarray(features))).numpy()
        return logits


@dataclass(frozen=True)
class Covariance:
    """A covariance a I + V diag(b) V', shrunk as Ledoit and Wolf (2004) do."""

    floor: float  # a
    directions: Array  # V (channels, rank)
    variances: Array  # b (rank,)

    @classmethod
    def of(cls, centred: Array) -> Covariance:
        """The covariance of centred rows (n, channels)."""
        products, (n, n_channels) = centred @ centred.T / len(centred), centred.shape  # smaller than channels squared
        mean_variance, squares = np.trace(products) / n_channels, np.square(products).sum() / n_channels
        error = np.square(np.diag(products)).sum() / n_channels - squares / n
        shrinkage = min(1.0, error / (squares - mean_variance**2))
        variances, rows = np.linalg.eigh(products)
        kept = variances > 1e-6 * variances.max()
        directions = centred.T @ rows[:, kept] / np.sqrt(len(centred) * variances[kept])
        return cls(float(shrinkage * mean_variance), directions, (1 - shrinkage) * variances[kept])

    def whiten(self, centred: Array) -> Array:
        """Rows (n, channels) in units of standard deviations."""
        cut = 1 - np.sqrt(self.floor / (self.floor + self.variances))
        whitened: Array = (centred - (centred @ self.directions * cut) @ self.directions.T) / np.sqrt(self.floor)
        return whitened


def largest_logit(_: Fit) -> Score:
    """Hendrycks et al., ICML 2022."""
    return lambda _, logits: logits.max(axis=1)


def energy(_: Fit) -> Score:
    """Liu et al., NeurIPS 2020."""
    return lambda _, logits: logsumexp(logits, axis=1)


def class_cosine(fit: Fit) -> Score:
    """The largest cosine to the mean of a class."""
    means = unit(fit.class_means)
    return lambda features, _: (unit(features) @ means.T).max(axis=1)


def centred_cosine(fit: Fit) -> Score:
    """The same, after the mean of all training pictures was subtracted."""
    means = unit(fit.class_means - fit.middle)
    return lambda features, _: (unit(features - fit.middle) @ means.T).max(axis=1)


def whitened_cosine(fit: Fit) -> Score:
    """The same, after whitening by the covariance within the classes."""
    means = unit(fit.within.whiten(fit.class_means - fit.middle))
    return lambda features, _: (unit(fit.within.whiten(features - fit.middle)) @ means.T).max(axis=1)


def mahalanobis(fit: Fit) -> Score:
    """The smallest Mahalanobis distance to a class (Lee et al., NeurIPS 2018)."""
    means = fit.within.whiten(fit.class_means - fit.middle)
    return lambda features, _: -nearest_distance(fit.within.whiten(features - fit.middle), means)


def relative_mahalanobis(fit: Fit) -> Score:
    """The same less the distance to all training pictures together (Ren et al., 2021)."""
    whole, to_class = Covariance.of(fit.features - fit.middle), mahalanobis(fit)

    def score(features: Array, logits: Array) -> Array:
        to_all: Array = np.square(whole.whiten(features - fit.middle)).sum(axis=1)
        return to_all + to_class(features, logits)

    return score


def three_nearest(fit: Fit) -> Score:
    """The mean cosine to the three nearest training pictures (Sun et al., ICML 2022)."""
    bank = unit(fit.features)
    return lambda features, _: np.partition(unit(features) @ bank.T, -3, axis=1)[:, -3:].mean(axis=1)


def prototype_cosine(fit: Fit) -> Score:
    """The largest cosine to one of a few prototypes of each class."""
    return lambda features, _: (unit(features) @ fit.known_score.prototypes).max(axis=1)


def known_score(fit: Fit) -> Score:
    """Ours: the prototype cosine and a whitened cosine with few directions."""
    return lambda features, _: fit.known_score(features)


SCORES: dict[str, Callable[[Fit], Score]] = {
    score.__name__: score
    for score in (
        largest_logit,
        energy,
        class_cosine,
        centred_cosine,
        whitened_cosine,
        mahalanobis,
        relative_mahalanobis,
        prototype_cosine,
        three_nearest,
        known_score,
    )
}
SUMS = (  # of scores, each divided by its standard deviation out of fold
    ("class_cosine", "largest_logit"),
    ("class_cosine", "energy"),
    ("prototype_cosine", "largest_logit"),
    ("three_nearest", "largest_logit"),
    ("class_cosine", "whitened_cosine"),
)
NAMES = (*SCORES, *(" + ".join(parts) for parts in SUMS))


def unit(rows: Array) -> Array:
    """Rows (n, channels) of length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def nearest_distance(rows: Array, means: Array) -> Array:
    """The squared distance of rows (n, channels) to the nearest of (classes, channels)."""
    squares = np.square(rows).sum(axis=1)[:, None] + np.square(means).sum(axis=1) - 2 * rows @ means.T
    return squares.min(axis=1)


def main() -> None:
    """Embed, divide, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="of MobileNetV2, instead of the default backbone")
    parser.add_argument("--features", type=Path, help="a folder that keeps the features")
    parser.add_argument("--quick", action="store_true", help="one division a set instead of three")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)  # layers this small gain nothing from more
    with tempfile.TemporaryDirectory() as folder:
        sets = read_sets(options.features or Path(folder), options.weights)
    n_divisions = 1 if options.quick else DIVISIONS
    divisions = [
        (name, left_out, seed)
        for name in SETS
        for left_out, n in divisions_of(sets[name], n_divisions)
        for seed in range(n)
    ]
    rows = [
        {"set": name, "left_out": left_out, "seed": seed, "score": score, "measure": measure, "value": value}
        for name, left_out, seed in track(divisions, "divisions", len(divisions))
        for score, measure, value in judge(sets, name, left_out, seed)
    ]
    means = summary(rows)
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"machine": machine, "means": means}, indent=2) if options.json else as_lines(means))


def divisions_of(pictures: Pictures, n_divisions: int) -> Iterator[tuple[int | None, int]]:
    """Each class to leave out, first none, with the number of its divisions."""
    yield None, n_divisions
    n_classes = int(pictures.labels.max()) + 1
    if n_classes > 2:
        for left_out in range(n_classes):
            yield left_out, max(1, round(LEFT_OUT * n_divisions / (DIVISIONS * n_classes)))


# Features


def read_sets(folder: Path, weights: str | None) -> dict[str, Pictures]:
    """The features of every set, from the folder or computed."""
    data = Path(os.environ.get("PIPE_SHARED", "../shared")) / "data"
    sets = {}
    for name in (*SETS, CLIPS):
        path = folder / f"{'mobilenet_v2' if weights else 'default'}_{name}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **embed(name, data, weights))
        with np.load(path) as stored:
            values = dict(stored)
        shifted = {shift: values[shift] for shift in SHIFTS}
        sets[name] = Pictures(values["features"], values["labels"], values["clips"], values["shifted_rows"], shifted)
    return sets


@torch.inference_mode()
def embed(name: str, data: Path, weights: str | None) -> dict[str, NDArray[Any]]:
    """The features of a set's pictures, plain and shifted, with their classes and clips."""
    model = read_section(ROOT / "params.yaml", "model", ModelParams)
    if weights:
        model = model.model_copy(update={"arch": "mobilenet_v2", "weights": weights})
    image = read_section(ROOT / "params.yaml", "image", ImageParams)
    network, preprocess = build_network(model, image.size, 2).eval(), build_preprocess(model, image)
    pictures = list(frames_of_clips(data) if name == CLIPS else photos(name, data))
    if not pictures:
        raise SystemExit(f"{data}: no pictures of {name}; set PIPE_SHARED")
    shifted_rows = np.arange(0, 0 if name == CLIPS else len(pictures), -(-len(pictures) // MOST_SHIFTED))

    def features(image_hwc: NDArray[np.uint8]) -> Array:
        return network.embed(preprocess(torch.from_numpy(np.ascontiguousarray(image_hwc))[None]))[0].numpy()

    plain, shifted = [], {shift: list[Array]() for shift in SHIFTS}
    for row, (_, _, read) in enumerate(track(pictures, name, len(pictures))):
        image_hwc = read()
        plain.append(features(image_hwc))
        if row in shifted_rows:
            for shift, change in SHIFTS.items():
                shifted[shift].append(features(change(image_hwc)))
    labels, clips = [label for label, _, _ in pictures], [clip for _, clip, _ in pictures]
    rows = {shift: np.array(rows, np.float32).reshape(-1, plain[0].size) for shift, rows in shifted.items()}
    return {
        "features": np.stack(plain),
        "labels": np.unique(labels, return_inverse=True)[1],
        "clips": np.array(clips),
        "shifted_rows": shifted_rows,
        **rows,
    }


Picture = tuple[str, str, Callable[[], NDArray[np.uint8]]]  # class, clip, and how to read it


def photos(name: str, data: Path) -> Iterator[Picture]:
    """Every photo of a set. Frames of one tracked fish are a clip."""
    for path in sorted(data.glob(SETS[name])):
        clip = f"{path.parent.name}/{re.sub('_frame.*', '', path.stem)}"
        yield path.parent.name, clip, lambda path=path: read_image(path, max_pixels=10**8)


def frames_of_clips(data: Path) -> Iterator[Picture]:
    """Some frames of each clip."""
    for path in sorted(data.glob("clips/*/*")):
        reader = cv2.VideoCapture(str(path))
        frames = [frame for is_read, frame in iter(reader.read, (False, None)) if is_read]
        for row in np.linspace(0, len(frames) - 1, FRAMES_OF_A_CLIP).astype(int):
            yield path.parent.name, path.stem, lambda frame=frames[row]: frame[..., ::-1]


# Judging


def judge(sets: Mapping[str, Pictures], name: str, left_out: int | None, seed: int) -> Iterator[Row]:
    """Judge every score on one division of a set.

    Args:
        sets: the pictures of every set.
        name: the set to build on.
        left_out: a class that is not built on; None leaves out none, and judges the other sets and the shifts.
        seed: of the halves, the folds and the heads.
    """
    pictures = sets[name]
    labels, known = np.full(len(pictures.labels), -1), np.flatnonzero(pictures.labels != left_out)
    labels[known] = np.unique(pictures.labels[known], return_inverse=True)[1]
    halves = deal(labels[known], pictures.clips[known], 2, seed)
    built, rest = known[halves == 0], known[halves == 1]
    folds = fit_folds(pictures.features[built], labels[built], pictures.clips[built], seed)
    fit = fit_head(pictures.features[built], labels[built], seed)
    probes = probes_of(sets, name, left_out, rest)
    logits = {probe: fit.logits(features) for probe, features in probes.items()}
    for probe, rows in rows_of_known(pictures, rest, left_out).items():
        yield "", probe, float((logits[probe].argmax(axis=1) == labels[rows]).mean())
    clips = {"rest": pictures.clips[rest], "left out": pictures.clips[labels < 0], CLIPS: sets[CLIPS].clips}
    unseen, scores = dict[str, Array](), dict[str, dict[str, Array]]()
    for score_name, make in SCORES.items():
        unseen[score_name] = np.zeros(len(built), np.float32)  # out of fold
        for rows, fold in folds:
            features = pictures.features[built[rows]]
            unseen[score_name][rows] = make(fold)(features, fold.logits(features))
        score = make(fit)
        scores[score_name] = {probe: score(features, logits[probe]) for probe, features in probes.items()}
    add_sums(unseen, scores)
    for score_name in NAMES:
        for measure, value in measures(unseen[score_name], pictures.clips[built], scores[score_name], clips):
            yield score_name, measure, value


def add_sums(unseen: dict[str, Array], scores: dict[str, dict[str, Array]]) -> None:
    """Add the sums of scores, out of fold (n,) and for every probe, to what the single scores gave."""
    for parts in SUMS:
        name, spreads = " + ".join(parts), {part: unseen[part].std() for part in parts}
        unseen[name] = sum(unseen[part] / spreads[part] for part in parts)
        scores[name] = {probe: sum(scores[part][probe] / spreads[part] for part in parts) for probe in scores[parts[0]]}


Row = tuple[str, str, float]  # score, measure, value


def probes_of(
    sets: Mapping[str, Pictures], name: str, left_out: int | None, rest: NDArray[np.int64]
) -> dict[str, Array]:
    """The features (n, channels) that a fitted score is asked about, by their kind."""
    pictures = sets[name]
    probes = {"rest": pictures.features[rest]}
    if left_out is not None:
        return probes | {"left out": pictures.features[pictures.labels == left_out]}
    of_rest = np.isin(pictures.shifted_rows, rest)
    probes |= {shift: features[of_rest] for shift, features in pictures.shifted.items()}
    return probes | {other: sets[other].features for other in sets if other != name}


def rows_of_known(pictures: Pictures, rest: NDArray[np.int64], left_out: int | None) -> dict[str, NDArray[np.int64]]:
    """The pictures behind the probes of known classes, by their kind."""
    shifts = () if left_out is not None else SHIFTS
    return {"rest": rest, **{shift: pictures.shifted_rows[np.isin(pictures.shifted_rows, rest)] for shift in shifts}}


def measures(
    unseen: Array,
    clips: NDArray[np.str_],
    scores: Mapping[str, Array],
    clips_of: Mapping[str, NDArray[np.str_]],
) -> Iterator[tuple[str, float]]:
    """The shares that fall below the thresholds, and the areas under the ROC curve.

    Args:
        unseen: (n,) scores out of fold.
        clips: (n,) the clip of each.
        scores: of the pictures to judge, by their kind; `rest` are the known ones.
        clips_of: the clips of some of these.
    """
    threshold, of_clips = fit_threshold(unseen, clips), fit_threshold(*mean_of_clips(unseen, clips))
    for kind, values in scores.items():
        is_strange = values < threshold
        yield kind, float(is_strange.mean())
        if kind not in SHIFTS and kind != "rest":
            is_known = np.repeat([1, 0], [len(scores["rest"]), len(values)])
            yield f"{kind}, AUROC", float(roc_auc_score(is_known, np.concatenate([scores["rest"], values])))
        if kind in clips_of:
            yield f"{kind}, of clips", float((mean_of_clips(values, clips_of[kind])[0] < of_clips).mean())
            yield f"{kind}, every frame", float((mean_of_clips(is_strange, clips_of[kind])[0] == 1).mean())


def mean_of_clips(values: NDArray[Any], clips: NDArray[np.str_]) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """The mean of each clip's values, and the clips."""
    names, clip_of_value = np.unique(clips, return_inverse=True)
    return np.bincount(clip_of_value, weights=values) / np.bincount(clip_of_value), names


def fit_threshold(scores: NDArray[Any], clips: NDArray[np.str_]) -> float:
    """The largest score below which a picture of a new clip falls with at most the rate; every clip counts as one."""
    _, clip_of_score, n_scores = np.unique(clips, return_inverse=True, return_counts=True)
    order, n_clips = np.argsort(scores, kind="stable"), len(n_scores)
    weights = 1 / ((n_clips + 1) * n_scores[clip_of_score[order]])
    below = 1 / (n_clips + 1) + np.cumsum(weights) - weights
    return float(scores[order[np.flatnonzero(below <= max(RATE, 1 / (n_clips + 1)) + 1e-9)[-1]]])


def deal(labels: NDArray[np.int64], clips: NDArray[np.str_], n_parts: int, seed: int) -> NDArray[np.int64]:
    """The part of each picture (n,): the clips of a class are dealt out in random order."""
    generator, parts = np.random.default_rng(seed), np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        names, clip_of_picture = np.unique(clips[labels == label], return_inverse=True)
        part_of_clip = generator.permutation(np.arange(len(names)) % n_parts)
        parts[labels == label] = part_of_clip[clip_of_picture]
    return parts


def fit_folds(
    features: Array, labels: NDArray[np.int64], clips: NDArray[np.str_], seed: int
) -> list[tuple[NDArray[np.int64], Fit]]:
    """For each fold the pictures that it leaves out, and what was fitted to the others."""
    n_folds = min(FOLDS, *(len(set(clips[labels == label])) for label in np.unique(labels)))
    folds = deal(labels, clips, n_folds, seed)
    return [
        (np.flatnonzero(folds == fold), fit_head(features[folds != fold], labels[folds != fold], seed))
        for fold in range(n_folds)
    ]


def fit_head(features: Array, labels: NDArray[np.int64], seed: int) -> Fit:
    """A linear head, with the defaults of `pipe train`: Adam at 0.001, 20 epochs, batches of 32."""
    torch.manual_seed(seed)
    inputs, truth = torch.from_numpy(features), torch.from_numpy(labels)
    head = Linear(features.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.Adam(head.parameters(), 0.001)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(truth)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(head(inputs[batch]), truth[batch]).backward()
            optimizer.step()
    return Fit(features, labels, head)


# Tables


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """The mean over the divisions, by score, set and measure."""
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        of_set = values.setdefault(row["score"], {}).setdefault(row["set"], {})
        of_set.setdefault(row["measure"], []).append(row["value"])
    return {
        score: {
            name: {measure: round(float(np.mean(drawn)), 4) for measure, drawn in of_set.items()}
            for name, of_set in sets.items()
        }
        for score, sets in values.items()
    }


Cell = tuple[str, str]  # set and measure


@dataclass(frozen=True)
class Column:
    """A column of a table: one number for each score."""

    name: str
    cells: Sequence[Cell]
    combine: Callable[[Sequence[float]], Any] = np.mean


def columns_of(means: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, list[Column]]:
    """The columns of each table, by its title."""
    pairs = {name: [(name, other) for other in (*SETS, CLIPS) if other != name] for name in SETS}
    all_pairs = [cell for cells in pairs.values() for cell in cells]
    left_out = [name for name in SETS if "left out" in means["energy"][name]]
    of_fish = [("known", "rest"), ("left out", "left out"), (CLIPS, CLIPS)]
    ways = {"frames": "", "clips, by mean": ", of clips", "clips, every frame": ", every frame"}
    return {
        "known pictures": [Column(name, [(name, "rest")]) for name in SETS],
        "known, shifted": [Column(shift, [(name, shift) for name in SETS]) for shift in SHIFTS],
        "other sets": [
            *(Column(f"built on {name}", cells) for name, cells in pairs.items()),
            Column("mean", all_pairs),
            Column("least", all_pairs, min),
            Column("AUROC", [(name, f"{other}, AUROC") for name, other in all_pairs]),
        ],
        "left-out class": [
            *(Column(name, [(name, "left out")]) for name in left_out),
            *(Column(f"{name}, AUROC", [(name, "left out, AUROC")]) for name in left_out),
        ],
        "fish": [
            Column(f"{words}: {way}", [("fish", f"{kind}{of}")]) for words, kind in of_fish for way, of in ways.items()
        ],
    }


def as_lines(means: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Markdown tables with a line for each score: per cent that are called strange, or 100 times the area."""
    lines = ["top-1: " + ", ".join(f"{name} {100 * of_set['rest']:.1f} %" for name, of_set in means[""].items())]
    of_shift = {shift: np.mean([of_set[shift] for of_set in means[""].values()]) for shift in SHIFTS}
    lines.append("top-1, shifted: " + ", ".join(f"{shift} {100 * top1:.1f} %" for shift, top1 in of_shift.items()))
    for title, columns in columns_of(means).items():
        lines += ["", f"| {title} | " + " | ".join(column.name for column in columns) + " |"]
        lines.append("|---" * (len(columns) + 1) + "|")
        for score in NAMES:
            values = [
                column.combine([means[score][name][measure] for name, measure in column.cells]) for column in columns
            ]
            lines.append(f"| {score} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
