"""The JSON schema of `params.yaml`, by which editors complete keys and mark mistakes.

python -m tests.support.params_schema    writes params.schema.json; run it after a change of a section
"""

from __future__ import annotations

import json

from pipeline.params import Params
from tests.support.command import ROOT

SCHEMA_JSON = ROOT / "params.schema.json"


def schema_text() -> str:
    """The content of `params.schema.json`."""
    return json.dumps(Params.model_json_schema(), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA_JSON.write_text(schema_text(), encoding="utf-8", newline="\n")
