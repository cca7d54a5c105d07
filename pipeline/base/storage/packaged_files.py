"""Files that a checkout has beside the package, and that a wheel carries inside it: params, recipes, the chain."""

from __future__ import annotations

from pathlib import Path

import pipeline

CHAIN = "chain.yaml"  # not dvc.yaml: DVC would read it where an environment lies inside a project
_IN_WHEEL = "packaged"
_IN_CHECKOUT = {
    CHAIN: "dvc.yaml",
    "groups.csv": "data/groups.csv",
    "split.keep.csv": "data/split.keep.csv",
    "plots": ".dvc/plots",
    "dvcignore": ".dvcignore",
    "gitignore": ".gitignore",
    "gitattributes": ".gitattributes",
}


def packaged(name: str) -> Path:
    """The path of a file or folder by the name that it has in the wheel; `pyproject.toml` lists them all."""
    package = Path(pipeline.__file__).parent
    inside = package / _IN_WHEEL / name
    return inside if inside.exists() else package.parent / _IN_CHECKOUT.get(name, name)
