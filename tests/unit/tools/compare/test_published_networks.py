"""The published numbers of a network are those that torchvision states, and a built network has as many parameters."""

from __future__ import annotations

import torch
import torchvision

from pipeline.base.project import Project
from pipeline.tools.compare.published_networks import PublishedNetwork, published_network
from tests.support.compared_runs import compared_table, reports
from tests.support.experiment_project import plant_experiment
from tests.support.small_project import set_params


def test_the_networks_of_study_000_are_as_table_2_has_them() -> None:
    vgg16, resnet34, mobilenet = map(published_network, ("vgg16", "resnet34", "mobilenet_v2"))
    assert vgg16 == PublishedNetwork(2014, 138_357_544, 0.71592)  # the text: 2014, 138 357 544, 71.5
    assert resnet34 == PublishedNetwork(2015, 21_797_672, 0.73314)
    assert mobilenet is not None
    assert (mobilenet.year, mobilenet.parameters) == (2018, 3_504_872)
    with torch.device("meta"):
        built = torchvision.models.mobilenet_v2()
    assert sum(parameter.numel() for parameter in built.parameters()) == mobilenet.parameters


def test_a_network_that_torchvision_does_not_have_is_not_known() -> None:
    assert published_network("small_cnn") is None
    assert published_network("timm:resnet34") is None
    unknown_year = published_network("alexnet")
    assert unknown_year is not None
    assert unknown_year.year is None


def test_the_table_has_the_published_network_beside_ours_or_the_reason_why_not(project: Project) -> None:
    columns = "parameters, published_year, published_parameters, imagenet_top1"
    set_params(project, model={"arch": "vgg16"})
    network = {"n_parameters": 134_285_126}
    plant_experiment(project, "tiny-b", reports({}, network), lr=0.2)
    text, rows = compared_table(project, columns)
    assert "| b | 1 | 134,285,126 | 2014 | 138,357,544 | 71.6 % |" in text
    assert rows["b"]["imagenet_top1"] == "0.71592"
    set_params(project, model={"arch": "small_cnn"})
    plant_experiment(project, "tiny-b", reports({}, network), lr=0.2)
    text, _ = compared_table(project, columns)
    assert "| b | 1 | 134,285,126 |  |  |  |" in text
    assert "- All rows: no published_year: torchvision has no weights of small\\_cnn." in text
