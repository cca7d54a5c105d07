"""Signals that end a study: told at once, raised once, and never in the middle of a clean-up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from pipeline.cli.exit_codes import interrupt_outside_imports
from pipeline.tools.studies.stop_signals import interrupted_once

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background ignores it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended_by(number: signal.Signals, told: list[str], *, during_clean_up: bool) -> None:
    """A block that gets a signal, and another one while it cleans up."""
    with interrupted_once(lambda: told.append("stopping")) as hold:
        try:
            if not during_clean_up:
                signal.raise_signal(number)
        finally:
            hold()
            signal.raise_signal(number)
            told.append("cleaned up")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("during_clean_up", [False, True])
def test_a_signal_is_told_at_once_and_raised_once_and_cuts_no_clean_up_short(
    number: signal.Signals, during_clean_up: bool
) -> None:
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        ended_by(number, told, during_clean_up=during_clean_up)
    assert told == ["stopping", "cleaned up"]


def test_an_interrupt_that_a_library_swallows_ends_the_study_all_the_same() -> None:
    with pytest.raises(KeyboardInterrupt), interrupted_once(lambda: None), contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_a_library_turns_into_an_error_ends_the_study_all_the_same() -> None:
    def import_engine() -> None:
        with interrupted_once(lambda: None):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise ImportError from error

    with pytest.raises(KeyboardInterrupt):
        import_engine()


def test_an_interrupt_during_an_import_is_raised_behind_it_as_the_command_line_does() -> None:
    interrupt_outside_imports()
    imported: list[bool] = []

    def load() -> None:
        signal.raise_signal(signal.SIGINT)
        imported.append(True)

    load.__code__ = load.__code__.replace(co_filename="<frozen importlib._bootstrap>")

    def import_engine() -> None:
        with interrupted_once(lambda: None):
            load()
            signal.pause()  # until the alarm repeats it

    with pytest.raises(KeyboardInterrupt):
        import_engine()
    assert imported == [True]


def test_without_a_signal_nothing_is_raised_and_the_handlers_are_those_of_before() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interrupted_once(lambda: None):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(ZeroDivisionError), interrupted_once(lambda: None):
        raise ZeroDivisionError
