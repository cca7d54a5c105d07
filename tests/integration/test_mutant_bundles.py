"""Damaged and hostile bundles do no harm, and the trial that proves it notices harm.

The trial of all 5,000 is `tests/trials/mutant_bundles.py`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from pipeline.tools import verify_bundle
from tests.support.mutants import NEW_HASHES, OLD_HASHES, mutant, zipped
from tests.support.tiny_bundle import rewrite_sums
from tests.trials import mutant_bundles as mutant_trial
from tests.trials.mutant_bundles import (
    ACCEPTED,
    HARMLESS,
    REFUSED,
    WRONG_VERIFIER,
    Outcome,
    Sound,
    judge,
    sound_bundle,
    trial,
)

N_MUTANTS = 150


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked bundle that mutants are made from; tests must not change it."""
    return sound_bundle(tmp_path_factory.mktemp("sound"))


def test_no_mutant_does_harm(sound: Path) -> None:
    outcomes = list(trial(range(N_MUTANTS), 0, sound))
    assert [outcome for outcome in outcomes if outcome.verdict not in HARMLESS] == []
    assert [outcome.number for outcome in outcomes] == list(range(N_MUTANTS))
    assert {outcome.kind for outcome in outcomes} == {*OLD_HASHES, *NEW_HASHES}
    rehashed = [outcome for outcome in outcomes if outcome.number % 2]
    refused_after_opening = [o for o in rehashed if o.verdict == REFUSED and "mutant.zip" not in o.remark]
    assert len(refused_after_opening) > len(rehashed) / 4
    assert sum(outcome.verdict == ACCEPTED for outcome in rehashed) > 5


def test_the_same_number_is_the_same_mutant_and_another_seed_another(sound: Path) -> None:
    files = Sound.of(sound).files
    assert mutant(4, files, "/x") == mutant(4, files, "/x")
    assert mutant(4, files, "/x") != mutant(4, files, "/x", seed=1)


# Planted faults, each of which the trial must notice


def crash_at_second(zip_path: Path, folder: Path, sound: Sound) -> tuple[str, str]:
    if folder.with_name("again").exists():
        os.kill(os.getpid(), signal.SIGSEGV)
    folder.with_name("again").touch()
    return REFUSED, ""


def write_outside(zip_path: Path, folder: Path, sound: Sound) -> tuple[str, str]:
    (folder.parents[1] / "escaped").touch()
    return ACCEPTED, ""


def take_memory(zip_path: Path, folder: Path, sound: Sound) -> tuple[str, str]:
    return ACCEPTED, str(len(b"x" * (mutant_trial.MEMORY_MIB + 100) * 2**20))


def sleep(zip_path: Path, folder: Path, sound: Sound) -> tuple[str, str]:
    time.sleep(600)
    return REFUSED, ""


def chatter(zip_path: Path, folder: Path, sound: Sound) -> tuple[str, str]:
    os.write(1, b"a library speaks")
    return REFUSED, ""


def planted(name: str, numbers: range, sound: Path) -> list[Outcome]:
    return list(trial(numbers, 0, sound, f"tests.integration.test_mutant_bundles:{name}"))


def test_a_crash_costs_a_child_and_the_next_one_goes_on(sound: Path) -> None:
    verdicts = [outcome.verdict for outcome in planted("crash_at_second", range(3), sound)]
    assert verdicts == ["wrote outside", "crash (SIGSEGV)", "crash (SIGSEGV)"]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("write_outside", "wrote outside"), ("take_memory", "much memory"), ("chatter", "noise")],
)
def test_what_is_planted_is_noticed(name: str, verdict: str, sound: Path) -> None:
    assert planted(name, range(1), sound)[-1].verdict == verdict


def test_a_mutant_that_never_answers_is_stopped(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutant_trial, "PATIENCE_SECONDS", 4)
    assert [outcome.verdict for outcome in planted("sleep", range(1), sound)] == ["hang"]


def judged(folder: Path, found: Sound) -> str:
    path = folder / "mutant.zip"
    path.write_bytes(zipped(found.files))
    return judge(path, folder / "bundle", found)[0]


def test_a_sound_bundle_is_accepted_and_other_logits_are_not(sound: Path, tmp_path: Path) -> None:
    found = Sound.of(sound)
    (tmp_path / "first").mkdir()
    assert judged(tmp_path / "first", found) == ACCEPTED
    assert judged(tmp_path, dataclasses.replace(found, logits=found.logits + 1)) == "other logits"


@pytest.mark.parametrize(
    ("number", "verdict", "remark"),
    [
        (2, True, "the sound bundle's signature: accepted"),
        (3, True, "the sound bundle's signature: accepted"),
        (None, True, "a foreigner's signature: accepted"),
        (None, False, "the sound bundle's signature: refused"),
    ],
)
def test_a_verifier_that_accepts_too_much_or_too_little_is_noticed(
    number: int | None, verdict: bool, remark: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Sound.of(sound)
    content = zipped(found.files) if number is None else mutant(number, found.files, str(tmp_path)).content
    (tmp_path / "mutant.zip").write_bytes(content)
    monkeypatch.setattr(verify_bundle, "is_signed", lambda *_: verdict)
    assert judge(tmp_path / "mutant.zip", tmp_path / "bundle", found)[0] == WRONG_VERIFIER
    assert remark in judge(tmp_path / "mutant.zip", tmp_path / "bundle", found)[1]


def test_a_verifier_that_accepts_another_folder_is_noticed(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = Sound.of(sound).signed
    folder = Path(shutil.copytree(sound, tmp_path / "bundle"))
    assert signed.fault_with_folder(folder) is None
    (folder / "README.md").write_text("another")
    rewrite_sums(folder)
    assert signed.fault_with_folder(folder) is None
    monkeypatch.setattr(verify_bundle, "is_signed", lambda *_: True)
    assert signed.fault_with_folder(folder) == "accepted"


@pytest.mark.parametrize(("error", "verdict"), [(KeyError("deep inside"), "traceback"), (MemoryError(), "traceback")])
def test_another_exception_than_a_refusal_is_a_traceback(
    error: Exception, verdict: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(mutant_trial, "unpack", fails)
    assert judged(tmp_path, Sound.of(sound)) == verdict


@pytest.mark.parametrize(("code", "line"), [(2, "usage"), (1, ""), (1, "two\nlines"), (70, "a bug")])
def test_an_end_without_one_line_is_no_clean_refusal(
    code: int, line: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutant_trial, "_selfcheck", lambda folder: (code, line))
    assert judged(tmp_path, Sound.of(sound)) == "no clean refusal"
