"""Memory that a torch process frees stays with it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from pipeline.network import freed_memory

# Prints the pages that the system gave while 20 feature maps of 100 MB were made and freed in turn. The first ones
# find the places that the later ones take again.
_PAGES = """
import resource
import torch
{first}
for _ in range(20):
    torch.ones(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
_KEEP = "from pipeline.network.freed_memory import keep_freed_memory; keep_freed_memory()"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_a_feature_map_takes_the_memory_of_the_one_before_it() -> None:
    assert _pages(_KEEP) < _pages("") / 10


@pytest.mark.parametrize(("system", "opened"), [("win32", []), ("darwin", []), ("linux", [None])])
def test_a_system_without_the_setting_is_left_as_it_is(
    system: str, opened: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[object]()

    def without_mallopt(name: object) -> object:
        asked.append(name)
        return object()

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", without_mallopt)
    freed_memory.keep_freed_memory()
    assert asked == opened


def _pages(first: str) -> int:
    command = [sys.executable, "-c", _PAGES.format(first=first)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
