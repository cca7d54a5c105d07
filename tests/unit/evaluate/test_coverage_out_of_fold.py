"""The simulation of docs/benchmarks.md: that its folds leak nothing, and that it sees an interval that fails."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest

from tests.house.rooms import ROOT


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    name = "coverage_out_of_fold"
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_of_classes_that_do_not_differ_as_many_verdicts_are_right_as_by_chance(simulation: ModuleType) -> None:
    setting = simulation.Setting(4, 5, 32, 0.9, 0.0, "photos, loose head")
    generator = np.random.default_rng(0)
    sets = simulation._draw(setting, 0.0, generator, 200)
    every = sets.sums(np.full(20, fill_value=True))
    right = simulation._right_out_of_fold(sets, every, setting, generator, 1)
    assert right.mean() == pytest.approx(1 / 4, abs=0.03)
    heads = simulation._fit(every, setting.ridge)  # these have seen the clips that they judge
    assert (heads.logits(sets.features).argmax(axis=2) == sets.class_of).mean() > 0.7


def test_the_accuracy_on_new_clips_is_that_of_clips_that_are_drawn_one_by_one(simulation: ModuleType) -> None:
    setting = simulation.Setting(3, 6, 8, 0.9, 0.3, "uneven")
    generator = np.random.default_rng(1)
    sets = simulation._draw(setting, 1.5, generator, 1)
    heads = simulation._fit(sets.sums(np.full(len(sets.class_of), fill_value=True)), setting.ridge)
    _, deviation = setting.draw_sizes(generator, (1, len(sets.class_of) * 500))
    class_of = np.tile(sets.class_of, 500)
    noise = generator.standard_normal((1, len(class_of), 8))
    new = sets.means[class_of] + deviation[..., None] * noise
    share = (heads.logits(new).argmax(axis=2) == class_of).mean()
    assert 0.6 < share < 0.99
    assert simulation._accuracy_on_new_clips(heads, sets, setting, generator) == pytest.approx(share, abs=0.02)


def test_the_shown_interval_holds_the_truth_where_the_exact_one_does_not(simulation: ModuleType) -> None:
    row = simulation.simulate(simulation.Setting(10, 2, 32, 0.9, 0.3, "even"), 200, 1, 0)
    assert row["coverage_of_exact"] < 0.8
    assert row["coverage"] > 0.93
    assert row["signed_error"] < -0.05  # each fold's head learned from half of the clips
    assert row["truth"] == pytest.approx(0.9, abs=0.04)
