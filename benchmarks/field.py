"""Does the field confirm the number? `python benchmarks/field.py [--quick] [--json]`; needs PIPE_SHARED.

There are five sets of photos: fish, hymenoptera, cats_dogs, lfw_top20 and neu_surface. `pipe extract`, `augment` and
`split` run once for each set, and the features of the frozen backbone are computed once. Then half of the groups of
each class are drawn, twenty times. On this half the chain is run as `pipe train` runs it: folds, a head for each, the
verdicts out of fold, then the head that ships. The other half is the field. `too_high` counts the divisions whose
estimate is above the field beyond chance, by Fisher's exact test, one-sided, at 5 %. `signed_error` is the estimate
less the field, in points, the mean over the divisions. The peer is scikit-learn's logistic regression on the photos of
the same half without copies, its strength chosen by folds of whole groups.

`from_training_side` is the share right of heads that have learned from the training side alone, as with
`train.refit: none`: the mean of five, since the split draws another side with each seed. `gain` is what learning from
all groups of the half adds to it, in points, with its standard error over the divisions. `nll` is that of the field at
the temperature fitted out of fold, `nll_at_1` that without one.
`refused` is the share of the field's groups that the known score refuses as none of the classes, and `rate` is the
share that is named. `refused_twice_as_often` counts the divisions that refuse more than twice the named share;
`twice_by_chance` is how many would do so by chance if the groups of both halves were alike.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML
from scipy import special, stats

from pipeline.base import manifest
from pipeline.base.manifest import Row
from pipeline.base.numbers.share_intervals import share_interval
from pipeline.base.project import Project
from pipeline.evaluate.clip_verdicts import group_verdicts
from pipeline.network.calibration import Calibration, careful_rate
from pipeline.network.fit_known_score import fit_known_score
from pipeline.network.network import Network, build_network, build_preprocess
from pipeline.params import Params, read_params
from pipeline.split.folds import deal_folds
from pipeline.split.params import SplitParams
from pipeline.split.protocols import assign_sides, class_sizes
from pipeline.train.folds import FoldData, Part, fit_folds
from pipeline.train.inputs.batches import Images, label_images, logits_and_labels
from pipeline.train.inputs.feature_cache import CachedFeatures, exact_features, view_features
from pipeline.train.precision import build_accelerator
from pipeline.train.run import Inputs, RunContext, fit_all_epochs

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("PIPE_SHARED", "../shared"))
SETS = {
    "fish": "data/fish",
    "hymenoptera": "data/hymenoptera/train",
    "cats_dogs": "data/cats_dogs",
    "lfw_top20": "data/lfw_top20",
    "neu_surface": "data/neu_surface",
}
N_TRAINING_SIDES = 5
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class DataSet:
    """One set with its features."""

    project: Project
    params: Params
    network: Network
    classes: list[str]
    learned_rows: Sequence[Row]  # photos and their copies
    learned: CachedFeatures
    judged_rows: Sequence[Row]  # photos
    judged: CachedFeatures


@dataclass(frozen=True)
class Division:
    """What was estimated on one half of the groups, and what the other half says."""

    estimated: tuple[int, int]  # right, and all
    field: tuple[int, int]
    logistic: float  # share of the field's groups that the logistic regression calls right
    from_training_side: float  # the same of heads that have learned from it alone, as with `train.refit: none`
    nll: tuple[float, float]  # of the field's groups: at temperature 1, and at the temperature fitted out of fold
    refused: float  # share of the field's groups below the clip threshold
    rate: float  # the named share of them; the larger of the asked one and 1 / (groups + 1)
    twice_by_chance: float  # the probability of refusing more than twice the named share, where both halves are alike
    n_folds: int

    @property
    def is_too_high(self) -> bool:
        """Whether the estimate is above the field beyond chance."""
        (a, n), (b, m) = self.estimated, self.field
        return bool(stats.fisher_exact([[a, n - a], [b, m - b]], alternative="greater").pvalue < 0.05)

    @property
    def holds(self) -> bool:
        """Whether the shown interval holds the share of the field."""
        interval = share_interval(*self.estimated, self.n_folds)
        return interval.low <= self.field[0] / self.field[1] <= interval.high

    @property
    def gain(self) -> float:
        """What learning from all groups of the half adds to learning from its training side, as a share."""
        return self.field[0] / self.field[1] - self.from_training_side

    @property
    def error(self) -> float:
        """The estimate less the field, as a share."""
        return self.estimated[0] / self.estimated[1] - self.field[0] / self.field[1]


def main() -> None:
    """Divide each set, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two sets and two divisions instead of five and twenty")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names, n_divisions = (list(SETS)[:2], 2) if options.quick else (list(SETS), 20)
    found: dict[str, list[Division]] = {}
    with tempfile.TemporaryDirectory(prefix="field-") as folder:
        for name in names:
            data = prepare(SHARED / SETS[name], Path(folder) / name)
            found[name] = [divide(data, seed) for seed in range(n_divisions)]
            if not options.json:
                print_line(name, found[name])
    every = [division for divisions in found.values() for division in divisions]
    if options.json:
        print(json.dumps({name: summary(divisions) for name, divisions in found.items()} | {"all": summary(every)}))
    else:
        print_line("all", every)


def summary(divisions: Sequence[Division]) -> dict[str, Any]:
    """The numbers of some divisions."""
    fields = [division.field[0] / division.field[1] for division in divisions]
    gains = [100 * division.gain for division in divisions]
    return {
        "divisions": len(divisions),
        "estimate": statistics.fmean(division.estimated[0] / division.estimated[1] for division in divisions),
        "field": statistics.fmean(fields),
        "signed_error": 100 * statistics.fmean(division.error for division in divisions),
        "too_high": sum(division.is_too_high for division in divisions),
        "interval_holds": sum(division.holds for division in divisions),
        "logistic_regression": statistics.fmean(division.logistic for division in divisions),
        "from_training_side": statistics.fmean(division.from_training_side for division in divisions),
        "gain": statistics.fmean(gains),
        "gain_error": statistics.stdev(gains) / math.sqrt(len(gains)),
        "nll_at_1": statistics.fmean(division.nll[0] for division in divisions),
        "nll": statistics.fmean(division.nll[1] for division in divisions),
        "refused": statistics.fmean(division.refused for division in divisions),
        "rate": statistics.fmean(division.rate for division in divisions),
        "refused_twice_as_often": sum(division.refused > 2 * division.rate for division in divisions),
        "twice_by_chance": sum(division.twice_by_chance for division in divisions),
    }


def print_line(name: str, divisions: Sequence[Division]) -> None:
    """Print the numbers of a set in one line."""
    of_set = summary(divisions)
    shares = ", ".join(
        f"{key.replace('_', ' ')} {of_set[key]:.1%}"
        for key in ("estimate", "field", "from_training_side", "logistic_regression", "refused", "rate")
    )
    print(
        f"{name:12} {of_set['divisions']:3} divisions: {shares}; gain {of_set['gain']:+.1f} ± "
        f"{of_set['gain_error']:.1f} points; signed error {of_set['signed_error']:+.1f} points, "
        f"too high in {of_set['too_high']}, interval holds in {of_set['interval_holds']}; nll {of_set['nll']:.3f}, at "
        f"temperature 1 {of_set['nll_at_1']:.3f}; refused over twice the rate in {of_set['refused_twice_as_often']}, "
        f"by chance in {of_set['twice_by_chance']:.1f}",
        flush=True,
    )


def prepare(photos: Path, folder: Path, size: int | None = None) -> DataSet:
    """Run the chain up to the split, and compute the features of all photos and copies.

    Args:
        photos: a folder for each class.
        folder: of the project, which is made.
        size: `image.size`; None: the default.
    """
    project = run_up_to_split(photos, folder, size)
    params = read_params(project.params_yaml)
    rows = [row for row in manifest.read_split(project.split_csv) if row.kept]
    classes = manifest.class_names(rows)
    torch.manual_seed(params.train.seed)
    network = build_network(params.model, params.image.size, len(classes))
    preprocess = build_preprocess(params.model, params.image)
    judged_rows = [row for row in rows if not row.is_copy]

    def images(of: Sequence[Row]) -> Images:
        return label_images(project, of, classes, preprocess)

    precision = _DTYPES[build_accelerator(params.train).mixed_precision]
    learned = view_features(network, images(rows), params.train, precision, torch.device("cpu"))
    judged = exact_features(network, images(judged_rows), params.train.batch_size)
    return DataSet(project, params, network, classes, rows, learned, judged_rows, judged)


def run_up_to_split(photos: Path, folder: Path, size: int | None = None) -> Project:
    """Make a project of photos with the default params, and run `extract`, `augment` and `split`.

    Args:
        photos: a folder for each class.
        folder: of the project, which is made.
        size: `image.size`; None: the default.
    """
    project = Project(folder)
    project.raw.mkdir(parents=True)
    yaml = YAML()
    values = yaml.load(ROOT / "params.yaml")
    if size is not None:
        values["image"]["size"] = size
    yaml.dump(values, project.params_yaml)
    for of_class in sorted(path for path in photos.iterdir() if path.is_dir()):
        shutil.copytree(of_class, project.raw / of_class.name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for stage in ("extract", "augment", "split"):
        subprocess.run(
            [sys.executable, "-m", "pipeline", stage], cwd=folder, env=environment, check=True, capture_output=True
        )
    return project


def divide(data: DataSet, seed: int) -> Division:
    """Build on half of the groups of each class, and judge on the other half."""
    built = half_of_groups(data.judged_rows, seed)
    frames = [row for row in data.judged_rows if row.group in built]
    folds = deal_folds(frames, data.params.split)
    fold_data = FoldData(
        *_part(data.learned_rows, data.learned, built, folds.fold_of),
        *_part(data.judged_rows, data.judged, built, folds.fold_of),
    )
    run = RunContext(build_accelerator(data.params.train), data.project, f"division{seed}", time.perf_counter(), False)
    out_of_fold = fit_folds(data.network, fold_data, data.params.train, len(data.classes), run)
    estimated = right_groups(
        fold_data.judged_rows, fold_data.judged.labels.numpy(), special.softmax(out_of_fold.answers.logits, 1)
    )
    start = {name: value.clone() for name, value in data.network.head.state_dict().items()}

    def logits_of_field(learned: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        data.network.head.load_state_dict(start)
        inputs = Inputs(
            data.network.head, Part(fold_data.learned, learned), fold_data.learned.labels[torch.tensor(learned)], {}
        )
        fit_all_epochs(data.network, inputs, data.params.train, len(data.classes), run)
        data.project.resume_state(run.key).unlink(missing_ok=True)
        return logits_and_labels(data.network.head, Part(data.judged, field), 256, torch.device("cpu"))

    field = [position for position, row in enumerate(data.judged_rows) if row.group not in built]
    field_rows = [data.judged_rows[position] for position in field]
    of_sides = [
        logits_of_field(training_side(fold_data.learned_rows, data.params.split, side_seed))[0]
        for side_seed in range(N_TRAINING_SIDES)
    ]
    logits, truth = logits_of_field(range(len(fold_data.learned)))
    data.network.head.load_state_dict(start)
    for number in fold_data.numbers:
        data.project.resume_state(f"{run.key}-fold{number}").unlink(missing_ok=True)
    pooled = data.judged.features[field, 0].numpy()
    refused, rate = _refused(fold_data, out_of_fold.calibration, field_rows, pooled)
    logistic = _logistic_regression(fold_data, pooled)
    right, n_groups = right_groups(field_rows, truth, logistic)
    right_of_sides = [right_groups(field_rows, truth, special.softmax(of_side, 1))[0] for of_side in of_sides]
    temperatures = (1.0, out_of_fold.calibration.temperature or 1.0)
    return Division(
        estimated=estimated,
        field=right_groups(field_rows, truth, special.softmax(logits, 1)),
        logistic=right / n_groups,
        from_training_side=statistics.fmean(right_of_sides) / n_groups,
        nll=tuple(nll_of_groups(field_rows, truth, logits / t) for t in temperatures),
        refused=refused,
        rate=rate,
        twice_by_chance=chance_of_twice(rate, len({row.group for row in frames}), n_groups),
        n_folds=folds.n_folds,
    )


def training_side(rows: Sequence[Row], params: SplitParams, seed: int) -> list[int]:
    """The positions of the photos and copies that the split gives to training.

    This is about 64 of 100 groups. Where a class has two groups only, the split wants `val: null`, and it is about 80.

    Args:
        rows: photos and their copies.
        params: the section `split`.
        seed: of the split; another one draws another side.
    """
    photos, copies = [row for row in rows if not row.is_copy], [row for row in rows if row.is_copy]
    has_val = min(map(len, class_sizes(photos).values())) >= 3
    params = params.model_copy(update={"seed": seed, "val": params.val if has_val else None})
    side_of = assign_sides(photos, copies, params, {}, Path("frames.csv"))
    return [position for position, row in enumerate(rows) if side_of[row.path] == "train"]


def chance_of_twice(rate: float, n_fitted: int, n_field: int) -> float:
    """The probability that more than twice the named share of new groups is refused, though they are like the others.

    The threshold is the score of one of the fitted groups. How many new ones fall below it is beta-binomial, whatever
    the scores are.

    Args:
        rate: the named share.
        n_fitted: groups that the threshold was fitted to.
        n_field: new groups.
    """
    careful = careful_rate(rate, n_fitted)
    rank = math.floor(careful * (n_fitted + 1) + 1e-9)  # of the threshold among the fitted scores; 1: the lowest
    return float(stats.betabinom.sf(math.floor(2 * rate * n_field + 1e-9), n_field, rank, n_fitted + 1 - rank))


def nll_of_groups(rows: Sequence[Row], truth: NDArray[np.int64], logits: NDArray[np.float32]) -> float:
    """The negative log-probability of the true class: mean over the groups of the means over their frames."""
    of_frames = -special.log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(truth)), truth]
    return float(_means_by_group(rows, of_frames).mean())


def _refused(
    data: FoldData, calibration: Calibration, rows: Sequence[Row], pooled: NDArray[np.float32]
) -> tuple[float, float]:
    """The share of the field's groups that the score and the threshold of the half refuse, and the named rate."""
    score, unknown = (
        fit_known_score(data.judged.features[:, 0].numpy(), data.judged.labels.numpy()),
        calibration.unknown,
    )
    if unknown is None:
        raise SystemExit(f"no threshold: {calibration.unknown_reason}")
    return float((_means_by_group(rows, score(pooled)) < unknown.clip).mean()), unknown.false_alarms


def _means_by_group(rows: Sequence[Row], values: NDArray[Any]) -> NDArray[np.float64]:
    groups, of_row = np.unique([row.group for row in rows], return_inverse=True)
    return np.bincount(of_row, weights=values, minlength=len(groups)) / np.bincount(of_row)


def half_of_groups(rows: Sequence[Row], seed: int) -> set[str]:
    """Half of the groups of each class."""
    generator, half = np.random.default_rng(seed), set[str]()
    for label in manifest.class_names(rows):
        groups = sorted({row.group for row in rows if row.label == label})
        half |= set(generator.permutation(groups)[: -(-len(groups) // 2)].tolist())
    return half


def _part(
    rows: Sequence[Row], features: CachedFeatures, groups: set[str], fold_of: Any
) -> tuple[list[Row], CachedFeatures]:
    chosen = [position for position, row in enumerate(rows) if row.group in groups]
    part = CachedFeatures(features.features[chosen], features.order[chosen], features.labels[chosen])
    return [dataclasses.replace(rows[position], fold=fold_of[rows[position].group]) for position in chosen], part


def right_groups(rows: Sequence[Row], truth: NDArray[np.int64], probabilities: NDArray[Any]) -> tuple[int, int]:
    """How many groups are right, and how many there are."""
    verdicts = group_verdicts([row.group for row in rows], truth, probabilities)
    return sum(verdict.predicted == verdict.truth for verdict in verdicts), len(verdicts)


def _logistic_regression(data: FoldData, field: NDArray[np.float32]) -> NDArray[Any]:
    """The probabilities of a logistic regression on the photos of a half; folds choose its strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = PredefinedSplit([row.fold if row.fold is not None else -1 for row in data.judged_rows])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    search = GridSearchCV(probe, {"logisticregression__C": STRENGTHS}, cv=folds)
    search.fit(data.judged.features[:, 0].numpy(), data.judged.labels.numpy())
    probabilities: NDArray[Any] = search.predict_proba(field)
    return probabilities


if __name__ == "__main__":
    main()
