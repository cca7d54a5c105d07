"""Where everything in a project lies: the one place that spells its paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import DataError


class _Under:
    """A path of a project, below its root."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __get__(self, project: Project, _: type[Project]) -> Path:
        return project.root / self.path


@dataclass(frozen=True)
class Project:
    """The paths of one project. Stages ask it; nothing else spells them."""

    root: Path

    params_yaml = _Under("params.yaml")
    dvc_lock = _Under("dvc.lock")
    recipes = _Under("recipes")
    raw = _Under("data/raw")
    frames = _Under("data/frames")
    frames_csv = _Under("data/frames.csv")
    extract_json = _Under("reports/extract.json")
    augmented = _Under("data/augmented")
    augmented_csv = _Under("data/augmented.csv")
    dataset_reports = _Under("reports/dataset")
    groups_csv = _Under("data/groups.csv")
    split_keep_csv = _Under("data/split.keep.csv")
    split_csv = _Under("data/split.csv")
    split_json = _Under("reports/split.json")
    near_duplicates_png = _Under("reports/near_duplicates.png")
    checkpoint = _Under("models/checkpoint.pt")
    # Outlives a run and is shared by runs. It may be deleted at any time.
    cache = _Under(".cache")
    tensorboard = _Under(".cache/tensorboard")
    train_reports = _Under("reports/train")
    evaluate_json = _Under("reports/evaluate.json")
    metrics_json = _Under("reports/metrics.json")
    predictions_csv = _Under("reports/predictions.csv")
    plots = _Under("reports/plots")
    explanations = _Under("reports/explain")
    onnx = _Under("models/onnx")
    contract_json = _Under("models/contract.json")
    export_json = _Under("reports/export.json")
    golden = _Under("models/golden")
    parity_json = _Under("reports/parity.json")
    flips_csv = _Under("reports/flips.csv")
    flips_png = _Under("reports/flips.png")
    compare_reports = _Under("reports/compare")
    report_html = _Under("reports/report.html")
    runtime = _Under("runtime")
    bundle_zip = _Under("dist/bundle.zip")

    def resume_state(self, key: str) -> Path:
        """The state of a training run that was stopped."""
        return self.cache / "resume" / f"{key}.pt"

    def relative(self, path: Path) -> str:
        """The path as manifests spell it: relative to the project, with `/`."""
        return path.relative_to(self.root).as_posix()


def safe_join(root: Path, name: str) -> Path:
    """The file that a manifest names, refusing names that leave the project.

    Raises:
        DataError: the name is absolute, has `..` or a backslash, or is empty.
    """
    check_inside(name)
    return root.joinpath(name)


def check_inside(name: str) -> None:
    """Refuse a name that leaves the project, by its letters alone: a manifest may hold a million.

    Raises:
        DataError: as `safe_join`.
    """
    leaves = name.startswith("/") or "\\" in name or "\0" in name or (".." in name and ".." in name.split("/"))
    if leaves or not name.strip("./"):
        raise DataError(f"{name!r}: leaves the project; expected a relative path with / between its parts")
