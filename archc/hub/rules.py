"""The rules of specs, held against what a foreign config says, in the words of the config."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archc.hub.blocks import all_blocks
from archc.ir.op import op_class
from archc.modelerrors import model_errors
from archc.spec.model import Spec


@dataclass(frozen=True)
class Broken:
    """A rule that a spec breaks: at a field of a kind of block (or of `norm`, `mtp`), in archc's words."""

    kind: str
    field: str
    message: str
    hint: str = ""

    def said(self, words: Mapping[str, str]) -> str:
        """The message with archc's fields under the names that `words` has for `kind.field`."""
        names = {path.rpartition(".")[2]: word for path, word in words.items() if path.rpartition(".")[0] == self.kind}
        # the deviation of a block is the model's: no config has one of each kind
        names |= {"init_std": words["init_std"]} if "init_std" in words else {}
        text = f"{self.message} ({self.hint})" if self.hint else self.message
        if names:
            text = re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[0]], text)
        name = f"`{names.get(self.field, self.field)}`"
        return text if name in text else f"{name}: {text}"


def broken_rules(spec: Spec) -> Iterator[Broken]:
    """Every rule that the reader of specs would refuse `spec` for, once for equal blocks."""
    from archc.spec.load import MTPFields, NormFields

    yield from _record("norm", NormFields, vars(spec.norm))
    if spec.mtp is not None:
        yield from _record("mtp", MTPFields, {"layers": "", "steps": spec.mtp.steps})
    for kind, fields in dict.fromkeys((one.kind, one.fields) for one in all_blocks(spec)):
        yield from _block(kind, fields)


def _block(kind: str, fields: Any) -> Iterator[Broken]:
    """As a spec is read: rules between the fields where each alone is good."""
    from archc.spec.fields import record_type

    op = op_class(kind)
    alone = list(_record(kind, record_type(op.Fields), dataclasses.asdict(fields)))
    yield from alone
    if not alone:
        yield from (Broken(kind, *rule) for rule in op.check(fields))


def _record(kind: str, model: Any, values: Mapping[str, Any]) -> Iterator[Broken]:
    from pydantic import ValidationError

    from archc.yamlfile import shown

    try:
        _adapter(model).validate_python(values)
    except ValidationError as error:
        raw = error.errors(include_url=False)
        for found in model_errors(raw, model, lambda path, key: _has(_at(values, path), key)):
            field = str(next(iter(found.path), ""))
            yield Broken(kind, field, found.message(shown(_at(values, found.path))), found.hint)


@functools.cache
def _adapter(model: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(model)


def _at(values: Any, path: tuple[str | int, ...]) -> Any:
    return functools.reduce(lambda value, key: value[key], path, values)


def _has(value: Any, key: str | int) -> bool:
    return key in value if isinstance(value, Mapping) else isinstance(key, int) and isinstance(value, list | tuple)
