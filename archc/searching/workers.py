"""Processes that run trials of one study side by side: how they sign, how they know of each other's deaths.

On one machine a process is there or not; of another machine the study hears, now and then, that it lives (Optuna's own
heartbeats are of databases alone).
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

BEAT_S, DEAD_S = 30.0, 180.0
ALIVE = "alive "
_APART = 7919  # between the seeds of workers: more than trials that a sampler begins with


class Worker:
    """This process as a worker of a study; use it as a context, in which the study hears of it."""

    def __init__(self, study: Any) -> None:
        self.study = study
        self.name = signed()
        self._stop = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    @property
    def others(self) -> int:
        """How many other workers of the study live."""
        names = [key.removeprefix(ALIVE) for key in self.study.user_attrs if key.startswith(ALIVE)]
        return sum(self.alive(name) for name in names if name != self.name)

    def seed(self, seed: int) -> int:
        """The seed of this worker's proposals: one alone has that of the search, further on the more trials there are,
        and several at once must not propose the same."""
        return seed + len(self.study.get_trials(deepcopy=False)) + _APART * self.others

    def alive(self, name: str) -> bool:
        """Whether the worker that signed so lives."""
        host, _, rest = name.partition(" ")
        pid, _, started = rest.partition(" ")
        if host == socket.gethostname():
            return pid.isdecimal() and bool(started) and _started(int(pid)) == started
        heard = self.study.user_attrs.get(ALIVE + name, 0.0)
        return bool(host) and time.time() - heard < DEAD_S

    def __enter__(self) -> Worker:
        self.study.set_user_attr(ALIVE + self.name, time.time())
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._beats.join()
        self.study.set_user_attr(ALIVE + self.name, 0.0)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            self.study.set_user_attr(ALIVE + self.name, time.time())


def signed() -> str:
    """What this process signs its trials with: machine, process, and when that began."""
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"


@contextmanager
def side_by_side(workers: int, folder: Path, names_in: Path) -> Iterator[None]:
    """`workers` less one more processes that run trials of the search in a folder, whose file names things relative to
    `names_in`; they are waited for."""
    from archc.searching.run import work

    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=work, args=(folder, names_in)) for _ in range(workers - 1)]
    for process in started:
        process.start()
    try:
        yield
        for process in started:
            process.join()
    finally:
        for process in started:
            process.terminate()


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks: a number that a later process of the same id has not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
