"""What the `Fields` of ops share: numbers with their bounds, and the divisors that a broken rule suggests."""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

from annotated_types import Gt, Le

Size: TypeAlias = Annotated[int, Gt(0)]
Positive: TypeAlias = Annotated[float, Gt(0)]
Eps: TypeAlias = Annotated[float, Gt(0), Le(1)]
Deviation: TypeAlias = Annotated[float, Gt(0), Le(100)]

_SHOWN = 8


def divisors(n: int, near: int) -> str:
    """`in [1, 2, 3, 6]`: what divides `n`, the eight closest to `near` where there are more.

    >>> divisors(6, 4)
    'in [1, 2, 3, 6]'
    """
    low = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
    found = sorted({*low, *(n // k for k in low)})
    if len(found) <= _SHOWN:
        return f"in {found}"
    closest = sorted(sorted(found, key=lambda k: abs(k - near))[:_SHOWN])
    return f"such as {', '.join(map(str, closest))}"
