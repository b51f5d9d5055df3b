"""A foreign family: how its config and its tensors correspond to archc's, each said once and read both ways."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from archc.hub.blocks import all_blocks, differences
from archc.hub.config import REQUIRED, Bind, Config, bind, check_neutral, check_packing, unread
from archc.hub.entries import Entry, Exprs, Shape
from archc.hub.fit import SOME_LAYERS, Found, Rule, Violation, in_order, one_size, placed, words
from archc.hub.rules import broken_rules
from archc.ir.build import Norm
from archc.kernels.errors import UnknownName, UnsupportedError, WeightError
from archc.spec.model import Block, MTPSpec, Spec

# How many names of a long list an error shows.
SHOWN = 40
# The rule that everything else in a model breaks which config.json has no words for.
UNSAID = Rule("config", "config.json has words for all of it")
INIT_STD = bind("initializer_range", "init_std", type=float, default=0.02)


@dataclass(frozen=True)
class Table:
    """The tensors of one checkpoint layout.

    `dropped` are patterns (whole names) of tensors that carry nothing a model needs; `copies` names tensors that may
    stand in the file as bit-equal copies of another (a tied head). `packed` has the
    formats of archc's weights that are stored packed.
    """

    entries: tuple[Entry, ...]
    dropped: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    packed: Mapping[str, str] = field(default_factory=dict)

    def is_dropped(self, name: str) -> bool:
        """Whether the table drops a tensor by name."""
        return any(re.fullmatch(pattern, name) for pattern in self.dropped)

    @functools.cached_property
    def to_archc(self) -> Exprs:
        """archc's stored tensors as expressions over the foreign ones."""
        return {key: expr for entry in self.entries for key, expr in entry.to_archc().items()}

    @functools.cached_property
    def to_foreign(self) -> Exprs:
        """The foreign tensors as expressions over archc's stored ones."""
        return {name: expr for entry in self.entries for name, expr in entry.to_foreign().items()}

    def gaps(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """(tensors the table needs and `names` lacks, tensors of `names` that the table does not know)."""
        known = self.to_foreign.keys() | set(self.copies)
        missing = sorted(self.to_foreign.keys() - set(names))
        return missing, sorted(n for n in names if n not in known and not self.is_dropped(n))


class Family:
    """One foreign family. A subclass is a table: bindings of config fields, and entries of tensors by layout."""

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    binds: ClassVar[tuple[Bind, ...]]
    # Spec fields that the family fixes without a config field: path -> value.
    constants: ClassVar[Mapping[str, Any]] = {}
    # Config fields that must have one of these values where they are given.
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    # Config fields beside the bound ones that the family reads and writes, and those known not to change the maths.
    more_keys: ClassVar[frozenset[str]] = frozenset()
    harmless: ClassVar[frozenset[str]] = frozenset()
    # Config fields, beside the bound ones, to name in errors about a spec field.
    words: ClassVar[Mapping[str, str]] = {}
    # Packings that a `quantization_config` may name, because a layout has them.
    packings: ClassVar[tuple[str, ...]] = ()
    # Whether a tied head must stand in the file, because readers do not tie it themselves.
    needs_copies: ClassVar[bool] = False
    # File layouts of the tensors, the family's usual one first.
    layouts: ClassVar[tuple[str, ...]] = ("plain",)

    # -- what a subclass says -----------------------------------------------------------------------------------------

    def read_blocks(self, config: Config, made: Mapping[str, dict[str, Any]]) -> tuple[Block, ...]:
        """The blocks in order; `made` has the bound fields of each kind."""
        raise NotImplementedError

    def write_blocks(self, spec: Spec) -> Config:
        """Config fields that tell the order of blocks and what differs between them."""
        raise NotImplementedError

    def rules(self) -> tuple[Rule, ...]:
        """What the family wants of a model, as far as it has a name; `violations` also finds the rest."""
        return (SOME_LAYERS, words(self.binds), one_size(self.binds))

    def respelled(self, config: Config, spec: Spec) -> Config:
        """A config that says `spec` already, with the fields whose spelling the family prescribes."""
        return config

    def read_mtp(self, config: Config, made: Mapping[str, dict[str, Any]]) -> MTPSpec | None:
        """Multi-token prediction, if the config has it."""
        return None

    def table(self, spec: Spec, layout: str, shapes: Mapping[str, Shape]) -> Table:
        """The tensors of a checkpoint of `spec` in one of `layouts`; `shapes` has every weight of its graph."""
        raise NotImplementedError

    # -- config -------------------------------------------------------------------------------------------------------

    def read(self, config: Config, name: str) -> Spec:
        """The spec that a config describes. Raises WeightError or UnsupportedError, all faults of a kind at once."""
        check_neutral(config, self.neutral)
        check_packing(config, self.model_type, self.packings)
        made = self._bound(config)
        top, norm = made.pop(""), made.pop("norm")
        layers, mtp, std = self.read_blocks(config, made), self.read_mtp(config, made), top["init_std"]
        spec = Spec(
            name=name,
            layers=tuple(_with_std(b, std) for b in layers),
            norm=Norm(**norm),
            mtp=mtp and replace(mtp, layers=tuple(_with_std(b, std) for b in mtp.layers)),
            **top,
        )
        words = {**self.words, **{path: one.word(config) for one in (INIT_STD, *self.binds) for path in one.to}}
        broken = dict.fromkeys(rule.said(words) for rule in broken_rules(spec))
        if broken:
            raise WeightError("\n".join(broken))
        return spec

    def _bound(self, config: Config) -> dict[str, dict[str, Any]]:
        """Spec fields by kind ("" for the spec's own) from the bindings and constants."""
        faults: dict[str, None] = {}
        values: dict[str, Any] = dict(self.constants)
        for one in (INIT_STD, *self.binds):
            try:
                values |= dict.fromkeys(one.to, one.read(config))
            except WeightError as error:
                faults[str(error)] = None
        if faults:
            raise WeightError("\n".join(faults))
        made: dict[str, dict[str, Any]] = {}
        for path, value in values.items():
            kind, _, name = path.rpartition(".")
            made.setdefault(kind, {})[name] = value
        return made

    def violations(self, spec: Spec, source: Config | None = None) -> tuple[Violation, ...]:
        """Everything for which the family cannot express a model, in a config that takes over fields of `source`."""
        found = {rule: rule.violations(spec) for rule in self.rules()}
        broken = [one for several in found.values() for one in several]
        if any(rule.gates for rule, several in found.items() if several):
            return in_order(spec, broken)
        told = self._told(spec, broken)
        unsaid = [found for found in self._unsaid(spec, source or {}) if _path(spec, found) not in told]
        return in_order(spec, [*broken, *map(UNSAID.broken, unsaid)])

    def _told(self, spec: Spec, broken: Sequence[Violation]) -> set[str]:
        """Spec fields whose values a rule found to differ: that config.json says one of them only is no news."""
        paths = {_path(spec, one.at) for one in broken}
        return {path for one in self.binds if paths & set(one.to) for path in one.to}

    def _unsaid(self, spec: Spec, source: Config) -> list[Found]:
        """What is lost when the model's config is read again."""
        try:
            said = self.read(self._config(spec, source), spec.name)
        except (WeightError, UnsupportedError) as error:
            return [Found("", "", line) for line in str(error).splitlines()]
        return [Found(one.scope, one.field, one.b, one.a) for one in differences(said, spec)]

    def write(self, spec: Spec, source: Config | None = None) -> Config:
        """The config of a spec: `source` in its own words where it says the same model, but for what is prescribed;
        else its fields that say nothing of the architecture travel along.

        Raises UnsupportedError, listing all, for what the family cannot express."""
        config = self._kept(spec, source)
        if config is None:
            broken = self.violations(spec, source)
            if broken:
                lines = shorten([str(one) for one in broken])
                raise UnsupportedError("\n".join([f"`{self.model_type}` cannot express this model:", *lines]))
            config = self._config(spec, source or {})
        return config | {"model_type": self.model_type, "architectures": [self.architecture]}

    def _kept(self, spec: Spec, source: Config | None) -> Config | None:
        """`source` if it says this model already; its code, if it names some, stays behind."""
        if source is None or source.get("model_type") != self.model_type:
            return None
        try:
            said = self.read(source, spec.name)
        except (WeightError, UnsupportedError):
            return None
        if said.init_std != spec.init_std or differences(said, spec):
            return None
        return self.respelled({k: v for k, v in source.items() if k != "auto_map"}, spec)

    def _config(self, spec: Spec, source: Config) -> Config:
        # A field of blocks that the model does not have stays as it was, unless its absence says something.
        replaced = self.more_keys | {k for one in self.binds if one.default is None for k in one.keys} | {"auto_map"}
        config = {k: v for k, v in source.items() if k not in replaced}
        return config | self._written(spec, source) | self.write_blocks(spec)

    def _written(self, spec: Spec, source: Config) -> Config:
        """The bound fields, under every spelling that `source` uses."""
        found: Config = {}
        for one in (INIT_STD, *self.binds):
            value = next((v for v in (_value(spec, path) for path in one.to) if v is not REQUIRED), REQUIRED)
            if value is None and one.absent:
                value = _value(spec, one.absent)
            if value is not REQUIRED:
                found |= dict.fromkeys([one.key, *(k for k in one.aliases if k in source)], one.write(value))
        return found

    def unread(self, config: Config) -> list[str]:
        """Fields of a config that the family neither reads nor knows to be harmless."""
        bound = {k for one in (INIT_STD, *self.binds) for k in one.keys}
        return unread(config, bound | self.more_keys | self.harmless | set(self.neutral) | {"quantization_config"})

    # -- tensors ------------------------------------------------------------------------------------------------------

    def checked_table(self, spec: Spec, layout: str) -> Table:
        """The table, which must make every weight of the spec's graph and nothing else."""
        shapes = spec.graph().weight_shapes()
        table = self.table(spec, layout, shapes)
        made = {_logical(name, table.packed) for name in table.to_archc}
        wanted = set(shapes)
        if made != wanted:
            lines = [f"no place for {n}" for n in sorted(wanted - made)]
            lines += [f"not a weight: {n}" for n in sorted(made - wanted)]
            raise UnsupportedError("\n".join([f"the `{self.model_type}` tables do not fit:", *shorten(lines)]))
        return table

    def layout_of(self, spec: Spec, names: Sequence[str]) -> tuple[str, Table]:
        """The layout in which a checkpoint holds the tensors `names`.

        Raises WeightError that lists what the nearest layout misses and does not know."""
        found: list[tuple[list[str], list[str]]] = []
        for layout in self.layouts:
            table = self.checked_table(spec, layout)
            found.append(table.gaps(names))
            if not any(found[-1]):
                return layout, table
        missing, unknown = min(found, key=lambda gaps: sum(map(len, gaps)))
        lines = [f"no place in the `{self.model_type}` table: {n}" for n in unknown]
        lines += [f"missing: {n}" for n in missing]
        raise WeightError(
            "\n".join([f"the checkpoint does not fit its config ({len(lines)} tensors):", *shorten(lines)])
        )


def shorten(lines: Sequence[str]) -> list[str]:
    """The first lines of a long list, and how many more there are."""
    return [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else list(lines)


def _logical(name: str, packed: Mapping[str, str]) -> str:
    """The weight that a stored name belongs to: `<key>` for the parts `<key>.blocks`."""
    key = name.rpartition(".")[0]
    return key if key in packed else name


def _value(spec: Spec, path: str) -> Any:
    """The value at a bind's path in a spec; REQUIRED where no block has it."""
    kind, _, name = path.rpartition(".")
    if kind == "":
        return getattr(spec, name)
    if kind == "norm":
        return getattr(spec.norm, name)
    return next((getattr(one.fields, name) for one in all_blocks(spec) if one.kind == kind), REQUIRED)


def _path(spec: Spec, found: Found) -> str:
    """The place of a violation as binds name it: `mlp.d_ff`, `norm.eps`."""
    kinds = {scope: one.kind for scope, one in placed(spec)}
    return f"{kinds.get(found.scope, found.scope)}.{found.field}"


def _with_std(one: Block, std: float) -> Block:
    return replace(one, fields=replace(one.fields, init_std=std))


# -- registry ----------------------------------------------------------------------------------------------------------

_FAMILIES: dict[str, Family] = {}


def family(cls: type[Family]) -> type[Family]:
    """Class decorator: registers the family under its model_type."""
    if cls.model_type in _FAMILIES:
        raise UnsupportedError(f"family `{cls.model_type}` is registered twice")
    _FAMILIES[cls.model_type] = cls()
    return cls


def families() -> Mapping[str, Family]:
    """Every registered family by model_type."""
    import archc.hub.families as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_FAMILIES.items()))


def family_of(config: Config) -> Family:
    """The family of a config. Raises UnknownName with a suggestion."""
    known = families()
    if config["model_type"] not in known:
        raise UnknownName("model_type", config["model_type"], known)
    return known[config["model_type"]]
