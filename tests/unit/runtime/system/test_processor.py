"""The processor's name, as /proc/cpuinfo or Python gives it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from runtime.system.processor import processor_name

PI = "processor\t: 0\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("vendor_id\t: GenuineIntel\nmodel\t\t: 60\nmodel name\t: Intel(R)  Core(TM) i5\n", "Intel(R) Core(TM) i5"),
        (PI, "Raspberry Pi 5 Model B Rev 1.0"),
        ("processor\t: 0\nCPU part\t: 0xd0b\n", "some processor"),
        ("model name\t:\n", "some processor"),
        (None, "some processor"),
    ],
)
def test_the_name_is_the_systems_own(
    cpuinfo: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "processor", lambda: "some processor")
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert processor_name(tmp_path / "cpuinfo") == name


def test_there_is_always_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert processor_name(tmp_path / "none") == platform.machine()
    monkeypatch.setattr(platform, "machine", lambda: "")
    assert processor_name(tmp_path / "none") == "unknown"
    assert processor_name().strip()
