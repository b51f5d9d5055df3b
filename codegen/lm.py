"""modeling.py and config.json of a language model's graph."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archc import __version__
from archc.codegen.blocks import block_form
from archc.codegen.classes import EXTRAS, class_names, print_class
from archc.codegen.kernel_source import kernels_text, state_text
from archc.codegen.layout import WIDTH
from archc.codegen.modules import module
from archc.codegen.names import member
from archc.codegen.printer import Line, render
from archc.codegen.structure import inline, is_module, straight, structure
from archc.codegen.templates import render_template
from archc.ir.graph import Graph, Node
from archc.kernels.errors import UnsupportedError
from archc.kernels.primitive import primitives

LEGEND = {
    "B": "batch",
    "L": "tokens",
    "T": "tokens of all sequences",
    "D": "d_model",
    "H": "heads",
    "G": "groups or KV heads",
    "P": "head_dim",
    "N": "d_state",
    "E": "experts",
    "K": "top_k",
    "F": "d_ff",
    "V": "vocab",
}
INDENT = " " * 8


@dataclass(frozen=True)
class Emitted:
    """What a graph becomes, apart from weights: three source files and the contents of config.json."""

    modeling: str
    state: str
    kernels: str
    config: Mapping[str, Any]


def emit_model(graph: Graph) -> Emitted:
    """The source and configuration of a language model; raises UnsupportedError for a graph of another form."""
    return _Emitter(graph).emit()


class _Emitter:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.plan = graph, structure(graph)
        formats = {k: v for k, v in graph.formats if k in ("kv", "ssm", "conv")}
        self.owners = [n for n in graph.nodes if is_module(n) and not n.owner]
        self.ahead = [n for n in self.owners if not graph.in_mtp(n) and not n.op.streams]
        self.modules = {n.id: module(n.op, formats, stateful=not self.ahead) for n in self.owners}
        self.names = class_names((self.modules[n.id].source, n.op) for n in self.owners)
        steps = self.plan.steps[:1]
        self.blocks = [*self.plan.layers.blocks, *(b for s in steps for b in s.blocks.blocks)]
        self.form = block_form(self.blocks, self.modules, self.names)
        self.role_extras: dict[str, set[str]] = {}
        for node in (n for block in self.blocks for n in block if n.id in self.modules):
            self.role_extras.setdefault(node.role, set()).update(self.modules[node.id].source.extras)

    def emit(self) -> Emitted:
        printed = list(self._classes())
        mtp, model = self._mtp(), self._model()
        text = "\n".join([*printed, self.form.forward, *map(str, mtp.values()), *map(str, model.values())])
        called = set(re.findall(r"(?<![\w.])(\w+)\(", text)) & primitives().keys()
        kernels = sorted(called)
        modeling = render_template(
            "modeling.py",
            version=__version__,
            summary=textwrap.fill(self._summary(), 116),
            class_summary=textwrap.fill(self._summary(), 112).replace("\n", "\n    "),
            legend="\n".join(_legend(text)),
            kernel_imports="\n".join(_import("kernels", kernels)),
            modules=printed,
            form=self.form,
            mtp=mtp,
            model=model,
        )
        state = state_text(refusal=self._refusal(), drafts=bool(mtp and mtp["drafts"]))
        return Emitted(modeling, state, kernels_text(kernels), self._config())

    # -- classes ------------------------------------------------------------------------------------------------------

    def _classes(self) -> Iterator[str]:
        stateful = {n.id for block in self.blocks for n in block if n.role == self.form.stateful}
        extras: dict[str, set[str]] = {}
        carrying: set[str] = set()
        for node in self.owners:
            name = self._class(node)
            extras.setdefault(name, set()).update(self._extras(node))
            if node.id in stateful:
                carrying.add(name)
        for source, name in self.names.items():
            given = [e for e in EXTRAS if e in extras[name]]
            yield print_class(name, source, given, stateful=name in carrying)

    def _class(self, node: Node) -> str:
        return self.names[self.modules[node.id].source]

    def _extras(self, node: Node) -> Iterable[str]:
        """What the forward of a node's class takes beside its inputs: what its role takes, in a block."""
        return self.role_extras[node.role] if node.block else self.modules[node.id].source.extras

    def _summary(self) -> str:
        kinds = list(dict.fromkeys(name for names in self.form.own.values() for name in names))
        listed = " and ".join([", ".join(kinds[:-1]), kinds[-1]] if len(kinds) > 1 else kinds)
        return f"A language model of {listed} layers{', with multi-token prediction' if self.plan.steps else ''}."

    def _looks_ahead(self) -> str:
        """Why sequences cannot be fed piece by piece; empty where they can."""
        found = dict.fromkeys(self._class(n) for n in self.ahead)
        return f"{' and '.join(found)} layers look ahead" if found else ""

    def _refusal(self) -> str:
        """Why a state cannot be rewound; empty where it can."""
        bound = dict.fromkeys(
            self._class(n) for n in self.owners if n.block and not self.modules[n.id].source.rewindable
        )
        return f"the state of {' and '.join(bound)} layers does not keep what it has moved past" if bound else ""

    # -- the parts of Model -------------------------------------------------------------------------------------------

    def _call(self, node: Node, inputs: Sequence[str]) -> str:
        """A call of a free node's module; a node that uses another's parameters is written out."""
        if node.owner:
            owner = self.graph.node(node.owner)
            return inline(node, inputs, {p.name: f"self.{owner.id}.{p.name}" for p in owner.op.params()})[0]
        if "state" in self.modules[node.id].source.extras:
            raise UnsupportedError(f"`{node.id}` carries state outside of a block")
        attribute = node.id.rpartition(".")[2]
        return f"self.{attribute}({', '.join([*inputs, *self.modules[node.id].source.extras])})"

    def _setup(self, nodes: Sequence[Node], config: str = "config") -> list[str]:
        made = [n for n in nodes if n.id in self.modules]
        names = [member("node id", n.id.rpartition(".")[2]) for n in made]
        return [f'self.{a} = {self._class(n)}(**{config}["{a}"])' for a, n in zip(names, made, strict=True)]

    def _model(self) -> dict[str, Any]:
        plan, last = self.plan, self.plan.layers.blocks[-1][-1].id
        stem = straight(plan.stem, {"tokens": "tokens"}, self._call)
        final = straight(plan.final, {last: "x"}, self._call) or [Line((), "x")]
        head = straight(plan.head, {dict(self.graph.outputs)["hidden"]: "h"}, self._call)
        stream = [*stem[:-1], Line(("x",), stem[-1].value, beside="[B, L, D]")]
        called = self.form.call_arguments(
            {"segments": "segments", "state": "None if state is None else state.layers[i]"}
        )
        return {
            "stem_setup": self._setup(plan.stem),
            "layers": self.form.made('config["layers"]'),
            "end_setup": self._setup([*plan.final, *plan.head]),
            "stem": render(stem, INDENT),
            "enter": f"{INDENT}x = self.embed(tokens)  # [B, L, D]" if plan.steps else render(stream, INDENT),
            "layer_arguments": called,
            "leave": render(final, INDENT),
            "head": render(head, INDENT),
            "looks_ahead": self._looks_ahead(),
            "taps": self._taps(),
            "runs": [n.id for n in (*plan.stem, *plan.final) if n.id in self.modules],
        }

    def _taps(self) -> str:
        """Examples of taps: a layer, a module of it, and each that an op exposes by name, at its first layer."""
        role = next(iter(self.form.own))
        examples = {"": "layers.0", role: f"layers.0.{role}"}
        for i, block in enumerate(self.plan.layers.blocks):
            for node, exposed in ((n, e) for n in block for e in n.op.exposes.values()):
                examples.setdefault(exposed, f"layers.{i}.{node.role}.{exposed}")
        *most, last = examples.values()
        return f"{', '.join(most)} or {last}"

    def _mtp(self) -> dict[str, Any]:
        """The parts of the MTP class; empty without multi-token prediction."""
        if not self.plan.steps:
            return {}
        step = self.plan.steps[0]
        sources = [self.modules[n.id].source for block in step.blocks.blocks for n in block if n.id in self.modules]
        streams = all(n.op.streams for block in step.blocks.blocks for n in block)
        given = {"segments": "segments", "state": "None if states is None else states[i]"}
        plain = {"segments": "segments", "state": "None"}
        return {
            "setup": self._setup([step.joint, step.norm], "mtp"),
            "layers": self.form.made('mtp["layers"]'),
            "shift": inline(step.shift, ["embedded"], {"steps": "k", "segments": "segments"})[0],
            "enter": self._call(step.joint, ["h", "ahead"]),
            "leave": self._call(step.norm, ["x"]),
            "layer_arguments": self.form.call_arguments(given),
            "plain_arguments": self.form.call_arguments(plain),
            "drafts": any(s.state for s in sources) and all(s.rewindable for s in sources) and streams,
        }

    # -- config.json --------------------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        plan = self.plan
        free = [n for n in (*plan.stem, *plan.final, *plan.head) if n.id in self.modules]
        config: dict[str, Any] = {n.id: dict(self.modules[n.id].values) for n in free}
        if self.form.shared:
            config["block"] = {role: dict(values) for role, values in self.form.values.items()}
        config["layers"] = [self._entry(block) for block in plan.layers.blocks]
        for step in plan.steps[:1]:
            parts = {n.id.rpartition(".")[2]: dict(self.modules[n.id].values) for n in (step.joint, step.norm)}
            layers = [self._entry(block) for block in step.blocks.blocks]
            config["mtp"] = {"steps": len(plan.steps), **parts, "layers": layers}
        return config

    def _entry(self, block: Sequence[Node]) -> Any:
        return self.form.entry({n.role: (self._class(n), self.modules[n.id]) for n in block if n.id in self.modules})


def _import(module_name: str, names: Sequence[str]) -> list[str]:
    """A relative import, one name a line where it is long."""
    line = f"from .{module_name} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"from .{module_name} import (", *(f"    {name}," for name in names), ")"]


def _legend(text: str) -> list[str]:
    """The letters that shapes in comments use, wrapped."""
    shapes = " ".join(re.findall(r"# \[[^\n]*", text))
    used = {"B", "L", "D", "V", *re.findall(r"\b[A-Z]\b", shapes)}
    items = [f"{letter} {meaning}" for letter, meaning in LEGEND.items() if letter in used]
    lines, line = [], "Shapes:"
    for i, item in enumerate(items):
        word = f" {item}{'.' if i == len(items) - 1 else ','}"
        if len(line) + len(word) > 116:
            lines.append(line)
            line = word.strip()
        else:
            line += word
    return [*lines, line]
