"""How quick the commands feel: `python benchmarks/cli.py` prints seconds beside their limits.

Commands are whole processes, the start of Python included; so is the compilation of Nemotron 3 Super, from spec to
source, less what importing torch takes. The least of several runs counts: others may use the machine too. The exit
status says whether anything was over its limit, or imported torch that should not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

SUPER = "nemotron-3-super-120b-a12b"
COMMANDS: tuple[tuple[str, float], ...] = (
    ("--help", 0.3),
    ("estimate nemotron-nano-9b-v2 --hardware a10g --context 128k", 0.5),
    (f"show {SUPER}", 0.5),
    (f"show {SUPER} --html -", 0.7),
    ("diff nemotron-nano-12b-v2 nemotron-nano-9b-v2", 0.7),
)
SOURCE_LIMIT_S = 1.0

LOADS_TORCH = """
import contextlib, io, sys
from archc.cli import main
sys.argv = ["archc", *sys.argv[1:]]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print("torch" in sys.modules)
"""
SOURCE_S = """
import sys, time
import torch
began = time.perf_counter()
from archc.codegen import emit_sources
from archc.resolve import load
emit_sources(load(sys.argv[1]))
print(time.perf_counter() - began)
"""


def python(*arguments: str) -> str:
    """What a fresh Python prints. Raises RuntimeError when it fails; 1 is how `diff` says that models differ."""
    run = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)
    if run.returncode not in (0, 1):
        raise RuntimeError(run.stderr)
    return run.stdout


def command_s(command: str) -> float:
    """Seconds of one run of a command."""
    began = time.perf_counter()
    python("-m", "archc", *command.split())
    return time.perf_counter() - began


def loads_torch(command: str) -> bool:
    """Whether a command imports torch."""
    return python("-c", LOADS_TORCH, *command.split()).strip() == "True"


def source_s() -> float:
    """Seconds from the spec to the source of Super, in a process that has imported torch."""
    return float(python("-c", SOURCE_S, SUPER))


def least(runs: int, measure: Callable[[], float]) -> float:
    """The least of several measurements."""
    return min(measure() for _ in range(runs))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    failed = False
    for command, limit_s in COMMANDS:
        seconds, torch = least(runs, lambda command=command: command_s(command)), loads_torch(command)  # type: ignore[misc]
        failed |= seconds > limit_s or torch
        report(f"archc {command}", seconds, limit_s, ", imports torch" if torch else "")
    seconds = least(runs, source_s)
    report(f"{SUPER} to source, torch imported", seconds, SOURCE_LIMIT_S)
    sys.exit(failed or seconds > SOURCE_LIMIT_S)


def report(what: str, seconds: float, limit_s: float, more: str = "") -> None:
    """One line of the table."""
    print(f"{what:68s}{seconds:6.3f} s  (limit {limit_s} s){'  over' if seconds > limit_s else ''}{more}", flush=True)


if __name__ == "__main__":
    main()
