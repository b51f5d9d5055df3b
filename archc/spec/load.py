"""Reads a YAML spec. Every error of the file is collected, with its place, before any is raised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from archc.ir.build import NORMS, Norm
from archc.ir.dims import Dim
from archc.ir.formats import get_format
from archc.ir.op import DimMaker, Op, registered_ops
from archc.ir.verify import OUTPUT_CLASSES
from archc.kernels.errors import Place, SpecError, UnknownName, listed, quoted, suggestion
from archc.spec.fields import STRICT, Size, record_type
from archc.spec.merge import inherited, merged
from archc.spec.model import Block, Figure, Formats, MTPSpec, Spec
from archc.spec.pattern import NAME, Use, read_layers
from archc.units import parse_params
from archc.yamlfile import Node, in_order, read_yaml, shown, validate
from archc.zoo.figures import LEFT_OUT

METRICS = ("total", "active")

_LONGEST_NAME = 100
_SLUG = re.compile(r"[A-Za-z0-9]+([._-]+[A-Za-z0-9]+)*")


def _slug(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"expected a name of at most {_LONGEST_NAME} characters, got {len(name)}")
    if not _SLUG.fullmatch(name):
        raise ValueError(f"expected a name of letters and digits joined by `.`, `_` or `-`, got {quoted(name)}")
    return name


def _format(name: str) -> str:
    try:
        return get_format(name).name
    except UnknownName as error:
        raise ValueError(str(error)) from error


def _figure(text: str) -> str:
    parse_params(text)
    return text


def _listed(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


FormatName = Annotated[str, AfterValidator(_format)]
FigureText = Annotated[str, AfterValidator(_figure)]
ParamFormats = dict[str, FormatName]
Texts = Annotated[str | list[str], AfterValidator(_listed)]


class NormFields(BaseModel):
    """The norm of the residual stream."""

    model_config = STRICT

    kind: Literal[tuple(NORMS)] = Field(default="rms", description="layer1p: a layer norm with a zero-centred gamma")  # type: ignore[valid-type]
    eps: float = Field(default=1e-5, gt=0, le=1, allow_inf_nan=False, description="added to the variance")


class InitFields(BaseModel):
    """How matrices start."""

    model_config = STRICT

    std: float = Field(
        default=0.02, gt=0, le=100, allow_inf_nan=False, description="standard deviation, where a block does not say"
    )


class MTPFields(BaseModel):
    """Multi-token prediction: the layers of one module, applied `steps` times by reference."""

    model_config = STRICT

    layers: Any = Field(description="a pattern such as `*E`")
    steps: Annotated[Size, Field(le=64)] = Field(1, description="tokens predicted beyond the next")


class FigureFields(BaseModel):
    """Numbers of parameters as a source prints them, counted without what `without` lists."""

    model_config = STRICT

    total: FigureText | None = Field(None, description="all parameters, such as 8.89B")
    active: FigureText | None = Field(None, description="parameters that one token meets")
    without: list[Literal[tuple(LEFT_OUT)]] = Field([], description="what the source leaves out")  # type: ignore[valid-type]
    gap: str = Field("", description="why no convention reaches the figure")

    def figures(self) -> Iterator[Figure]:
        """One figure each."""
        for metric in METRICS:
            if (text := getattr(self, metric)) is not None:
                yield Figure(metric=metric, text=text, without=tuple(self.without), gap=self.gap)


class SpecFields(BaseModel):
    """An archc model spec."""

    model_config = STRICT

    archc: Literal[1] = Field(description="version of the spec format: 1")
    name: Annotated[str, AfterValidator(_slug)] = Field(description="name of the model")
    description: str = Field("", description="what the model is, in a sentence")
    d_model: Size = Field(description="width of the residual stream")
    vocab: Size = Field(description="number of token ids")
    norm: NormFields = Field(NormFields(), description="the norm of the residual stream")
    tied: bool = Field(False, description="whether the output projection is the embedding")
    init: InitFields = Field(InitFields(), description="how matrices start")
    blocks: dict[str, Any] = Field(description="blocks by letter, each `{kind: {field: value}}`")
    layers: Any = Field(description="a pattern such as `M-M*-`, or a list with overrides")
    mtp: MTPFields | None = Field(None, description="multi-token prediction, if the model has it")
    formats: dict[Literal[OUTPUT_CLASSES], FormatName] = Field({}, description="formats by class, such as `kv: fp8`")  # type: ignore[valid-type]
    published: list[FigureFields] = Field([], description="parameters as a source prints them")
    source: Texts = Field(default=(), description="where figures and sizes come from")  # type: ignore[assignment]


def spec_ops() -> dict[str, type[Op]]:
    """The ops that a spec may name, by kind: those with `Fields`."""
    return {op.kind: op for op in registered_ops() if op.Fields is not None}


def load_spec(source: Path | str, *, file: str | None = None) -> Spec:
    """The spec of a YAML file (a `Path`) or of YAML text, called `file` in errors.

    Raises SpecErrors with everything wrong with it.
    """
    return read_spec(source, file=file).spec


@dataclass(frozen=True)
class Reading:
    """A spec and what its file says beyond it, all that it extends filled in.

    `data` are the fields as they are written, `blocks` the declared blocks by letter, `uses` the layers and `mtp_uses`
    those of multi-token prediction, by letter."""

    spec: Spec
    data: Mapping[str, Any]
    blocks: Mapping[str, Block]
    uses: tuple[Use, ...]
    mtp_uses: tuple[Use, ...]


def read_spec(source: Path | str, *, file: str | None = None) -> Reading:
    """As `load_spec`, with what a patch must know of the file."""
    node, errors = read_yaml(source, file=file)
    node, more = inherited(node)
    reader = _Reader([*errors, *more])
    spec = reader.read(node)
    if reader.errors or spec is None:
        raise in_order(reader.errors)
    blocks = {letter: declared.block for letter, declared in reader.declared.items()}
    return Reading(spec, node.data, blocks, *reader.uses)


@dataclass
class _Declared:
    """A block as `blocks` declares it: its op, and the node of its fields for layers that change some."""

    op: type[Op]
    node: Node
    block: Block


@dataclass
class _Reader:
    errors: list[SpecError]
    d_model: int = 1
    init: Mapping[str, Any] = field(default_factory=dict)
    declared: dict[str, _Declared] = field(default_factory=dict)
    changed: dict[tuple[str, Place], Block] = field(default_factory=dict)
    uses: tuple[tuple[Use, ...], tuple[Use, ...]] = ((), ())

    def read(self, node: Node) -> Spec | None:
        top = self.checked(node, SpecFields)
        self._defaults(node)
        names = self._blocks(node.child("blocks"))
        mtp = node.child("mtp")
        self.uses = self._uses(node.child("layers"), names), self._uses(mtp and mtp.child("layers"), names)
        layers, mtp_layers = map(self._layers, self.uses)
        if top is None or self.errors:
            return None
        return Spec(
            name=top.name,
            d_model=top.d_model,
            vocab=top.vocab,
            layers=layers,
            norm=Norm(kind=top.norm.kind, eps=top.norm.eps),
            tied=top.tied,
            init_std=top.init.std,
            mtp=MTPSpec(layers=mtp_layers, steps=top.mtp.steps) if top.mtp else None,
            formats=tuple(top.formats.items()),
            description=top.description,
            published=tuple(figure for group in top.published for figure in group.figures()),
            source=tuple(top.source),
        )

    def checked(self, node: Node, model: Any) -> Any:
        """The node's data as `model`, or None with its errors noted."""
        value, errors = validate(node, model)
        self.errors += errors
        return value

    def _defaults(self, node: Node) -> None:
        """What blocks take from the model as a whole."""
        d_model, std = node.find(("d_model",)).value, node.find(("init", "std")).value
        self.d_model = d_model if isinstance(d_model, int) and 0 < d_model < 2**40 else 1
        self.init = {"init_std": float(std)} if isinstance(std, (int, float)) and std > 0 else {}

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _blocks(self, node: Node | None) -> list[str]:
        """Read the blocks; the names that layers may use, those of wrong blocks too."""
        if node is None or not isinstance(node.value, dict):
            return []
        for name, block in node.value.items():
            if name == "x":
                message = "`x` cannot name a block: it is the repeat sign of patterns, as in 4 x [M -]"
                self.errors.append(SpecError(block.key_at, message))
            elif not NAME.fullmatch(name):
                message = f"{quoted(name)} cannot name a block"
                self.errors.append(SpecError(block.key_at, message, hint="a letter, a sign such as * or -, or a word"))
            declared = self._block(block)
            if declared is not None:
                self.declared[name] = declared
        return list(node.value)

    def _block(self, node: Node) -> _Declared | None:
        ops = spec_ops()
        kinds = [key for key in node.value if key != "formats"] if isinstance(node.value, dict) else []
        if len(kinds) != 1:
            nothing = "none" if isinstance(node.value, dict) else shown(node.data)
            got = listed(kinds) or nothing
            self.errors.append(node.error(f"expected one kind of block ({', '.join(ops)}), got {got}"))
            return None
        kind = kinds[0]
        body = node.value[kind]
        if kind not in ops:
            self.errors.append(SpecError(body.key_at, f"unknown kind of block {quoted(kind)}{suggestion(kind, ops)}"))
            return None
        fields = self._fields(ops[kind], body)
        formats = self._param_formats(ops[kind], fields, node.value.get("formats"))
        return None if fields is None else _Declared(ops[kind], body, Block(kind=kind, fields=fields, formats=formats))

    def _fields(self, op: type[Op], node: Node) -> Any:
        """The op's fields, with what they take from the model; None when something is wrong with them."""
        body = replace(node, value={}) if node.value is None else node
        fields, errors = validate(body, record_type(op.Fields))
        if fields is None:
            self.errors += errors
            return None
        wrong = [self._rule(body, *rule) for rule in op.check(fields)]
        self.errors += wrong
        given = body.value.keys()
        taken = {name: value for name, value in self.init.items() if hasattr(fields, name) and name not in given}
        return None if wrong else replace(fields, **taken)

    def _rule(self, node: Node, name: str, message: str, hint: str) -> SpecError:
        """A broken rule between fields, at the field; at the block when the file leaves the field out."""
        child = node.child(name)
        return SpecError(child.at if child else node.key_at, message, hint=hint)

    def _param_formats(self, op: type[Op], fields: Any, node: Node | None) -> Formats:
        if node is None or fields is None:
            return ()
        formats = self.checked(node, ParamFormats)
        if formats is None:
            return ()
        made = op.make(fields, DimMaker("block", {"d_model": Dim("d_model", self.d_model)}))
        known = [param.name for param in made.params()]
        for name in formats:
            if name not in known:
                message = f"unknown parameter {quoted(name)}{suggestion(name, known)}"
                self.errors.append(SpecError(node.value[name].key_at, message))
        return tuple(formats.items())

    # -- layers --------------------------------------------------------------------------------------------------------

    def _uses(self, node: Node | None, names: Sequence[str]) -> tuple[Use, ...]:
        uses, errors = read_layers(node, names) if node is not None else ((), [])
        self.errors += errors
        return uses

    def _layers(self, uses: Iterable[Use]) -> tuple[Block, ...]:
        blocks = [self._layer(use) for use in uses]
        return tuple(block for block in blocks if block is not None)

    def _layer(self, use: Use) -> Block | None:
        declared = self.declared.get(use.name)
        if declared is None:
            return None
        if not use.changes:
            return declared.block
        key = (use.name, use.at)
        if key not in self.changed:
            self.changed[key] = self._changed(declared, use)
        return self.changed[key]

    def _changed(self, declared: _Declared, use: Use) -> Block:
        """The block of a layer that changes fields of a declared one."""
        changes = dict(use.changes)
        formats = changes.pop("formats", None)
        body = replace(declared.node, value=merged(declared.node.value or {}, changes), key_at=use.at)
        fields = self._fields(declared.op, body)
        given = self._param_formats(declared.op, fields, formats)
        return Block(kind=declared.block.kind, fields=fields, formats=_joined(declared.block.formats, given))


def _joined(formats: Sequence[tuple[str, str]], more: Sequence[tuple[str, str]]) -> Formats:
    return tuple({**dict(formats), **dict(more)}.items())
