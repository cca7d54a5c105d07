"""What is published of a row's network: its year, its parameters with 1,000 classes, and its ImageNet top-1."""

from __future__ import annotations

import functools
from dataclasses import dataclass

_YEARS = {"vgg": 2014, "resnet": 2015, "mobilenet_v2": 2018}  # of the first paper, by the beginning of the name


@dataclass(frozen=True)
class PublishedNetwork:
    """A network of torchvision's, as it was published for ImageNet."""

    year: int | None
    parameters: int  # with 1,000 classes
    imagenet_top1: float  # a share; of the weights that `model.weights: imagenet` starts from


@functools.cache
def published_network(arch: str) -> PublishedNetwork | None:
    """Look up what torchvision states with its weights; None where it has none of this name. No network is built."""
    import torchvision

    if arch not in torchvision.models.list_models(module=torchvision.models):
        return None
    meta = torchvision.models.get_model_weights(arch).DEFAULT.meta
    year = next((year for name, year in _YEARS.items() if arch.startswith(name)), None)
    return PublishedNetwork(year, meta["num_params"], round(meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, 5))
