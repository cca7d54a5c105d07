"""Where the files of a project lie: the only place that spells its paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

from pipeline.base.errors import DataError

OWN_PACKAGES = ("pipeline", "export", "runtime")  # of the toolchain, as they are imported
_INSTALLED = Path(__file__).parents[2]  # holds these packages: a checkout, or site-packages
_RUNTIME = "runtime"


class _BelowRoot:
    """A path of a project, given relative to its root, and the stage that writes it; empty where none does."""

    def __init__(self, path: str, stage: str = "") -> None:
        self.path = path
        self.stage = stage

    def __get__(self, project: Project, _: type[Project]) -> Path:
        return project.root / self.path


@dataclass(frozen=True)
class Project:
    """The paths of one project, each below its root."""

    root: Path

    params_yaml = _BelowRoot("params.yaml")
    params_schema_json = _BelowRoot("params.schema.json")
    dvc_yaml = _BelowRoot("dvc.yaml")
    toolchain_lock = _BelowRoot("toolchain.lock")  # of a project without the toolchain's code; a clone has none
    dvc_lock = _BelowRoot("dvc.lock")
    recipes = _BelowRoot("recipes")
    raw = _BelowRoot("data/raw")
    raw_dvc = _BelowRoot("data/raw.dvc")  # by which DVC tracks the recordings, where it does
    removed = _BelowRoot("data/removed")  # recordings that `pipe remove` took out
    correction = _BelowRoot("data/.correction")  # of recordings, while it is carried out
    frames = _BelowRoot("data/frames", "extract")
    frames_csv = _BelowRoot("data/frames.csv", "extract")
    fingerprints = _BelowRoot("data/fingerprints", "extract")
    extract_json = _BelowRoot("reports/extract.json", "extract")
    augmented = _BelowRoot("data/augmented", "augment")
    augmented_csv = _BelowRoot("data/augmented.csv", "augment")
    dataset_reports = _BelowRoot("reports/dataset")
    groups_csv = _BelowRoot("data/groups.csv")
    phone_csv = _BelowRoot("data/phone.csv")  # where the samples of the phone's page came from
    split_keep_csv = _BelowRoot("data/split.keep.csv")
    split_csv = _BelowRoot("data/split.csv", "split")
    split_json = _BelowRoot("reports/split.json", "split")
    near_duplicates_png = _BelowRoot("reports/near_duplicates.png", "split")
    checkpoint = _BelowRoot("models/checkpoint.pt", "train")
    fold_heads = _BelowRoot("models/folds.pt", "train")
    # Runs share the cache, and it outlives them. It may be deleted at any time.
    cache = _BelowRoot(".cache")
    dvc_cache = _BelowRoot(".dvc/cache")
    tensorboard = _BelowRoot(".cache/tensorboard")
    train_reports = _BelowRoot("reports/train", "train")
    evaluate_json = _BelowRoot("reports/evaluate.json", "evaluate")
    metrics_json = _BelowRoot("reports/metrics.json", "evaluate")
    predictions_csv = _BelowRoot("reports/predictions.csv", "evaluate")
    plots = _BelowRoot("reports/plots", "evaluate")
    explanations = _BelowRoot("reports/explain")
    explain_json = _BelowRoot("reports/explain/explain.json")
    onnx = _BelowRoot("models/onnx", "export")
    contract_json = _BelowRoot("models/contract.json", "export")
    export_json = _BelowRoot("reports/export.json", "export")
    golden = _BelowRoot("models/golden", "parity")
    parity_json = _BelowRoot("reports/parity.json", "parity")
    flips_csv = _BelowRoot("reports/flips.csv", "parity")
    flips_png = _BelowRoot("reports/flips.png", "parity")
    compare_reports = _BelowRoot("reports/compare")
    report_html = _BelowRoot("reports/report.html", "report")
    bundle_zip = _BelowRoot("dist/bundle.zip", "bundle")
    bundle_signature = _BelowRoot("dist/bundle.zip.sig")
    sums_signature = _BelowRoot("dist/SHA256SUMS.sig")
    verify_bundle_py = _BelowRoot("dist/verify_bundle.py")

    @property
    def runtime(self) -> Path:
        """The device's code: a clone has its own, any other project that of the installed toolchain."""
        own = self.root / _RUNTIME
        return own if own.is_dir() else _INSTALLED / _RUNTIME

    def resume_state(self, key: str) -> Path:
        """The saved state of a training run that was stopped; `key` identifies the run."""
        return self.cache / "resume" / f"{key}.pt"

    def adapt_json(self) -> Path:
        """What `train.adapt: auto` chose, a file of the reports of `train`; there only where it chose."""
        return self.train_reports / "adapt.json"

    def out_of_fold_csv(self) -> Path:
        """What the heads of the folds say, a file of the reports of `train`."""
        return self.train_reports / "out_of_fold.csv"

    def relative(self, path: Path) -> str:
        """The path as manifests spell it: relative to the project, with `/` between its parts.

        The device's code is called `runtime/…` wherever it lies.
        """
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.relative_to(self.runtime.parent).as_posix()

    def locate(self, name: str) -> Path:
        """The file that `relative` spells so.

        Raises:
            DataError: as `safe_join`.
        """
        is_device_code = name.startswith(f"{_RUNTIME}/")
        return safe_join(self.runtime.parent if is_device_code else self.root, name)


def missing(path: Path) -> DataError:
    """Return the error for a file that is not there. It names the command of the stage that writes the file.

    Args:
        path: the file, at its place in a project.
    """
    stage = stage_that_writes(path)
    return DataError(f"{path}: missing" + (f"; run `pipe {stage}`" if stage else ""))


def stage_that_writes(path: PurePath) -> str:
    """Return the name of the stage that writes a file or folder of a project; empty where no stage does."""
    written = {PurePath(known.path): known.stage for known in vars(Project).values() if isinstance(known, _BelowRoot)}
    for below in (PurePath(*path.parts[first_part:]) for first_part in reversed(range(len(path.parts)))):
        for whole in (below, *below.parents):
            if written.get(whole):
                return written[whole]
    return ""


def safe_join(root: Path, name: str) -> Path:
    """Join a name from a manifest to the project's root, and refuse a name that leaves the project.

    Raises:
        DataError: the name is absolute, has `..` or a backslash, or is empty.
    """
    check_inside(name)
    return root.joinpath(name)


def check_inside(name: str) -> None:
    """Refuse a name that leaves the project.

    It looks at the letters alone, not at the file system, since a manifest may hold a million names.

    Raises:
        DataError: as `safe_join`.
    """
    leaves = name.startswith("/") or "\\" in name or "\0" in name or (".." in name and ".." in name.split("/"))
    if leaves or not name.strip("./"):
        raise DataError(f"{name!r}: leaves the project; expected a relative path with / between its parts")
