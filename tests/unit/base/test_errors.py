"""Errors know their exit code, and a misspelt name gets a suggestion."""

from __future__ import annotations

from pipeline.base.errors import DataError, GateError, LeakageError, ParamsError, PipeError, nearest


def test_a_gate_exits_3_and_everything_else_that_a_person_can_fix_exits_1() -> None:
    assert [error.exit_code for error in (PipeError, DataError, ParamsError)] == [1, 1, 1]
    assert [error.exit_code for error in (GateError, LeakageError)] == [3, 3]


def test_the_nearest_name_is_the_one_spelled_most_alike() -> None:
    assert nearest("epoch", ["lr", "epochs", "batch_size"]) == "epochs"
    assert nearest("epoch", ["x"]) == "x"  # however little they are alike


def test_where_no_name_is_known_none_is_suggested() -> None:
    assert nearest("epoch", []) is None
