"""The oldest versions: checked on the device, and the same in the bundle and on the PC."""

from __future__ import annotations

import tomllib
from types import SimpleNamespace

import numpy as np
import PIL
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import runtime
from runtime import requirements
from runtime.errors import DeviceError
from runtime.requirements import OLDEST, check_versions
from tests.support.tiny_bundle import ROOT


def test_what_is_installed_here_is_new_enough() -> None:
    assert check_versions() is None  # does not raise


@pytest.mark.parametrize(("module", "version"), [(PIL, "9.5.0"), (np, "1.25.2"), (np, "1.9"), (PIL, "unknown")])
def test_a_package_that_is_too_old_is_named(module: object, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__version__", version)
    name = "Pillow" if module is PIL else "numpy"
    with pytest.raises(DeviceError) as caught:
        check_versions()
    expected = f"{name} {version} is installed; expected {OLDEST[name]} or newer; pip install -r requirements.txt"
    assert str(caught.value) == expected


def test_every_package_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", "9.5.0")
    monkeypatch.setattr(requirements, "onnxruntime", lambda: SimpleNamespace(__version__="1.19.2"))
    with pytest.raises(DeviceError, match=r"^onnxruntime 1\.19\.2 is installed; .* and Pillow 9\.5\.0 is installed; "):
        check_versions()


@pytest.mark.parametrize("version", ["11.0", "11.0.0", "11.3.0.dev0", "12.0rc1", "11.2.1+local"])
def test_versions_from_the_oldest_on_are_accepted(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", version)
    assert check_versions() is None  # does not raise


def test_the_project_needs_nothing_older_than_the_bundle() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    on_the_pc = [Requirement(text) for text in settings["dependencies"]]
    for name, oldest in OLDEST.items():
        same = [need for need in on_the_pc if need.name.removesuffix("-gpu") == name.lower()]
        assert same
        for need in same:
            (bound,) = need.specifier
            assert bound.operator == ">="
            assert Version(bound.version) >= Version(oldest)
    (python,) = Requirement(f"python{settings['requires-python']}").specifier
    assert Version(python.version) >= Version(".".join(map(str, runtime.OLDEST_PYTHON)))
