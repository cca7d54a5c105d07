"""Values that refuse to be what they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.base.numbers.checked_values import Interval, ValueOrReason


def test_a_value_has_no_reason_and_a_missing_value_has_one() -> None:
    assert ValueOrReason(Interval(0.25, 0.5), None).to_json("share") == {"share": [0.25, 0.5], "share_reason": None}
    assert ValueOrReason(None, "too few").to_json("share") == {"share": None, "share_reason": "too few"}


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ValueOrReason, (None, None), "expected one of the two"),
        (ValueOrReason, (0.5, "not fitted"), "expected one of the two"),
        (Interval, (0.5, 0.25), "found 0.5 to 0.25; expected the lower end first"),
        (Interval, (-0.5, 0.25), "low: found -0.5; expected a share from 0 to 1"),
        (Interval, (0.5, float("nan")), "high: found nan; expected a share from 0 to 1"),
    ],
)
def test_a_value_that_cannot_be_is_refused(kind: Any, values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(*values)
