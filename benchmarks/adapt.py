"""Whether opening the last blocks pays: `python benchmarks/adapt.py [--quick] [--sets NAME…] [--json]`.

As in `field.py`, half of the groups of each class are drawn, and the other half is the field: the shares are of its
groups that are right. Pictures are 112 pixels wide. On the drawn half a head is fitted to all photos, as `adapt: head`
ships it with folds; the last blocks are opened after it, which says what opening gives by itself; and both are done on
the training side of the half alone, as `adapt: tune` ships it, since the test side judges it. `auto` is what
`adapt: auto` chose, and what it shipped: the head of all photos, or the blocks of the training side. Times are seconds
of fitting, with what the frozen part gives already computed, and for `auto` of the whole choice.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from field import SETS, SHARED, half_of_groups, right_groups, run_up_to_split
from scipy import special

from pipeline.base import manifest
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.network import Network, build_network, build_preprocess
from pipeline.params import Params, read_params
from pipeline.split.folds import deal_folds
from pipeline.train.adapt import Choice, Training, choose_adaptation, fit_blocks, open_blocks
from pipeline.train.folds import FoldData
from pipeline.train.inputs.batches import Images, label_images, logits_and_labels
from pipeline.train.inputs.feature_cache import exact_features, view_features
from pipeline.train.precision import build_accelerator
from pipeline.train.run import Inputs, RunContext, fit_all_epochs

SIZE = 112
CPU = torch.device("cpu")
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Photos:
    """One set, run up to its split."""

    project: Project
    params: Params
    rows: Sequence[Row]  # kept, with their copies
    classes: list[str]

    def network(self) -> Network:
        """The network as `pipe train` starts with it."""
        torch.manual_seed(self.params.train.seed)
        return build_network(self.params.model, SIZE, len(self.classes))

    def images(self, rows: Sequence[Row]) -> Images:
        """Rows with the numbers of their classes."""
        preprocess = build_preprocess(self.params.model, self.params.image)
        return label_images(self.project, rows, self.classes, preprocess)

    def data_of(self, network: Network, learned: Sequence[Row], judged: Sequence[Row]) -> FoldData:
        """What a network's `embed` gives of rows to learn from, and of rows to judge."""
        train = self.params.train
        precision = _DTYPES[build_accelerator(train).mixed_precision]
        return FoldData(
            learned,
            view_features(network, self.images(learned), train, precision, CPU),
            judged,
            exact_features(network, self.images(judged), train.batch_size),
        )


@dataclass(frozen=True)
class Division:
    """Shares of the field's groups that are right, and the seconds of fitting."""

    shares: dict[str, float]
    seconds: dict[str, float]
    choice: Choice | None  # None where nothing was tried


def main() -> None:
    """Divide each set, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one division instead of three, without auto")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="adapt-") as folder:
        for name in options.sets:
            photos = prepare(SHARED / SETS[name], Path(folder) / name)
            found[name] = summary([divide(photos, seed, options.quick) for seed in range(1 if options.quick else 3)])
            if not options.json:
                print(f"{name:12} {found[name]}", flush=True)
    if options.json:
        print(json.dumps(found))


def summary(divisions: Sequence[Division]) -> dict[str, Any]:
    """The means over some divisions, and what `auto` chose in each."""
    return {
        **{key: round(100 * statistics.fmean(of.shares[key] for of in divisions), 1) for key in divisions[0].shares},
        "chosen": [f"{of.choice.way} {of.choice.right}" for of in divisions if of.choice],
        "seconds": {key: round(statistics.fmean(of.seconds[key] for of in divisions)) for key in divisions[0].seconds},
    }


def prepare(photos: Path, folder: Path) -> Photos:
    """Run the chain up to the split."""
    project = run_up_to_split(photos, folder, SIZE)
    rows = [row for row in manifest.read_split(project.split_csv) if row.kept]
    return Photos(project, read_params(project.params_yaml), rows, manifest.class_names(rows))


def divide(photos: Photos, seed: int, is_quick: bool) -> Division:
    """Adapt on half of the groups of each class, and judge on the other half."""
    built = half_of_groups(photos.rows, seed)
    frames = [row for row in photos.rows if row.group in built and not row.is_copy]
    fold_of = deal_folds(frames, photos.params.split).fold_of
    learned = [replace(row, fold=fold_of[row.group]) for row in photos.rows if row.group in built]
    field = [row for row in photos.rows if row.group not in built and not row.is_copy]
    training = [row for row in learned if row.split == "train"]
    shares, seconds = dict[str, float](), dict[str, float]()
    for name, rows in (("all", learned), ("training", training)):
        of_rows = _adapt(photos, rows, field, f"{name}{seed}")
        for way, (share, took) in of_rows.items():
            shares[f"{way}_{name}"], seconds[f"{way}_{name}"] = share, took
    if is_quick:
        return Division(shares, seconds, None)
    run = _run(photos, f"choice{seed}")
    choice = choose_adaptation(
        photos.network(), photos.params.train, Training(learned, training, photos.data_of), len(photos.classes), run
    )
    if choice is None:
        raise SystemExit("the training side has no folds")
    shares["auto"] = shares["tune_training" if choice.way == "tune" else "head_all"]
    return Division(shares, {**seconds, "auto": 60 * choice.minutes}, choice)


def _adapt(photos: Photos, learned: Sequence[Row], field: Sequence[Row], key: str) -> dict[str, tuple[float, float]]:
    """Fit the head, then the last blocks; the share of the field's groups that each gets right, and its seconds."""
    train, network, run = photos.params.train, photos.network(), _run(photos, key)
    found, n_classes = {}, len(photos.classes)
    features = photos.data_of(network, learned, field)
    started = time.perf_counter()
    inputs = Inputs(network.head, features.learned, features.learned.labels, {})
    head = fit_all_epochs(network, inputs, train, n_classes, run)
    found["head"] = _share(network.head, features), time.perf_counter() - started
    network = copy.deepcopy(network)
    blocks = open_blocks(network)
    maps = photos.data_of(blocks.frozen, learned, field)
    started = time.perf_counter()
    fit_blocks(network, Inputs(blocks.opened, maps.learned, maps.learned.labels, {}), train, n_classes, run, head)
    found["tune"] = _share(blocks.opened, maps), time.perf_counter() - started
    return found


def _run(photos: Photos, key: str) -> RunContext:
    return RunContext(build_accelerator(photos.params.train), photos.project, key, time.perf_counter(), is_shown=False)


def _share(module: torch.nn.Module, data: FoldData) -> float:
    logits, truth = logits_and_labels(module, data.judged, 64, CPU)
    right, n_groups = right_groups(data.judged_rows, truth, special.softmax(logits, axis=1))
    return right / n_groups


if __name__ == "__main__":
    main()
