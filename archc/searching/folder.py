"""The folder of a search: what lies in it, and reading what was found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archc.kernels.errors import ArchcError, SearchError
from archc.outfile import write_whole
from archc.yamlfile import read_yaml

STUDY, RESULTS, FILE, PAGE = "study.log", "results.json", "search.yaml", "report.html"
VERSION = 2


def is_search(folder: Path) -> bool:
    """Whether a search was begun in it."""
    return (folder / STUDY).is_file() or ((folder / RESULTS).is_file() and (folder / FILE).is_file())


def check_folder(folder: Path, name: str) -> None:
    """Raise SearchError for a folder that is none, and one of a search of another name."""
    if folder.exists() and not folder.is_dir():
        raise SearchError(f"{folder}: is no folder: a search has one of its own")
    file = folder / FILE
    found = read_yaml(file)[0].child("name") if file.is_file() else None
    if found is not None and found.value != name:
        raise SearchError(f"{folder}: holds the search `{found.value}`: choose another folder for `{name}`")


def results_text(results: Mapping[str, Any]) -> str:
    """Results as `read_results` reads them, the report on one line; numbers that are none, such as NaN, are null."""
    told = {name: _plain(value) for name, value in results.items() if name != "report"}
    report = json.dumps(_plain(results["report"]), separators=(",", ":"), allow_nan=False)
    return f'{json.dumps(told, indent=1, allow_nan=False)[:-2]},\n "report": {report}\n}}\n'


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write what was found, and then the page that shows it."""
    from archc.viz.search_page import search_page

    text = results_text(results)
    write_whole(folder / RESULTS, text)
    write_whole(folder / PAGE, search_page(json.loads(text), str(folder)))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def read_results(folder: Path) -> Mapping[str, Any]:
    """What a search has written. Raises ArchcError for a folder without, and says how a search goes on."""
    file, begun = folder / RESULTS, folder / FILE
    again = f"`archc search {begun} -o {folder}`"
    if not file.is_file() and begun.is_file():
        raise ArchcError(f"{folder}: a search was begun here and is not finished: {again} goes on with it")
    try:
        stored: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if begun.is_file():
            raise ArchcError(
                f"{file}: damaged ({error}): {again} writes it anew, from the trials that are there"
            ) from None
        wanted = f"not the folder of a finished search (`archc search FILE -o {folder}`)"
        raise ArchcError(f"{folder}: {wanted}: {error}") from None
    if not isinstance(stored, dict) or stored.get("archc_search_results") != VERSION:
        raise ArchcError(f"{file}: written by another version of archc: search again")
    return stored
