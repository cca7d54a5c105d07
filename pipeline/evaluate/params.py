"""The section `evaluate` of `params.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.base.section import Section


class EvaluateParams(Section):
    """How the held-out frames are judged."""

    knn_neighbours: Annotated[int, Field(ge=1)]
    montage_frames: Annotated[int, Field(ge=1, le=200)]
    batch_size: Annotated[int, Field(ge=1)]
