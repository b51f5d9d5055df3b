"""Draws docs/*.svg, the pictures of the README: `.venv/bin/python docs/pictures.py`. Each is what a command prints."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 108
PICTURES = {"show.svg": [["show", "nemotron-nano-9b-v2"]]}


def printed(arguments: list[str]) -> Text:
    """The command line and what it prints, coloured."""
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
    run = subprocess.run(
        [sys.executable, "-m", "archc", *arguments], env=env, capture_output=True, text=True, check=True
    )
    return Text.assemble((f"$ archc {' '.join(arguments)}\n", "bold"), Text.from_ansi(run.stdout), "\n")


def main() -> None:
    """Draw every picture."""
    for name, commands in PICTURES.items():
        console = Console(record=True, width=WIDTH, file=io.StringIO())
        for arguments in commands:
            console.print(printed(arguments), soft_wrap=True)
        (HERE / name).write_text(console.export_svg(title="archc"), encoding="utf-8")


if __name__ == "__main__":
    main()
