"""SIGKILL at random moments, between steps and in the middle of a checkpoint: the run goes on and ends the same, to the
bit, as one that was left alone."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.train.engine_kit import same
from tests.train.kill_child import go_on

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.kill_child"])
    return context


@pytest.fixture(scope="module")
def alone(processes: ForkServerContext, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The state of a run that nobody kills, and how long it takes."""
    place = tmp_path_factory.mktemp("alone")
    finished(started(processes, place / "warm", "sync"))
    began = time.monotonic()
    finished(started(processes, place / "run", "sync"))
    return place / "run.safetensors", time.monotonic() - began


def started(processes: ForkServerContext, folder: Path, write: str) -> ForkServerProcess:
    process = processes.Process(target=go_on, args=(folder, write, folder.with_suffix(".safetensors")))
    process.start()
    return process


def finished(process: ForkServerProcess) -> None:
    process.join(PATIENCE_S)
    assert process.exitcode == 0


def killed(process: ForkServerProcess, folder: Path, chance: random.Random, usual_s: float) -> str:
    """Kill a process at a random moment, or in the middle of writing a checkpoint; says which it was."""
    assert process.pid is not None
    until = time.monotonic() + chance.uniform(0.0, usual_s)
    writing = chance.random() < 0.5
    seen = False
    while process.is_alive() and (writing or time.monotonic() < until):
        if writing and any(folder.glob("checkpoints/.*.partial")):
            time.sleep(chance.uniform(0.0, 0.1))
            seen = any(folder.glob("checkpoints/.*.partial"))
            if seen or time.monotonic() > until:
                break
        time.sleep(0.001)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return "in a checkpoint" if seen else "between"


def trial(number: int, processes: ForkServerContext, alone: tuple[Path, float], tmp_path: Path) -> list[str]:
    expected, usual_s = alone
    chance = random.Random(number)
    folder, write = tmp_path / "run", ("sync", "async")[number % 2]
    moments = []
    for _ in range(chance.randint(1, 3)):
        moments.append(killed(started(processes, folder, write), folder, chance, usual_s))
    finished(started(processes, folder, write))
    assert same(load_file(expected), load_file(folder.with_suffix(".safetensors")))
    assert not list(folder.glob("checkpoints/.*"))
    return moments


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_a_killed_run_ends_as_one_left_alone(
    number: int, processes: ForkServerContext, alone: tuple[Path, float], tmp_path: Path
) -> None:
    trial(number, processes, alone, tmp_path)


@pytest.mark.nightly
def test_fifty_of_fifty(processes: ForkServerContext, alone: tuple[Path, float], tmp_path: Path) -> None:
    moments = [m for n in range(100, 150) for m in trial(n, processes, alone, _made(tmp_path / str(n)))]
    told = {kind: moments.count(kind) for kind in ("between", "in a checkpoint")}
    print(f"50 of 50 runs, killed {told}")
    assert min(told.values()) >= 10


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
