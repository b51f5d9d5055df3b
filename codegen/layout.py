"""Breaking long lines of Python the way ruff format does: at the last bracket, then one argument a line."""

from __future__ import annotations

WIDTH = 120  # of code and the comment beside it
_OPEN, _CLOSE = "([{", ")]}"
_INDENT = "    "


def wrapped(text: str, indent: str, comment: str = "") -> list[str]:
    """The lines of one statement, none longer than WIDTH where a bracket allows it, a comment behind the last."""
    beside = f"  # {comment}" if comment else ""
    split = _last_bracket(text)
    if split is None or len(indent) + len(text) + len(beside) <= WIDTH:
        return [indent + text + beside]
    start, end = split
    head, inside, tail = text[: start + 1], text[start + 1 : end], text[end:]
    inner = indent + _INDENT
    parts = arguments(inside.strip().removesuffix(","))
    body = ", ".join(parts)
    if len(inner) + len(body) <= WIDTH or (len(parts) == 1 and " for " in body):
        lines = [inner + body]
    else:
        lines = [line for part in parts for line in wrapped(part + ",", inner)]
    return [*wrapped(head, indent), *lines, indent + tail + beside]


def _last_bracket(text: str) -> tuple[int, int] | None:
    """Start and end of the last outermost bracket that is not empty."""
    depth, start, found = 0, 0, None
    for i, c in code_characters(text):
        if c in _OPEN:
            start, depth = (i if depth == 0 else start), depth + 1
        elif c in _CLOSE:
            depth -= 1
            if depth == 0 and i > start + 1:
                found = (start, i)
    return found


def arguments(text: str) -> list[str]:
    """`a, f(b, c)` split at its outermost commas."""
    parts, depth, start = [], 0, 0
    for i, c in code_characters(text):
        depth += (c in _OPEN) - (c in _CLOSE)
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def code_characters(text: str) -> list[tuple[int, str]]:
    """Characters outside string literals, with their places."""
    found, quote, skip = [], "", False
    for i, c in enumerate(text):
        if skip:
            skip = False
        elif quote:
            skip, quote = c == "\\", "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            found.append((i, c))
    return found
