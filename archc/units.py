"""Sizes as people write them.

Contexts, sequence lengths and batches count in binary (128k = 131072, 4M = 4194304). Memory is binary when written
binary (GiB) and decimal when written decimal (GB, as vendors print it). Parameters and training tokens are
decimal (3.2B, 25T).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from archc.kernels.errors import UnitError, quoted

_COUNT = {"": 1, "k": 2**10, "M": 2**20}
_BINARY = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = {"": 1, **_BINARY, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

_NUMBER = re.compile(r"(?P<number>[0-9][0-9_]*(?:\.[0-9]+)?|\.[0-9]+)\s*(?P<unit>[A-Za-z]*)")


def parse_count(text: str | int) -> int:
    """A context, sequence length or batch; `k` and `M` are binary.

    >>> parse_count("128k"), parse_count("4M")
    (131072, 4194304)
    """
    return _parse(text, _COUNT, "a count such as 131072, 128k or 4M (binary)")


def parse_size(text: str | int) -> int:
    """Bytes: `19.66GiB` (binary) or `24 GB` (decimal), to the nearest byte."""
    return _parse(text, _SIZE, "a size such as 19.66GiB, 512 MiB, 24GB or a number of bytes", whole=False)


def parse_params(text: str | int) -> int:
    """A number of parameters: `3.2B` is 3200000000."""
    return _parse(text, _DECIMAL, "a number of parameters such as 3.2B or 350M (decimal)")


def parse_tokens(text: str | int) -> int:
    """A number of training tokens: `25T` is 25 * 10^12."""
    return _parse(text, _DECIMAL, "a number of tokens such as 25T, 60B or 800M (decimal)")


def format_count(n: int) -> str:
    """The shortest exact form that `parse_count` reads: 131072 is `128k`."""
    unit = next(u for u in ("M", "k", "") if n % _COUNT[u] == 0) if n else ""
    return f"{n // _COUNT[unit]}{unit}"


def format_size(size_bytes: int | float) -> str:
    """Bytes in the largest binary unit that leaves at least 1, to two decimals: `19.66 GiB`."""
    unit = _largest(size_bytes, _BINARY)
    number = size_bytes / _BINARY[unit]
    return f"{number:.0f} B" if unit == "B" else f"{number:.2f} {unit}"


def format_params(n: int | float) -> str:
    """Parameters in the largest decimal unit that leaves at least 1, to two decimals: `8.89B`."""
    unit = _largest(n, _DECIMAL)
    return f"{n / _DECIMAL[unit]:.2f}{unit}" if unit else f"{n:.0f}"


def format_tokens(n: int | float) -> str:
    """Training tokens in the largest decimal unit, without trailing zeros: `25T`, `1.5B`."""
    number = format_params(n)
    digits, unit = number.rstrip("kMBT"), number[-1] if number[-1] in _DECIMAL else ""
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) + unit


def _parse(text: str | int, units: Mapping[str, int], expected: str, *, whole: bool = True) -> int:
    match = _NUMBER.fullmatch(str(text).strip())
    unit = _unit(match["unit"], units) if match else None
    if match is None or unit is None or isinstance(text, bool):
        raise UnitError(f"expected {expected}: got {quoted(str(text))}")
    value = Fraction(match["number"].replace("_", "")) * units[unit]
    if whole and value.denominator != 1:
        raise UnitError(f"expected {expected}, and a whole number: got {quoted(str(text))} = {float(value):g}")
    return round(value)


def _unit(written: str, units: Mapping[str, int]) -> str | None:
    """The unit as spelled in the table; case counts only where it tells two units apart."""
    if written in units:
        return written
    near = [u for u in units if u.lower() == written.lower()]
    return near[0] if len(near) == 1 else None


def _largest(number: int | float, units: Mapping[str, int]) -> str:
    fitting = [u for u in units if abs(number) >= units[u]]
    return max(fitting, key=lambda u: units[u]) if fitting else next(iter(units))
