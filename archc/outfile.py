"""Writing one file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import typer


def refuse_beside(files: Mapping[str, Path], given: Mapping[str, bool]) -> None:
    """Raise typer.BadParameter for options that files leave no room for, or two files on standard output."""
    ignored = [name for name, is_given in given.items() if is_given]
    written = " and ".join(f"--{name.replace('_', '-')}" for name in files)
    if ignored:
        raise typer.BadParameter(f"{written} and {' and '.join(ignored)} exclude one another")
    if sum(str(out) == "-" for out in files.values()) > 1:
        raise typer.BadParameter(f"{written}: only one of them can be standard output")


def write_whole(out: Path, text: str) -> None:
    """Write `text` to `out`, `-` being standard output: under a name of its own first, then renamed into place.

    Raises OSError, which names the file, and then leaves what was there."""
    if str(out) == "-":
        sys.stdout.write(text)
        return
    with whole(out) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A file to write beside `out`, which takes its place when the block ends well and is gone when it does not.

    Raises OSError, which names `out`."""
    if out.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(out))
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        yield partial
        os.replace(partial, out)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
