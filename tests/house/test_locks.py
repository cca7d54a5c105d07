"""Every package that is installed has its version and the hashes of its files in a lock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("build", "train", "test", "bench", "web")


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[=\[ ;]", requirement, maxsplit=1)[0]).lower()


def pins_of(text: str) -> dict[str, str]:
    """Version by name."""
    pins = re.findall(r"^([A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?)==([^\s;]+)", text, flags=re.MULTILINE)
    return {name_of(name): version for name, version in pins}


def without_hash(text: str) -> list[str]:
    """The packages of a lock that have no hash."""
    requirements = re.split(r"\n(?=[^\s#])", text.strip())
    return [name_of(requirement) for requirement in requirements if "--hash=sha256:" not in requirement]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_a_hash_and_the_version_that_is_pinned(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    constraints = pins_of((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert without_hash(text) == []
    pins = pins_of(text)
    assert len(pins) == len(re.findall(r"^\S", text, flags=re.MULTILINE))
    assert {name: pins[name] for name in pins.keys() & constraints.keys()} == {
        name: constraints[name] for name in pins.keys() & constraints.keys()
    }


def test_every_pinned_package_is_in_a_lock() -> None:
    locked = {name for lock in LOCKS for name in pins_of((ROOT / "requirements" / f"{lock}.txt").read_text())}
    assert set(pins_of((ROOT / "constraints.txt").read_text(encoding="utf-8"))) - locked == set()


def test_a_package_without_a_hash_is_seen() -> None:
    assert without_hash("a==1 \\\n    --hash=sha256:00\nb==2\n") == ["b"]
