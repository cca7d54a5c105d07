"""A study in small: each row's own network, head and loss, on few small pictures, for two epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.project import Project
from pipeline.media.recordings import find_recordings
from pipeline.tools.studies.dvc_experiments import param_value, parse_yaml
from pipeline.tools.studies.recipe import compose, read_params_of_recipe

RECIPE = "small"
_COUNTS = {"train": 8, "val": 2, "test": 4}  # pictures of each class, where the split is at random
_PLENTY = 2  # a class that loses half of its pictures to screening still has enough

Layers = Sequence[Mapping[str, Any]]  # values by section; a later layer wins


@dataclass(frozen=True)
class SmallStudy:
    """What lies over each row of a study in small."""

    params: Mapping[str, Any]  # of recipes/small.yaml
    n_fewest: int  # recordings of the class that has the fewest

    def over(self, layers: Layers, own: str, path: Path) -> list[Mapping[str, Any]]:
        """The layers of a row with those of the small study on top.

        Args:
            layers: of the row.
            own: the text of the project's `params.yaml`.
            path: the study's recipe, for the message of an error.

        Raises:
            ParamsError: the params of the row are invalid.
        """
        small = [*layers, self.params]
        split = parse_yaml(compose(own, small, path)[0])["split"]
        # Only single pictures are sure to be there: groups may hold many, and then few are left to be counted.
        if split["protocol"] != "random" or self.n_fewest < _PLENTY * sum(_COUNTS.values()):
            return small
        counts = {**_COUNTS, "val": _COUNTS["val"] if split["val"] is not None else 0}
        return [*small, {"split": {"counts": counts}}]


def small_study(params: Mapping[str, Any], own: str, path: Path, project: Project) -> SmallStudy:
    """Read `recipes/small.yaml`, and count the recordings.

    Args:
        params: that the rows of the study have in common.
        own: the text of the project's `params.yaml`.
        path: the study's recipe, for the message of an error.
        project: has the recordings.

    Raises:
        ParamsError: there is no such recipe, or `params` are invalid.
        DataError: the recordings do not lie in folders of classes.
    """
    layout = param_value(parse_yaml(compose(own, [params], path)[0]), "extract.layout")
    per_class = Counter(recording.label for recording in find_recordings(project, layout).recordings)
    return SmallStudy(read_params_of_recipe(RECIPE, project), min(per_class.values()))


def name_of_runs(study: str, *, small: bool) -> str:
    """The name that the experiments and the reports of a study begin with: that of the study, or one of its own."""
    return f"{study}.{RECIPE}" if small else study
