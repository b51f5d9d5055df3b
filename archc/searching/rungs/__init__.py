"""Rungs of the scoring ladder that run, train and evaluate candidates. One file each; importing registers them."""

from __future__ import annotations

from archc.searching.rungs import capacity, distil, evaluate, retained, zero_shot  # noqa: F401
from archc.searching.rungs.base import RUNGS, RungOptions

__all__ = ["RUNGS", "RungOptions"]
