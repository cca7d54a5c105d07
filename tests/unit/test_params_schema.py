"""Editors know the keys of `params.yaml` by a schema that is the one of the code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import create_model

from pipeline.base.section import load_yaml
from pipeline.params import Params
from tests.support import params_schema
from tests.support.command import ROOT


def keys_in(value: object) -> set[str]:
    """Every key of parsed YAML, at any depth."""
    if isinstance(value, list):
        return {key for part in value for key in keys_in(part)}
    return set(value) | {key for part in value.values() for key in keys_in(part)} if isinstance(value, dict) else set()


def properties_in(schema: Any) -> set[str]:
    """Every property that a schema names, at any depth."""
    models = [schema, *schema["$defs"].values()]
    return {name for model in models for name in model.get("properties", {})}


def test_the_schema_is_that_of_the_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    text = params_schema.SCHEMA_JSON.read_text(encoding="utf-8")
    assert text == params_schema.schema_text(), "run: python -m tests.support.params_schema"
    monkeypatch.setattr(params_schema, "Params", create_model("Params", __base__=Params, new=(int, ...)))
    assert text != params_schema.schema_text()


def test_the_schema_knows_every_key_and_no_other_one() -> None:
    schema = json.loads(params_schema.SCHEMA_JSON.read_text(encoding="utf-8"))
    assert keys_in(load_yaml(ROOT / "params.yaml")) <= properties_in(schema)
    assert "seeds" not in properties_in(schema)
    assert all(model["additionalProperties"] is False for model in (schema, *schema["$defs"].values()))


def test_editors_find_the_schema_by_the_first_line_of_the_params() -> None:
    first = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={params_schema.SCHEMA_JSON.name}"
