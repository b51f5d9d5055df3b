"""The largest batch that fits, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from archc.ir.cost_graph import LiveSet
from archc.ir.workload import Workload


def max_batch(room_bytes: int, sequence_bytes: int, live_sets: Iterable[LiveSet], workload: Workload) -> int | None:
    """The largest batch whose state and largest live set fit in `room_bytes`; None where nothing bounds it.

    With b sequences of s bytes of state, a call has max(min(b * input, chunk), b) tokens, so that a live set of t
    bytes a token and l bytes a sequence fits when b*(s + l + t) <= room, and either b*(s + l + t*input) <= room or
    b*(s + l) + t*chunk <= room. Each is solved for b; the tightest live set decides.
    """
    bounds = [_bound(room_bytes, sequence_bytes + s.logits_bytes, s.token_bytes, workload) for s in live_sets]
    tightest = min(bounds, default=math.inf)
    return None if math.isinf(tightest) else max(0, math.floor(tightest))


def _bound(room: int, each: Fraction | int, token: Fraction | int, workload: Workload) -> float | Fraction:
    decoding = _most(room, each + token)
    prefilling = max(_most(room, each + token * workload.input), _most(room - token * workload.prefill_chunk, each))
    return min(decoding, prefilling)


def _most(room: Fraction | int, each: Fraction | int) -> float | Fraction:
    """How many of `each` fit in `room`; may be negative, which no batch satisfies."""
    if each == 0:
        return math.inf if room >= 0 else -1
    return math.floor(Fraction(room) / each)
