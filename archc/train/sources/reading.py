"""Reading of documents that may be bad: they stop it and the first few are told, or all are skipped and counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Literal

from archc.kernels.errors import DataError, Place

OnBad = Literal["stop", "skip"]

TOLD = 5  # bad ones that an error shows
_COUNTED = 1000  # and those that it counts: a field that no row has would be one in every row
_LOOKED_AT = 2**26  # characters that are read on behind the first bad one, to count others: some seconds

_log = logging.getLogger(__name__)


class Reading:
    """What a source tells while it is read: what it cannot use, and how far it has come.

    `skipped` counts by file and reason; `hint` says what may be done about bad ones that stop the reading.
    """

    def __init__(
        self, on_bad: OnBad = "stop", *, advance: Callable[[int], None] = lambda size: None, hint: str = ""
    ) -> None:
        self.on_bad, self.hint = on_bad, hint
        self.advance = advance  # so many bytes of the source are read
        self.skipped: dict[str, Counter[str]] = {}
        self._first: dict[str, Place] = {}
        self._told: list[tuple[Place, str]] = []
        self._count = self._looked_at = 0

    @property
    def failed(self) -> bool:
        """Whether a bad one has stopped the reading: what follows is looked at for others only."""
        return self._count > 0

    def bad(self, at: Place, reason: str, detail: str = "") -> None:
        """A document or line that cannot be used. `reason` is one of few; `detail` says what was got.

        Raises DataError where bad ones are not skipped and there are very many.
        """
        if self.on_bad == "skip":
            self.skipped.setdefault(at.file, Counter())[reason] += 1
            self._first.setdefault(at.file, at)
            return
        self._count += 1
        if len(self._told) < TOLD:
            self._told.append((at, f"{reason}: {detail}" if detail else reason))
        if self._count == _COUNTED:
            raise self._error(whole=False)

    def look_on(self, characters: int) -> None:
        """A good document of this length behind a bad one. Raises DataError where enough was looked at."""
        self._looked_at += characters
        if self._looked_at > _LOOKED_AT:
            raise self._error(whole=False)

    def check(self) -> None:
        """At the end of a source: raises DataError with the first bad ones and how many more there are."""
        if self.failed:
            raise self._error()

    def _error(self, *, whole: bool = True) -> DataError:
        (first, said), *others = self._told
        lines = [said, *(f"{at}: {other}" for at, other in others)]
        more = self._count - len(self._told)
        if not whole:
            lines.append(f"and {more} more so far; not read to its end")
        elif more:
            lines.append(f"and {more} more")
        return DataError(first, "\n".join(lines), hint=self.hint)

    def finish(self) -> None:
        """Log what was skipped, a line for each file."""
        for file, reasons in self.skipped.items():
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            _log.warning("%s: skipped %s, first at line %d", file, counts, self._first[file].line)
