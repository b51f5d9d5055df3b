"""A search by its file, whatever its sampler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archc.searching.file import load_search
from archc.searching.mip_file import is_mip, load_mip
from archc.searching.run import Found
from archc.searching.run import run_search as run_sampled

if TYPE_CHECKING:
    from archc.searching.mip_found import FoundMip


def run_search(file: Path | str, folder: Path | str | None = None) -> Found | FoundMip:
    """Search as a file says into a folder, else `runs/search/NAME`, or go on with the search that is there.

    >>> import archc, tempfile
    >>> text = "{archc_search: 1, name: s, base: tiny-moe, space: {d_model: [64, 96]}, objectives: [%s]}"
    >>> place = Path(tempfile.mkdtemp())
    >>> _ = (place / "s.yaml").write_text(text % "minimize params.total")
    >>> found = archc.run_search(place / "s.yaml", place / "run")
    >>> found.knee, found.candidates[0].point
    ('s-1', {'d_model': 64})

    Raises SpecErrors for what is wrong with the file, SearchError where nothing is within the budgets.
    """
    path = Path(file)
    if is_mip(path):
        from archc.searching.mip_run import run_mip

        variants = load_mip(path)
        return run_mip(variants, place_of(folder, variants.name))
    search = load_search(path)
    return run_sampled(search, place_of(folder, search.name))


def place_of(folder: Path | str | None, name: str) -> Path:
    """The folder of a search."""
    return Path("runs") / "search" / name if folder is None else Path(folder)
