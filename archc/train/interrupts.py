"""SIGINT and SIGTERM as an event, so that a run ends after its step and saves."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the same signal again acts at once. Only the main thread hears signals."""
    heard = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(signum: int, frame: FrameType | None) -> None:
        heard.set()
        signal.signal(signum, previous[signal.Signals(signum)])

    for number in previous:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
