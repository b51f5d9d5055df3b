"""What takes a while tells how far it is: without a terminal in lines, which the command line writes to stderr."""

from __future__ import annotations

import logging

import pytest

from archc import progress
from archc.cli import _log_to_stderr
from archc.progress import bar
from archc.train.sources.progress import reading_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands where its one item says."""
    now = [0.0]
    monkeypatch.setattr("archc.progress.time.monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="archc.progress"), bar("windows", 1000) as advance:
        for seconds, done in ((9.0, 90), (11.0, 20), (12.0, 10), (400.0, 380)):
            clock[0] = seconds
            advance(done)
    assert [record.getMessage() for record in caplog.records] == [
        "windows: 110 of 1,000 (11%), about 89 s left",
        "windows: 500 of 1,000 (50%), about 7 min left",
    ]


def test_bytes_are_told_as_sizes_and_without_a_total_as_they_are(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="archc.progress"):
        for total in (2**31, 0):
            with reading_bar("tokenising", total) as advance:
                clock[0] += progress.LINES_S
                advance(2**30)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "tokenising: 1.00 GiB of 2.00 GiB (50%), about 10 s left"
    assert second == "tokenising: 1.00 GiB"


def test_the_command_line_writes_the_lines_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    _log_to_stderr()
    logging.getLogger("archc.progress").info("perplexity: 1 of 2")
    logging.getLogger("archc.other").info("not shown")
    logging.getLogger("archc.other").warning("shown")
    assert capsys.readouterr().err == "perplexity: 1 of 2\nwarning: shown\n"
