"""Params for tests: the defaults, with values changed, and how they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import ParamsError
from pipeline.params import validate_params
from tests.support.command import ROOT


def defaults() -> Any:
    """The project's `params.yaml`, parsed."""
    return YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def changed(**values: Any) -> Any:
    """The defaults with values set: `split__ratio=…` for split.ratio."""
    params = defaults()
    for name, value in values.items():
        section, key = name.split("__")
        params[section][key] = value
    return params


def refusal(params: Any) -> str:
    """The one line that says why params are refused."""
    with pytest.raises(ParamsError) as caught:
        validate_params(params, Path("params.yaml"))
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)
