"""The Pareto front of several objectives, all to be made small."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Losses = npt.NDArray[np.float64]  # [objectives, candidates]


def front(losses: Losses) -> npt.NDArray[np.int64]:
    """Candidates that no other is at least as good as in everything and better in something, by the first objective.

    Of equal ones the first counts.

    >>> front(np.array([[1.0, 2.0, 3.0, 2.0], [3.0, 1.0, 1.0, 1.0]]))
    array([0, 1])
    """
    order = np.lexsort(losses[::-1])
    kept: list[int] = []
    best = np.empty((len(losses), 0))
    for i in order:
        one = losses[:, i : i + 1]
        if not (best <= one).all(axis=0).any():
            kept.append(int(i))
            best = np.concatenate([best, one], axis=1)
    return np.array(kept, dtype=np.int64)


def knee(losses: Losses) -> int:
    """Where the front bends: the candidate farthest from the line, or plane, through the ends of the front.

    Objectives are scaled to 0 and 1 over the candidates. With one objective it is the best.

    >>> knee(np.array([[0.0, 1.0, 10.0], [10.0, 1.0, 0.0]]))
    1
    """
    low, high = losses.min(axis=1, keepdims=True), losses.max(axis=1, keepdims=True)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    return int(np.argmin(scaled.sum(axis=0)))
