"""The form of a block: which modules it holds, which of them differ from layer to layer, how they are strung."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archc.codegen.classes import EXTRAS, forward_arguments, signature, statement
from archc.codegen.layout import wrapped
from archc.codegen.modules import Module, ModuleSource
from archc.codegen.names import member
from archc.codegen.printer import render
from archc.codegen.structure import is_module, straight
from archc.ir.graph import Node
from archc.kernels.errors import UnsupportedError


@dataclass(frozen=True)
class BlockForm:
    """What all blocks of a model share.

    `own` maps the roles that differ from layer to layer to their classes, `shared` the others to their only class;
    `stateful` is the role whose module carries state, if any.
    """

    own: Mapping[str, tuple[str, ...]]
    shared: Mapping[str, str]
    values: Mapping[str, Mapping[str, Any]]
    extras: tuple[str, ...]
    stateful: str
    forward: str

    @property
    def doc(self) -> str:
        """Docstring of the class."""
        return "One layer of the residual stream" + ("; all mixers are called alike." if self.tables else ".")

    @property
    def signature(self) -> str:
        """The `def __init__` line."""
        return signature("__init__", [(role, "dict[str, Any]") for role in (*self.own, *self.shared)])

    @property
    def setup(self) -> list[str]:
        """The body of `__init__`."""
        lines = [f"self.{role} = {name}(**{role})" for role, name in self.shared.items()]
        for role, classes in self.own.items():
            made = f'{table(role)}[{role}["class"]]' if len(classes) > 1 else classes[0]
            lines.append(f'self.{role} = {made}(**{role}["args"])')
        return [line for code in lines for line in statement(code)]

    @property
    def forward_signature(self) -> str:
        """The `def forward` line."""
        return signature("forward", forward_arguments(["x"], self.extras), "Tensor")

    @property
    def tables(self) -> str:
        """The classes by name, for the roles that differ."""
        found = []
        for role, classes in self.own.items():
            if len(classes) > 1:
                entries = ", ".join(f'"{name}": {name}' for name in classes)
                found.append("\n".join(wrapped(f"{table(role)}: dict[str, Any] = {{{entries}}}", "")))
        return "\n".join(found)

    def made(self, config: str) -> str:
        """Code that makes every block of a list of entries of config.json."""
        entry = "layer" if len(self.own) == 1 else "**layer"
        common = ', **config["block"]' if self.shared else ""
        return f"Block({entry}{common}) for layer in {config}"

    def entry(self, modules: Mapping[str, tuple[str, Module]]) -> Any:
        """What config.json says of one block; `modules` gives class name and arguments by role."""
        entries = {role: {"class": modules[role][0], "args": dict(modules[role][1].values)} for role in self.own}
        return next(iter(entries.values())) if len(entries) == 1 else entries

    def call_arguments(self, given: Mapping[str, str]) -> str:
        """The extra arguments of a call of a block."""
        return "".join(f", {given[name]}" for name in self.extras)


def table(role: str) -> str:
    """Name of the table of a role's classes."""
    return f"{role.upper()}S"


def block_form(
    blocks: Sequence[Sequence[Node]], modules: Mapping[str, Module], names: Mapping[ModuleSource, str]
) -> BlockForm:
    """The form of a model's blocks; raises UnsupportedError where they are not all of one form."""
    roles = {member("role", n.role): None for n in blocks[0] if is_module(n)}
    by_role = {role: [n for block in blocks for n in block if n.role == role] for role in roles}
    shared = {role: nodes for role, nodes in by_role.items() if _same(nodes)}
    own = {role: nodes for role, nodes in by_role.items() if role not in shared}
    stateful = [role for role, nodes in by_role.items() if any(modules[n.id].source.state for n in nodes)]
    if len(stateful) > 1 or not own:
        raise UnsupportedError("a block must have one module that carries state, and one that is its own")
    used = {role: {e for n in nodes for e in modules[n.id].source.extras} for role, nodes in by_role.items()}
    passed = {role: tuple(e for e in EXTRAS if e in used[role]) for role in roles}
    forms = {_forward(block, passed) for block in blocks}
    if len(forms) > 1:
        raise UnsupportedError("blocks of several forms in one model cannot be emitted:\n" + "\n\n".join(sorted(forms)))
    return BlockForm(
        own={role: tuple(dict.fromkeys(names[modules[n.id].source] for n in nodes)) for role, nodes in own.items()},
        shared={role: names[modules[nodes[0].id].source] for role, nodes in shared.items()},
        values={role: modules[nodes[0].id].values for role, nodes in shared.items()},
        extras=tuple(e for e in EXTRAS if any(e in p for p in passed.values())),
        stateful=stateful[0] if stateful else "",
        forward=forms.pop(),
    )


def _same(nodes: Sequence[Node]) -> bool:
    """Whether a role has one op throughout that no spec chooses, made of dims that no layer owns."""
    own = nodes[0].op.Fields is not None or any("." in dim.name for dim in nodes[0].op.dims.values())
    return not own and all(n.op == nodes[0].op for n in nodes)


def _forward(block: Sequence[Node], passed: Mapping[str, Sequence[str]]) -> str:
    inside = {n.id for n in block}
    entry = next(i for n in block for i in n.inputs if i not in inside)

    def call(node: Node, inputs: Sequence[str]) -> str:
        return f"self.{node.role}({', '.join([*inputs, *passed[node.role]])})"

    return render(straight(block, {entry: "x"}, call), " " * 8)
