"""What a run tells of itself: a record of every step and of every measurement, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Record:
    """One step, or one event between steps (`evaluation`, `rollback`, `stop`), of a run.

    `figures` are losses in nats a token by label, what they tell as `label/figure`, and whatever else is measured;
    of an event, what it says.
    """

    step: int
    elapsed_s: float
    progress: float
    tokens: int
    figures: Mapping[str, Any] = field(default_factory=dict)
    event: str = ""
    said: str = ""

    def data(self) -> dict[str, Any]:
        """The record as flat plain data, what is empty left out."""
        head = {"step": self.step, "elapsed_s": round(self.elapsed_s, 3), "tokens": self.tokens}
        told = {name: value for name, value in (("event", self.event), ("said", self.said)) if value}
        return {**head, **told, **self.figures}


Report: TypeAlias = Callable[[Record], None]


@dataclass(frozen=True)
class Summary:
    """How a run ended. Held-out losses are None without held-out text.

    `interrupted`: before its budget was spent, by the signal of the number `signal` (0: none)."""

    steps: int
    tokens: int
    elapsed_s: float
    first_held_out_loss: float | None
    held_out_loss: float | None
    bits_per_byte: float | None
    interrupted: bool
    signal: int = 0
