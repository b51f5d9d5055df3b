"""Which folders may be written to: new and empty ones, and, where one asks for it, what archc itself would write."""

from __future__ import annotations

from pathlib import Path

from archc.ir.text import CHECKPOINT_GRAPH, PACKAGE_GRAPH
from archc.kernels.errors import ArchcError

# Any of these makes a folder a model, a tokenizer or a run (archc.train.rundir), which may be made anew.
MARKS = (
    CHECKPOINT_GRAPH,
    PACKAGE_GRAPH,
    "model.safetensors",
    "model.safetensors.index.json",
    "run.json",
    "tokenizer.json",
    "archc_tokenizer.json",
)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ArchcError for a target that is there, unless it is an empty folder or one to `overwrite`.

    What may be overwritten is a model, a tokenizer or the folder of a run, and not what one stands in."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise ArchcError(f"{target}: exists and is not a folder")
    here = target.absolute()
    if any(place == here or here in place.parents for place in (Path.cwd(), Path.home())):
        raise ArchcError(f"{target}: holds the current or the home folder; write to another one")
    if not any(target.iterdir()):
        return
    if not _is_output(target):
        what = "exists, is not empty, and holds no model or other output of archc"
        raise ArchcError(f"{target}: {what}, so that nothing there is replaced; write to another folder")
    if not overwrite:
        raise ArchcError(f"{target}: exists and is not empty; write to another folder, or replace it with --overwrite")


def check_apart(source: Path, target: Path) -> None:
    """Raise ArchcError where what is read is what is to be written, lies in it, or holds it."""
    read, written = source.resolve(), target.resolve()
    if read == written:
        raise ArchcError(f"{target}: is what is read; write to another folder")
    if written in read.parents:
        raise ArchcError(f"{target}: holds {source}, which is read; write to another folder")
    if read in written.parents:
        raise ArchcError(f"{target}: lies in {source}, which is read; write to a folder beside it")


def _is_output(folder: Path) -> bool:
    """Whether a folder is what archc writes, or a model of the same layout: safetensors under any names."""
    if any((folder / name).is_file() for name in MARKS):
        return True
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
