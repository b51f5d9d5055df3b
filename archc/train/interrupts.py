"""SIGINT and SIGTERM as an event, so that a run ends after its step and saves."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Heard(threading.Event):
    """Set by a signal, `number`; 0 while there was none."""

    number = 0


@contextlib.contextmanager
def interrupts() -> Iterator[Heard]:
    """An event that SIGINT and SIGTERM set; the same signal again acts at once. Only the main thread hears signals."""
    heard = Heard()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(signum: int, frame: FrameType | None) -> None:
        heard.number = signum
        heard.set()
        signal.signal(signum, previous[signal.Signals(signum)])

    for number in previous:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
