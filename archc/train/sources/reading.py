"""Reading of documents that may be bad: the first one stops, or all of them are skipped and counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Literal

from archc.kernels.errors import DataError, Place

OnBad = Literal["stop", "skip"]

_log = logging.getLogger(__name__)


class Reading:
    """What a source tells while it is read: what it cannot use, and how far it has come.

    `skipped` counts by file and reason.
    """

    def __init__(self, on_bad: OnBad = "stop", *, advance: Callable[[int], None] = lambda size: None) -> None:
        self.on_bad = on_bad
        self.advance = advance  # so many bytes of the source are read
        self.skipped: dict[str, Counter[str]] = {}
        self._first: dict[str, Place] = {}

    def bad(self, at: Place, reason: str, detail: str = "") -> None:
        """A document or line that cannot be used. `reason` is one of few; `detail` says what was got.

        Raises DataError unless bad ones are skipped.
        """
        if self.on_bad == "stop":
            message = f"{reason}: {detail}" if detail else reason
            raise DataError(at, message, hint="`on_bad: skip` leaves such lines out and counts them")
        self.skipped.setdefault(at.file, Counter())[reason] += 1
        self._first.setdefault(at.file, at)

    def finish(self) -> None:
        """Log what was skipped, a line for each file."""
        for file, reasons in self.skipped.items():
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            _log.warning("%s: skipped %s, first at line %d", file, counts, self._first[file].line)
