"""Positions along one tensor axis, in order: what a `Take` of a weight expression keeps.

Kept apart from Selections: a Selection speaks about units of a Dim, an Index about rows of one stored tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from archc.kernels.errors import WeightError

Positions: TypeAlias = npt.NDArray[np.int64]
IndexLike: TypeAlias = "Index | Positions | Iterable[int]"

# Positions that the text of an index may stand for: a hostile file must not make us allocate terabytes.
MAX_POSITIONS = 2**31
MAX_SIZE = 2**40


@dataclass(frozen=True)
class Run:
    """`count` positions from `start`, `step` apart (0 repeats one position)."""

    start: int
    count: int
    step: int

    def __str__(self) -> str:
        """`5`, `0:8`, `1:17:2` (stop excluded, 7:3:-1 descends) or `3*4` for a repeated position."""
        if self.count == 1:
            return str(self.start)
        if self.step == 0:
            return f"{self.start}*{self.count}"
        # the stop of a descending run may be -1, as in `2:-1:-1`
        stop = self.start + self.count * self.step
        return f"{self.start}:{stop}" + (f":{self.step}" if self.step != 1 else "")

    @property
    def reach(self) -> int:
        """A bound on the size of every position."""
        return abs(self.start) + self.count * abs(self.step)

    def positions(self) -> Positions:
        """The positions, as an array."""
        return self.start + self.step * np.arange(self.count, dtype=np.int64)


class Index:
    """Immutable positions (int64, not negative, repeats allowed) that compare and hash by value."""

    __slots__ = ("_hash", "_runs", "end", "positions")

    positions: Positions
    end: int  # one past the largest position: the smallest axis that this index fits

    def __init__(self, positions: IndexLike) -> None:
        if isinstance(positions, Index):
            array = positions.positions
        elif isinstance(positions, np.ndarray | range | list | tuple):
            array = _integers(np.asarray(positions))
        else:
            array = _integers(np.asarray(list(positions)))
        if array.ndim != 1:
            raise WeightError(f"an index lists positions along one axis: got an array of shape {list(array.shape)}")
        if array.size and array.min() < 0:
            raise WeightError(f"an index counts positions from 0: got {array.min()}")
        array.setflags(write=False)
        self.positions = array
        self.end = int(array.max()) + 1 if array.size else 0
        self._hash: int | None = None
        self._runs: list[Run] | None = None

    @classmethod
    def all(cls, size: int) -> Index:
        """Every position of an axis of `size`."""
        return cls(range(size))

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and np.array_equal(self.positions, other.positions)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.positions.tobytes())
        return self._hash

    def __reduce__(self) -> tuple[type[Index], tuple[Positions]]:
        return Index, (self.positions,)

    def is_all(self, size: int) -> bool:
        """Whether this keeps every position of an axis of `size`, in order."""
        return len(self) == size and self.end == size and bool((self.positions == np.arange(size)).all())

    def then(self, second: Index) -> Index:
        """This index followed by `second`, which indexes its result: again one index."""
        if second.end > len(self):
            raise WeightError(f"an index of {len(self)} positions has no position {second.end - 1}")
        return Index(self.positions[second.positions])

    def run(self) -> Run | None:
        """The positions as one arithmetic run, None unless they are one; far quicker than `runs`."""
        steps = np.diff(self.positions[:2])
        step = int(steps[0]) if len(steps) else 1
        if (np.diff(self.positions) != step).any():
            return None
        return Run(int(self.positions[0]) if len(self) else 0, len(self), step)

    def span(self) -> slice | None:
        """The positions as a slice, None unless they are evenly spaced and ascend."""
        run = self.run()
        if run is None or run.step < 1:
            return None
        return slice(run.start, run.start + run.count * run.step, run.step)

    def runs(self) -> list[Run]:
        """The positions as arithmetic runs, taken greedily from the left.

        Two positions alone make a run only when adjacent or equal, so that lists of singles stay readable."""
        if self._runs is None:
            self._runs = self._as_runs()
        return self._runs

    def _as_runs(self) -> list[Run]:
        positions, steps = self.positions, np.diff(self.positions)
        ends = [*(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]  # where a stretch of equal steps ends
        runs: list[Run] = []
        at = 0
        for end in ends:
            if at < end:
                step = int(steps[at])
                count = end - at + 1 if end - at > 1 or step in (0, 1) else 1
                runs.append(Run(int(positions[at]), count, step if count > 1 else 1))
                at += count
        if at < len(positions):
            runs.append(Run(int(positions[at]), 1, 1))
        return runs

    def __str__(self) -> str:
        return ",".join(str(run) for run in self.runs())

    def __repr__(self) -> str:
        text = str(self)
        return f"[{text if len(text) <= 40 else f'{text[:36]}...'}]"

    @classmethod
    def parse(cls, text: str) -> Index:
        """Inverse of `str`. Raises WeightError for anything else, or for more positions than any tensor has."""
        runs = [_parse_run(part) for part in text.split(",")] if text else []
        if sum(run.count for run in runs) > MAX_POSITIONS or any(run.reach > MAX_SIZE for run in runs):
            raise WeightError(f"an index that no tensor has room for: {text[:40]!r}")
        return cls(np.concatenate([run.positions() for run in runs] or [np.empty(0, dtype=np.int64)]))


def _integers(array: npt.NDArray[np.generic]) -> Positions:
    if array.size and array.dtype.kind not in "iu":
        raise WeightError(f"an index holds integers: got {array.dtype}")
    return array.astype(np.int64)


def _parse_run(text: str) -> Run:
    try:
        if "*" in text:
            position, count = (int(n) for n in text.split("*"))
            return Run(position, max(count, 0), 0)
        numbers = [int(n) for n in text.split(":")]
        if len(numbers) == 1:
            return Run(numbers[0], 1, 1)
        start, stop, step = numbers if len(numbers) == 3 else (*numbers, 1)
        return Run(start, max(-((start - stop) // step), 0), step)
    except (ValueError, ZeroDivisionError):
        raise WeightError(f"not an index: {text[:40]!r} (expected 5, 0:8, 1:17:2 or 3*4, joined by commas)") from None
