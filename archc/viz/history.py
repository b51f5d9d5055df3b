"""The history of a checkpoint: what was done to it, oldest first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from archc.hub.checkpoint_dir import load_checkpoint

SHORT = 16  # digits of a hash that are shown


def print_history(checkpoint: Path, *, as_json: bool = False) -> None:
    """Print the steps of a checkpoint's history. Raises WeightError where the folder is no checkpoint."""
    steps = load_checkpoint(checkpoint).history
    if as_json:
        typer.echo(json.dumps(steps, indent=2))
        return
    for number, step in enumerate(steps, 1):
        typer.echo(f"{number}  {step.get('step')}")
        for line in _told({k: v for k, v in step.items() if k != "step"}):
            typer.echo(f"     {line}")


def _told(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """`name  value`, a line each: lists of lines one below the other, records by their fields."""
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _told(value, f"{name}.")
        elif isinstance(value, list) and all(isinstance(v, str) for v in value):
            yield from (f"{name}  {v}" for v in value)
        elif isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
            yield f"{name}  {value[:SHORT]}"
        elif value not in (None, [], {}):
            yield f"{name}  {value}"
