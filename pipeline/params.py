"""The whole `params.yaml`: the sections of all rooms together, for recipes and studies."""

from __future__ import annotations

from pathlib import Path

from export.export.params import ExportParams
from export.graphs.params import ParityParams
from pipeline.augment.params import AugmentParams
from pipeline.base.section import Section, load_yaml, validate_section
from pipeline.evaluate.params import EvaluateParams
from pipeline.extract.params import ExtractParams
from pipeline.network.params import ImageParams, ModelParams
from pipeline.split.params import SplitParams
from pipeline.train.params import TrainParams


class Params(Section):
    """The whole `params.yaml`."""

    extract: ExtractParams
    augment: AugmentParams
    split: SplitParams
    model: ModelParams
    image: ImageParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams
    parity: ParityParams


def read_params(path: Path) -> Params:
    """Read and check every section of a `params.yaml`.

    Raises:
        ParamsError: as `read_section`.
    """
    return validate_params(load_yaml(path), path)


def validate_params(values: object, path: Path) -> Params:
    """Check the parsed values of a whole `params.yaml`; `path` is for the message.

    Raises:
        ParamsError: one message has all violations.
    """
    return validate_section(path, Params, values, "")
