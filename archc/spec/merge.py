"""`extends` and `changes`: a spec that is another one with some fields changed.

`changes` is a merge patch (RFC 7386): mappings are merged, anything else replaces, and an empty value puts a field
back to its default. What the parent says of itself (name, figures, source) is not inherited.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from archc.kernels.errors import SpecError, SpecErrors, UnknownName, clipped, nearest, quoted
from archc.yamlfile import Node, read_yaml, shown

OWN = ("archc", "name", "description", "published", "source")
_MAX_PARENTS = 16


def inherited(node: Node, trail: tuple[Path, ...] = ()) -> tuple[Node, list[SpecError]]:
    """The spec with what it extends filled in; nodes keep the places of the files they come from."""
    if not isinstance(node.value, dict):
        return node, []
    if "extends" not in node.value:
        stray = node.value.get("changes")
        return node, [SpecError(stray.key_at, "`changes` needs `extends`: the spec that it changes")] if stray else []
    trail = (*trail, _real(node.text.file))
    parent, errors = _parent(node.value["extends"], node.text.file, trail)
    base, more = inherited(parent, trail)
    errors += more
    if not isinstance(base.value, dict):
        raise SpecErrors([*errors, node.value["extends"].error(f"`{clipped(parent.text.file, 200)}` holds no spec")])
    errors += [
        SpecError(child.key_at, f"a spec that extends another gives {quoted(key)} under `changes`")
        for key, child in node.value.items()
        if key not in (*OWN, "extends", "changes")
    ]
    fields = {key: child for key, child in base.value.items() if key not in OWN}
    changes = node.value.get("changes")
    if changes is not None and not isinstance(changes.value, dict):
        errors.append(changes.error(f"`changes`: expected a mapping, got {shown(changes.data)}"))
    elif changes is not None:
        errors += [SpecError(c.key_at, f"`{k}` is not inherited: give it beside `extends`")
                   for k, c in changes.value.items() if k in OWN]  # fmt: skip
        fields = merged(fields, changes.value)
    own = {key: child for key, child in node.value.items() if key in OWN}
    return replace(node, value={**own, **fields}), errors


def merged(base: Mapping[str, Node], changes: Mapping[str, Node], *, kinds: bool = False) -> dict[str, Node]:
    """The fields of `base` with `changes` merged in. Under `blocks`, another kind of block replaces the old one."""
    fields = dict(base)
    for key, change in changes.items():
        old = fields.get(key)
        if change.value is None:
            fields.pop(key, None)
        elif old is None or not _mergeable(old, change, kinds):
            fields[key] = change
        else:
            fields[key] = replace(change, value=merged(old.value, change.value, kinds=key == "blocks"))
    return fields


def _mergeable(old: Node, change: Node, kinds: bool) -> bool:
    """Whether both are mappings and, where they are `blocks`, of one kind."""
    if not (isinstance(old.value, dict) and isinstance(change.value, dict)):
        return False
    kind = set(change.value) - {"formats"}
    return not kinds or not kind or bool(kind & set(old.value))


def _parent(node: Node, file: str, trail: Sequence[Path]) -> tuple[Node, list[SpecError]]:
    """The spec that `extends` names, as it stands in its file; the path is shown as it was written."""
    from archc import zoo

    name = node.value
    if not isinstance(name, str):
        raise SpecErrors([node.error(f"`extends`: expected a zoo name or a file, got {shown(node.data)}")])
    if name.endswith((".yaml", ".yml")):
        path = Path(file).parent / name
    else:
        try:
            path = zoo.path(name)
        except UnknownName as error:
            raise SpecErrors([node.error(str(error))]) from error
    if _real(path) in trail:
        raise SpecErrors([node.error(f"`extends` goes round in a circle through {quoted(name)}")])
    if len(trail) > _MAX_PARENTS:
        raise SpecErrors([node.error(f"`extends`: expected at most {_MAX_PARENTS} specs in a row")])
    return read_yaml(path, unreadable=lambda reason: _unreadable(node, path, reason))


def _unreadable(node: Node, path: Path, reason: str) -> SpecError:
    from archc import zoo

    near = nearest(node.value, [*(file.name for file in path.parent.glob("*.yaml")), *zoo.names()])
    hint = f"did you mean {quoted(near)}?" if near else "a path from here, or a name in `archc zoo`"
    return node.error(f"cannot read `{clipped(str(path), 200)}`: {reason}", hint=hint)


def _real(path: Path | str) -> Path:
    """The file behind a path, by which circles are found."""
    return Path(os.path.realpath(path))
