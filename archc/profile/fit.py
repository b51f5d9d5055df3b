"""Fitting a law of time to measured times of one kind of op."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archc.ir.hardware import OpTiming
from archc.ir.latency import TIMED

Row = Mapping[str, float]  # what each part of the law is multiplied by


def fit(rows: Sequence[Row], seconds: Sequence[float]) -> OpTiming:
    """The law with the least relative squares whose parts are all non-negative.

    With as few parts as `TIMED` has, every subset is solved and the best that needs no negative part is taken.
    """
    names = ("overhead_s", *TIMED)
    y = np.asarray(seconds)
    x = np.array([[1.0, *(float(row[name]) for name in TIMED)] for row in rows]) / y[:, None]
    best, least = np.zeros(len(names)), np.inf
    for subset in _subsets(x):
        found, left = _solve(x[:, subset])
        if (found >= 0).all() and left < least:
            best, least = np.zeros(len(names)), left
            best[subset] = found
    return OpTiming(**dict(zip(names, map(float, best), strict=True)))


def _subsets(x: NDArray[np.float64]) -> list[list[int]]:
    """Every choice of parts that vary: the overhead and what is ever above zero."""
    used = [i for i in range(x.shape[1]) if x[:, i].any()]
    return [list(c) for n in range(1, len(used) + 1) for c in itertools.combinations(used, n)]


def _solve(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Least squares of x @ parts = 1, columns scaled to be comparable; the parts and the sum of squares left."""
    scale = np.abs(x).max(axis=0)
    found = np.linalg.lstsq(x / scale, np.ones(len(x)), rcond=None)[0]
    left = float(((x / scale @ found - 1) ** 2).sum())
    return found / scale, left
