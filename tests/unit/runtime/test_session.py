"""The session's settings on other processors than this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import session


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "flags : avx2 avx512_vnni", False),
        ("AMD64", "flags : avx2 avx_vnni", False),
        ("x86_64", "flags : sse4_1 avx2", True),
        ("x86_64", None, True),  # unknown processor: prefer exact to fast
        ("aarch64", "Features : asimd", False),
        ("arm64", None, False),
    ],
)
def test_int8_is_computed_exactly_on_x86_without_vnni(
    machine: str, flags: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(flags)
    monkeypatch.setattr(session.platform, "machine", lambda: machine)
    assert session._int8_may_overflow(cpuinfo) is expected


@pytest.mark.parametrize("may_overflow", [True, False])
def test_the_session_asks_for_the_exact_kernels_only_there(may_overflow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_int8_may_overflow", lambda: may_overflow)
    options = session._options(session.onnxruntime(), session.Opening())
    if may_overflow:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(session.failures()):
            options.get_session_config_entry("session.x64quantprecision")


def test_threads_sleep_once_a_run_has_ended() -> None:
    options = session._options(session.onnxruntime(), session.Opening())
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
