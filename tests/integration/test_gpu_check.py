"""The driver of `scripts/gpu_check.sh`, with planted parts: it needs no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import onnxruntime
import psutil
import pytest
import torch

from export.graphs.runner import Graph
from pipeline.base.errors import DataError
from pipeline.train.inputs import batched_views
from runtime.classifier import CONTRACT
from tests.support.command import ROOT
from tests.support.tiny_bundle import draft_contract, write_models
from tests.trials import gpu_parts
from tests.trials.gpu_check import (
    FAILED,
    LACKING,
    MOST_SECONDS,
    NO_TIME,
    NOT_POSSIBLE,
    PASSED,
    TOO_SLOW,
    WHEELS_SECONDS,
    Part,
    main,
    missing_packages,
    parts,
    run_part,
    run_parts,
)

SCRIPT = ROOT / "scripts" / "gpu_check.sh"
SLEEPS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def planted(name: str, code: str, limit_seconds: float = 60, **changed: str) -> Part:
    return Part(name, ("-c", code), limit_seconds, **changed)


def planted_parts(_: Path) -> list[Part]:
    return [
        planted("fails", "import sys; print('half a line'); sys.exit('a planted | fault')"),
        planted("too slow", SLEEPS, limit_seconds=1),
        planted("lacks", f"import sys; print('no TensorRT'); sys.exit({NOT_POSSIBLE})"),
        planted("skipped", "print('5 skipped in 0.1s')", must_say=r"\d+ passed"),
        planted("tests", "print('5 passed in 0.1s')", must_say=r"\d+ passed"),
        planted("figures", """print('{"images": 840, "cards": ["A", "B"], "records": [{}]}')"""),
    ]


def test_every_part_is_run_and_noted_whatever_became_of_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)], planted_parts) == 1
    result = json.loads((tmp_path / "gpu_check.json").read_text(encoding="utf-8"))
    outcomes = {part["part"]: part["outcome"] for part in result["parts"]}
    assert outcomes == {
        "fails": FAILED,
        "too slow": TOO_SLOW,
        "lacks": LACKING,
        "skipped": FAILED,
        "tests": PASSED,
        "figures": PASSED,
    }
    said = {part["part"]: part["said"] for part in result["parts"]}
    assert said["fails"] == "a planted | fault"
    assert said["lacks"] == "no TensorRT"
    assert said["figures"] == "images 840; cards A, B"
    assert result["parts"][-1]["figures"] == {"images": 840, "cards": ["A", "B"], "records": [{}]}
    table = (tmp_path / "gpu_check.md").read_text(encoding="utf-8")
    assert "| fails | failed | " in table
    assert "a planted ¦ fault |" in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert [row.count("|") for row in rows] == [6] * 8
    assert capsys.readouterr().out.splitlines() == rows


def test_parts_that_pass_or_cannot_run_here_give_exit_code_0(tmp_path: Path) -> None:
    arguments = [str(tmp_path), "--only", "tests", "--only", "lacks"]
    assert main(arguments, planted_parts) == 0
    assert main([str(tmp_path), "--only", "skipped"], planted_parts) == 1


def test_a_part_that_is_too_slow_leaves_no_process_behind(tmp_path: Path) -> None:
    assert run_part(planted("slow", SLEEPS), tmp_path, 3.0).outcome == TOO_SLOW
    child = int((tmp_path / "slow.out").read_text(encoding="utf-8"))
    end = time.monotonic() + 60
    while not _is_gone(child):  # the kernel ends it after the signal
        assert time.monotonic() < end
        time.sleep(0.01)


def _is_gone(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_when_the_time_is_over_the_rest_is_not_started(tmp_path: Path) -> None:
    slow, quick = planted("slow", SLEEPS), planted("quick", "print(1)")
    outcomes = [*run_parts([slow, quick], tmp_path, 0.5)]
    assert [outcome.outcome for outcome in outcomes] == [TOO_SLOW, NO_TIME]
    assert outcomes[0].limit_seconds <= 0.5
    assert [outcome.outcome for outcome in run_parts([quick], tmp_path, 60)] == [PASSED]


def test_all_parts_take_8_minutes_at_most_and_every_file_that_they_name_is_there(tmp_path: Path) -> None:
    planned = parts(tmp_path)
    assert sum(part.limit_seconds for part in planned) + WHEELS_SECONDS <= MOST_SECONDS == 480
    named = [argument for part in planned for argument in part.arguments if argument.endswith(".py")]
    assert named
    assert all((ROOT / name).is_file() for name in named)
    assert len({part.name for part in planned}) == len(planned)


def test_the_script_says_what_it_would_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    finished = subprocess.run(
        [SCRIPT, tmp_path / "out", "--dry-run", "--only", "chain"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip().endswith(
        f"chain: python -m tests.trials.gpu_parts chain {tmp_path / 'out' / 'chain'}"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--only", "nothing"], "--only: found nothing; expected one of fails"),
        (["--wheels", "none"], "found no folder none"),
    ],
)
def test_a_wrong_option_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), *options], planted_parts)
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err


def test_a_part_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_parts.main(["views"]) == NOT_POSSIBLE
    assert capsys.readouterr().out == "torch sees no GPU\n"


def test_views_that_differ_fail_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "_gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu_parts, "BATCH", 2)
    assert gpu_parts.main(["views"]) == 0
    draw = batched_views.batched_views
    monkeypatch.setattr(batched_views, "batched_views", lambda *given: draw(*given).flip(-1))
    assert gpu_parts.main(["views"]) == 1


def test_only_packages_that_are_missing_are_taken_from_the_folder(tmp_path: Path) -> None:
    for name in ("numpy-1.0-py3-none-any.whl", "surely_not_here-2.5-py3-none-any.whl"):
        (tmp_path / name).touch()
    assert missing_packages(tmp_path) == ["surely_not_here==2.5"]


def test_a_package_of_the_folder_is_there_for_the_parts_and_not_for_this_python(tmp_path: Path) -> None:
    """A wheel is written by hand: one module and its description."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "surely_not_here-2.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("surely_not_here.py", "")
        folder = "surely_not_here-2.5.dist-info"
        wheel.writestr(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: surely-not-here\nVersion: 2.5\n")
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{folder}/RECORD", "")
    uses = planted("uses", "import surely_not_here, numpy; print('both')", must_say="both")
    out = tmp_path / "out"
    assert main([str(out), "--wheels", str(wheels)], lambda _: [uses]) == 0, (out / "wheels.err").read_text()
    assert main([str(tmp_path / "without")], lambda _: [uses]) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_machine_whose_torch_sees_no_gpu_fails_and_says_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_parts.main(["machine"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["cards"], found["torch"]) == ([], torch.__version__)


def test_a_graph_that_tensorrt_refuses_or_changes_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle"
    write_models(bundle / CONTRACT, bundle, draft_contract())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [gpu_parts.TENSORRT])
    off = 0.0

    class Planted(Graph):
        """The graph on the CPU, with logits that are off where TensorRT was asked for."""

        def __init__(self, content: bytes, *, provider: str = "") -> None:
            super().__init__(content)
            self.off = off if provider else 0.0

        def __call__(self, *pictures: Any) -> Any:
            return super().__call__(*pictures) + self.off

    monkeypatch.setattr(gpu_parts, "Graph", Planted)
    assert gpu_parts.main(["tensorrt", str(tmp_path)]) == 0
    off = 100.0
    assert gpu_parts.main(["tensorrt", str(tmp_path)]) == 1

    def refused(content: bytes, *, provider: str = "") -> Graph:
        if provider:
            raise DataError("planted")
        return Graph(content)

    monkeypatch.setattr(gpu_parts, "Graph", refused)
    with pytest.raises(SystemExit, match="fp32: planted"):
        gpu_parts.main(["tensorrt", str(tmp_path)])
