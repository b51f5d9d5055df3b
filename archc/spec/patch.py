"""The patch of a spec: the `changes` that applied to one spec give another.

The other model is written with the letters of the first, so that a narrower MLP reads `"-": {mlp: {d_ff: 15680}}`;
what stays as it was is not mentioned, and what goes is empty (`null`).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archc import zoo
from archc.kernels.errors import SpecErrors, UnsupportedError
from archc.spec import records
from archc.spec.letters import layers_data, letters_of
from archc.spec.load import Reading, load_spec, read_spec
from archc.spec.model import Block, Formats, Spec
from archc.spec.pattern import Use
from archc.spec.write import all_blocks, block_data, mtp_data
from archc.spec.yamltext import document

_SUFFIXES = (".yaml", ".yml")


def patch_spec(a: Path | str, b: Spec, *, name: str, out: Path | None = None) -> str:
    """The YAML of a spec called `name` that extends `a` (a zoo name or a spec file) and is the model `b`.

    A file is named as it lies from the folder of `out`, where the result is to be written, or as it was given. What
    `b` says of itself (description, figures, source) is left out. Raises UnsupportedError where `a` is no spec, or
    where no patch gives `b`.
    """
    file = _spec_file(a)
    extends = str(a) if file is None else _written(file, out)
    changes = spec_changes(read_spec(zoo.path(extends) if file is None else file), b)
    fields = {"archc": 1, "name": name, "extends": extends} | ({"changes": changes} if changes else {})
    text = document(fields)
    _check(text, b, str(out or "<patch>"), str(a))
    return text


def _spec_file(a: Path | str) -> Path | None:
    """The file of a spec, None for a zoo name."""
    if isinstance(a, str) and a in zoo.names():
        return None
    file = Path(a)
    if file.suffix in _SUFFIXES:
        return file
    hint = f"write it as one first with `archc show {shlex.quote(str(a))} --spec > a.yaml`"
    raise UnsupportedError(f"`{a}` is no spec, and a patch changes a spec: {hint}")


def _written(file: Path, out: Path | None) -> str:
    return file.as_posix() if out is None else Path(os.path.relpath(file, out.parent)).as_posix()


def _check(text: str, b: Spec, file: str, a: str) -> None:
    """Raise UnsupportedError unless the patch loads to `b`: nobody is handed a wrong one."""
    try:
        made = load_spec(text, file=file)
    except SpecErrors as error:
        raise UnsupportedError(f"no patch of `{a}` gives `{b.name}`: {error}") from error
    if _essence(made) != _essence(b):
        raise UnsupportedError(f"no patch of `{a}` gives `{b.name}`: write that model as a spec of its own")


def _essence(spec: Spec) -> Spec:
    """The model alone: without what a spec says of itself, formats in one order."""

    def ordered(blocks: Sequence[Block]) -> tuple[Block, ...]:
        return tuple(replace(block, formats=tuple(sorted(block.formats))) for block in blocks)

    mtp = spec.mtp and replace(spec.mtp, layers=ordered(spec.mtp.layers))
    formats = tuple(sorted(spec.formats))
    return replace(spec, name="", description="", published=(), source=(), formats=formats,
                   layers=ordered(spec.layers), mtp=mtp)  # fmt: skip


# -- the changes -------------------------------------------------------------------------------------------------------


def spec_changes(a: Reading, b: Spec) -> dict[str, Any]:
    """The merge patch (RFC 7386, with archc's rule for `blocks`) from the fields of `a` to `b`, as plain data."""
    spec = a.spec
    found = {key: getattr(b, key) for key in ("d_model", "vocab", "tied") if getattr(spec, key) != getattr(b, key)}
    found |= _some("norm", records.changes(spec.norm, b.norm))
    if spec.init_std != b.init_std:
        found["init"] = {"std": b.init_std}
    if all_blocks(spec) != all_blocks(b) or (spec.mtp is None) != (b.mtp is None):
        found |= _layout(a, b)
    elif b.mtp and spec.mtp != b.mtp:
        found["mtp"] = {"steps": b.mtp.steps}
    return found | _formats(spec.formats, b.formats)


def _some(key: str, changes: Any) -> dict[str, Any]:
    return {key: changes} if changes else {}


def _layout(a: Reading, b: Spec) -> dict[str, Any]:
    """The changes of `blocks`, `layers` and `mtp`."""
    letters = letters_of(all_blocks(b), a.blocks)
    found = _some("blocks", _blocks(a, b, letters))
    if not _kept(a, a.uses, a.spec.layers, b.layers, letters):
        found["layers"] = layers_data(b.layers, letters)
    return found | _mtp(a, b, letters)


def _kept(
    a: Reading, uses: Sequence[Use], before: Sequence[Block], after: Sequence[Block], letters: Mapping[Block, str]
) -> bool:
    """Whether layers written as `uses`, which were `before`, are `after` once the blocks are changed."""
    if len(uses) != len(after):
        return False
    for use, old, new in zip(uses, before, after, strict=True):
        same = (
            old == new and letters.get(a.blocks[use.name]) == use.name if use.changes else letters.get(new) == use.name
        )
        if not same:
            return False
    return True


def _mtp(a: Reading, b: Spec, letters: Mapping[Block, str]) -> dict[str, Any]:
    before = a.spec.mtp
    if b.mtp is None:
        return {} if before is None else {"mtp": None}
    layers = layers_data(b.mtp.layers, letters)
    if before is None:
        return {"mtp": mtp_data(b.mtp, layers)}
    kept = _kept(a, a.mtp_uses, before.layers, b.mtp.layers, letters)
    steps = {"steps": b.mtp.steps} if b.mtp.steps != before.steps else {}
    return _some("mtp", ({} if kept else {"layers": layers}) | steps)


# -- blocks ------------------------------------------------------------------------------------------------------------


def _blocks(a: Reading, b: Spec, letters: Mapping[Block, str]) -> dict[str, Any]:
    """Of every letter what changes: fields of a known block, a new block, or `null` for one that no layer uses now."""
    used = {use.name for use in (*a.uses, *a.mtp_uses)}
    by_letter = {letter: block for block, letter in letters.items()}
    found: dict[str, Any] = {}
    for letter, old in a.blocks.items():
        if letter in by_letter:
            found |= _some(letter, _block(a, letter, old, by_letter[letter], b.init_std))
        elif letter in used:
            found[letter] = None
    return found | {
        letter: block_data(block, b.init_std) for letter, block in by_letter.items() if letter not in a.blocks
    }


def _block(a: Reading, letter: str, old: Block, new: Block, init_std: float) -> dict[str, Any]:
    if old.kind != new.kind:
        return block_data(new, init_std)
    fields = records.changes(old.fields, new.fields)
    fields.pop("init_std", None)
    fields |= _init_std(a.data["blocks"][letter][old.kind] or {}, new, init_std)
    return _some(new.kind, fields) | _formats(old.formats, new.formats)


def _init_std(written: Mapping[str, Any], new: Block, init_std: float) -> dict[str, Any]:
    """The change of a block's own deviation, given how its fields are `written`: without one, it is the model's."""
    wanted = getattr(new.fields, "init_std", init_std)
    if written.get("init_std", init_std) == wanted:
        return {}
    return {"init_std": wanted if wanted != init_std else None}


def _formats(old: Formats, new: Formats) -> dict[str, Any]:
    """The change of `formats` from one to another: empty where none are left."""
    before, after = dict(old), dict(new)
    if before == after:
        return {}
    gone = dict.fromkeys(name for name in before if name not in after)
    changed = {name: chosen for name, chosen in after.items() if before.get(name) != chosen}
    return {"formats": gone | changed if after else None}
