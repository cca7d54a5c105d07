"""The table of docs/evaluate.md says what the code computes."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from tests.house.rooms import ROOT

TEXT = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clips_needed", ROOT / "benchmarks" / "clips_needed.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_clips_that_are_needed_is_the_computed_one(benchmark: ModuleType) -> None:
    assert "\n".join(benchmark.table()) in TEXT


def test_a_table_of_other_numbers_is_noticed(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SHARE_RIGHT", 0.8), ("CLASSES", (2, 5, 11)), ("RATES_FOR_NONE", (1 / 11, 0.04))):
        with monkeypatch.context() as planted:
            planted.setattr(benchmark, name, value)
            assert "\n".join(benchmark.table()) not in TEXT
