"""What every stage that runs a network sets first."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from click.testing import CliRunner

from pipeline.base.project import Project
from pipeline.cli.main import cli
from pipeline.network import torch_settings
from pipeline.network.torch_settings import set_up_torch

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
_KEEP = "from pipeline.network.torch_settings import set_up_torch; set_up_torch()"


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
    monkeypatch.setattr(torch_settings.ctypes, "CDLL", without_mallopt)
    torch_settings.keep_freed_memory()
    assert asked == opened


def _pages(first: str) -> int:
    command = [sys.executable, "-c", _PAGES.format(first=first)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture
def allowed_tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("allowed_tf32")
def test_tf32_is_forbidden() -> None:
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    set_up_torch()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("stage", ["pipeline.train", "pipeline.evaluate", "export.export", "export.parity"])
def test_a_stage_that_runs_a_network_sets_up_torch(
    stage: str, exported: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(f"{stage}.stage.set_up_torch", set_up)
    monkeypatch.chdir(exported.root)
    finished = CliRunner().invoke(cli, [stage.rsplit(".", 1)[1]])
    assert isinstance(finished.exception, InterruptedError), finished.output
    set_up.assert_called_once_with()
