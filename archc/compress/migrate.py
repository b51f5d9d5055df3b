"""The passes that lead from one model to another, derived from what differs between the two.

What the difference does not tell (which of equal layers went, by what units are chosen) is asked for, all of it in one
error that names the flags of `archc migrate`; what no pass does is another error, all of it too.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from archc.compress.depth import Choice, find_layers
from archc.compress.reach import MERGES, Cut, How, Reacher, Way, mixers, other_formats
from archc.compress.run import compress
from archc.hub.checkpoint_dir import CheckpointDir
from archc.ir.align import align, shared_dims
from archc.ir.diff_changes import find_changes
from archc.ir.diff_pairs import Paired
from archc.ir.diff_words import Place, change_words, places_words, region_words
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph, Node
from archc.ir.workload import FormatChoice
from archc.kernels.errors import PassError, UnsupportedError
from archc.passes import Context, Pass, Pipeline, apply
from archc.passes.canonicalise import Canonicalise
from archc.passes.drop_layers import DropLayers
from archc.passes.drop_mtp import DropMTP
from archc.passes.merging import MergePass
from archc.passes.prune import Prune
from archc.passes.prune_vocab import Ids, PruneVocab
from archc.passes.ranking import FIRST, RANDOM
from archc.passes.scores import Scores
from archc.passes.tie_embeddings import TieEmbeddings
from archc.passes.untie_embeddings import UntieEmbeddings
from archc.spec.model import Block, Spec, spec_from_graph

Tie = Literal["embedding", "lm_head", "mean"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What two models do not tell of the way from one to the other; a choice where there is none changes nothing.

    `by` is how units are chosen: first, random, or one of the `estimators` that there are scores of (the only one, when
    left out). `layers` are the positions of the layers that go; None to have them found. `kv_heads`, `groups` and
    `experts` say whether fewer of them are what is left, or means. `tie` is what a tied embedding starts from, `tokens`
    the ids of the tokens that stay.
    """

    by: str = ""
    estimators: tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    kv_heads: How | None = None
    groups: How | None = None
    experts: How | None = None
    tie: Tie | None = None
    tokens: Ids | None = None


def passes_between(a: Graph, b: Graph, choices: Choices | None = None) -> Pipeline:
    """The passes that make of `a` a model of `b`'s spec.

    >>> from archc.resolve import load
    >>> print(passes_between(load("nemotron-h-8b"), load("nemotron-h-4b"), Choices(by="first")))
    prune{dim=d_model, to=3072, by=first}
    prune{dim=heads_per_group, to=14, by=first, kind=mamba2}
    prune{dim=d_ff, to=12288, by=first, kind=mlp}

    Raises UnsupportedError that lists every difference that no pass makes, else PassError that lists everything to be
    chosen. Which units are kept may count too (rotary frequencies): `check_end` tells.
    """
    return _Migration(a, b, choices or Choices()).pipeline()


def check_end(a: Graph, pipeline: Pipeline, b: Graph, scores: Scores | None = None) -> None:
    """Raise UnsupportedError unless the pipeline makes of `a` a model of `b`'s spec, its name aside."""
    made, _ = apply(a, pipeline, Context(scores=scores))
    _check_made(a, made, b)


def _check_made(a: Graph, made: Graph, b: Graph) -> None:
    if not same_spec(made, b):
        changes = find_changes(Paired(made, b, align(made, b)))
        told = [f"  {change.words}" for change in changes]
        raise UnsupportedError("\n".join([f"what the passes make of `{a.name}` is not `{b.name}`:", *told]))


def migrate(
    source: Path,
    pipeline: Pipeline,
    b: Graph,
    out: Path,
    *,
    scores: Path | None = None,
    overwrite: bool = False,
) -> CheckpointDir:
    """Apply passes to the checkpoint in a folder, so that the new one is `b`, which is checked before it is written."""

    def accept(a: Graph, made: Graph) -> None:
        _check_made(a, made, b)

    return compress(source, pipeline, out, scores=scores, name=b.name, accept=accept, overwrite=overwrite)


def same_spec(a: Graph, b: Graph) -> bool:
    """Whether `a` is of `b`'s spec, names aside; formats are `a`'s own where that spec names none."""
    if _structure(a) != _structure(b) or list(_other_formats(a, b)):
        return False
    pairs = (
        (x, y) for region in (LAYERS, MTP_LAYERS) for x, y in zip(mixers(a, region), mixers(b, region), strict=True)
    )
    return not any(True for x, y in pairs for _ in other_formats(a, x, y))


def _structure(graph: Graph) -> Spec:
    spec = spec_from_graph(graph)
    mtp = spec.mtp and replace(spec.mtp, layers=_bare(spec.mtp.layers))
    return replace(spec, name="_", formats=(), layers=_bare(spec.layers), mtp=mtp)


def _bare(blocks: Sequence[Block]) -> tuple[Block, ...]:
    return tuple(replace(block, formats=()) for block in blocks)


def _other_formats(a: Graph, b: Graph) -> Iterator[str]:
    """The formats that B has for the whole model and A has not."""
    had = FormatChoice().of(a)
    for name, wanted in b.formats:
        if had[name] != wanted:
            yield f"{name} format {change_words(had[name], wanted)}"


@dataclass(frozen=True)
class _Pair:
    """The mixer of A that becomes one of B; `place` is B's position, a name where it serves multi-token prediction."""

    place: Place
    x: Node
    y: Node


class _Migration:
    """Gathers passes, and beside them what is impossible and what is open."""

    def __init__(self, a: Graph, b: Graph, choices: Choices) -> None:
        self.a, self.b, self.choices = a, b, choices
        self.old, self.new = spec_from_graph(a), spec_from_graph(b)
        self.shared = shared_dims(a) | shared_dims(b)
        self.reacher = Reacher(a, self.shared)
        self.impossible: list[str] = []
        self.open: dict[str, str] = {}  # by flag
        self.ours, self.theirs = list(mixers(a, LAYERS)), list(mixers(b, LAYERS))

    def pipeline(self) -> Pipeline:
        """The passes. Raises UnsupportedError or PassError."""
        self._unchangeable()
        whole = [*self._mtp()]
        kept = self._kept_layers()
        gone = tuple(sorted(set(range(len(self.ours))) - set(kept)))
        whole += [DropLayers(layers=gone)] if gone else []
        whole += [*self._ends()]
        pairs = [_Pair(at, self.ours[i], self.theirs[at]) for at, i in enumerate(kept)]
        blocks = self._blocks([*pairs, *self._mtp_pairs()])
        self._raise()
        return Pipeline((*whole, *blocks))

    def _raise(self) -> None:
        names = f"from `{self.a.name}` to `{self.b.name}`"
        if self.impossible:
            lines = [f"  {line}" for line in dict.fromkeys(self.impossible)]
            raise UnsupportedError("\n".join([f"no passes lead {names}:", *lines]))
        if self.open:
            lines = [f"  {flag}: {text}" for flag, text in self.open.items()]
            raise PassError("\n".join([f"{names} more than one way leads; choose:", *lines]))

    # -- the whole model -----------------------------------------------------------------------------------------------

    def _unchangeable(self) -> None:
        """What of the model as a whole no pass changes."""
        for name in ("d_model", "vocab"):
            had, to = getattr(self.old, name), getattr(self.new, name)
            if to > had:
                self.impossible.append(f"{name} {had} -> {to} (no pass makes a dim larger)")
        if self.old.norm.eps != self.new.norm.eps:
            self.impossible.append(f"norm.eps {change_words(self.old.norm.eps, self.new.norm.eps)}")
        kinds = self.old.norm.kind, self.new.norm.kind
        if kinds not in ((kinds[0], kinds[0]), ("layer1p", "layer")):
            self.impossible.append(f"norm {change_words(*kinds)}")
        if self.old.init_std != self.new.init_std:
            self.impossible.append(f"init.std {change_words(self.old.init_std, self.new.init_std)}")
        self.impossible += _other_formats(self.a, self.b)

    def _mtp(self) -> Iterator[Pass]:
        had, to = self.a.mtp_steps, self.b.mtp_steps
        if to > had:
            self.impossible.append(f"multi-token prediction: {had} -> {to} steps (no pass adds one)")
        elif to < had:
            yield DropMTP(steps=to)

    def _mtp_pairs(self) -> Iterator[_Pair]:
        """The blocks of multi-token prediction, where both have it: none of them comes or goes."""
        if not self.new.mtp or not self.old.mtp:
            return
        ours, theirs = list(mixers(self.a, MTP_LAYERS)), list(mixers(self.b, MTP_LAYERS))
        count = len(self.new.mtp.layers)
        if count != len(self.old.mtp.layers):
            self.impossible.append(f"MTP layers {len(self.old.mtp.layers)} -> {count}")
            return
        for x, y in zip(ours[:count], theirs[:count], strict=True):
            yield _Pair(x.block, x, y)

    def _ends(self) -> Iterator[Pass]:
        """Embedding, head and norms."""
        if self.old.tied and not self.new.tied:
            yield UntieEmbeddings()
        if self.new.tied and not self.old.tied:
            if self.choices.tie is None:
                self.open["--tie embedding|lm_head|mean"] = "what the tied matrix is"
            else:
                yield TieEmbeddings(source=self.choices.tie)
        if self.old.norm.kind != self.new.norm.kind:
            yield Canonicalise()
        if self.new.vocab < self.old.vocab:
            yield from self._tokens()
        if self.new.d_model < self.old.d_model:
            yield Prune(dim="d_model", to=self.new.d_model, by=self._by())

    def _tokens(self) -> Iterator[Pass]:
        told = f"vocab {self.old.vocab} -> {self.new.vocab}"
        if self.choices.tokens is None:
            self.open["--tokens IDS (such as 0-99,200)"] = f"{told}: which tokens stay"
            return
        one = PruneVocab(keep=self.choices.tokens)
        if len(one.tokens) != self.new.vocab:
            self.open["--tokens IDS"] = f"{told}: {len(one.tokens)} tokens named"
        yield one

    def _by(self) -> str:
        """How units are chosen; asks for it where that is not said."""
        by, known = self.choices.by, self.choices.estimators
        if by or len(known) == 1:
            return by or known[0]
        ways = "|".join((FIRST, RANDOM, *(known or ("ESTIMATOR with --importance FILE",))))
        self.open[f"--by {ways}"] = "by what the units are chosen that stay"
        return FIRST

    # -- layers --------------------------------------------------------------------------------------------------------

    def _kept_layers(self) -> tuple[int, ...]:
        """A's position of every layer of B. What remains open is noted, and a choice returned that serves to go on."""
        if self.choices.layers is not None:
            return self._named(self.choices.layers)
        certain = self._by_lineage()
        if certain is not None:
            return self._checked(certain)
        found = self._found(replacing=False) or self._found(replacing=True)
        if found is None:
            self._unmatched()
            return ()
        if not found.certain:
            self._ask_layers(found)
        return found.earliest

    def _found(self, *, replacing: bool) -> Choice | None:
        """Layers that can be B's, another kind of block in a layer's place only with `replacing`."""

        def fits(i: int, j: int) -> bool:
            x, y = self.ours[i], self.theirs[j]
            return (replacing or x.op.kind == y.op.kind) and bool(self.reacher.reach(x, y).ways)

        return find_layers(len(self.ours), len(self.theirs), fits)

    def _by_lineage(self) -> tuple[int, ...] | None:
        """Ids tell where both descend from one graph, and every layer of B is one of A's in order."""
        if not self.a.ancestry & self.b.ancestry:
            return None
        at = {node.block: i for i, node in enumerate(self.ours)}
        found = [at.get(node.block, -1) for node in self.theirs]
        return tuple(found) if sorted(set(found)) == found and -1 not in found else None

    def _ask_layers(self, found: Choice) -> None:
        gone = Counter(n.op.kind for n in self.ours) - Counter(n.op.kind for n in self.theirs)
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(gone.items()))
        count = len(self.ours) - len(self.theirs)
        example = sorted(set(range(len(self.ours))) - set(self._nearest(found)))
        self.open["--layers POSITIONS"] = (
            f"which {'layer goes' if count == 1 else f'{count} layers go'} ({kinds}) of {places_words(found.may_go)},"
            f" such as {places_words(example).replace(' ', '')}"
        )

    def _nearest(self, found: Choice) -> Sequence[int]:
        """The layers that structure pairs, where these serve; else the earliest."""
        pairs = [m for m in align(self.a, self.b).matches if m.region == LAYERS]
        kept = [m.a.position for m in pairs if m.a is not None and m.b is not None and m.a.position is not None]
        fit = len(kept) == len(self.theirs) and all(
            self.reacher.reach(self.ours[i], self.theirs[j]).ways for j, i in enumerate(kept)
        )
        return kept if fit else found.earliest

    def _named(self, gone: Sequence[int]) -> tuple[int, ...]:
        had, to = len(self.ours), len(self.theirs)
        wrong = sorted({i for i in gone if not 0 <= i < had})
        twice = sorted({i for i in gone if gone.count(i) > 1})
        kept = tuple(i for i in range(had) if i not in gone)
        if wrong or twice or len(kept) != to:
            got = f"out of range {places_words(wrong)}" if wrong else f"twice {places_words(twice)}"
            told = got if wrong or twice else f"{had} -> {to} layers, {len(gone)} named"
            self.impossible.append(f"--layers: names each of {had - to} of the layers 0 to {had - 1}: {told}")
            return ()
        return self._checked(kept)

    def _checked(self, kept: tuple[int, ...]) -> tuple[int, ...]:
        """Those layers, once each can be B's; what stands in the way is noted."""
        told: dict[str, list[Place]] = {}
        for j, i in enumerate(kept):
            self._note(told, i, self.ours[i], self.theirs[j])
        self._tell(told)
        return () if told else kept

    def _unmatched(self) -> None:
        """Says of the nearest pairing of layers what no pass does."""
        told: dict[str, list[Place]] = {}
        for match in align(self.a, self.b).matches:
            if match.region != LAYERS or match.b is None or match.b.position is None:
                continue
            y = self.theirs[match.b.position]
            if match.a is None or match.a.position is None:
                told.setdefault(f"{y.op.kind} added in `{self.b.name}`", []).append(match.b.position)
            else:
                self._note(told, match.a.position, self.ours[match.a.position], y)
        self._tell(told)

    def _note(self, told: dict[str, list[Place]], place: Place, x: Node, y: Node) -> None:
        for problem in self.reacher.reach(x, y).problems:
            named = problem if x.op.kind != y.op.kind else f"{x.op.kind} {problem}"
            told.setdefault(named, []).append(place)

    def _tell(self, told: dict[str, list[Place]]) -> None:
        for problem, places in told.items():
            region = LAYERS if any(isinstance(p, int) for p in places) else MTP_LAYERS
            self.impossible.append(f"{region_words(region, places)}: {problem}")

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _blocks(self, pairs: Sequence[_Pair]) -> list[Pass]:
        """The passes on blocks: another kind in the place first, then means, then cuts."""
        told: dict[str, list[Place]] = {}
        for pair in pairs:
            if isinstance(pair.place, str):
                self._note(told, pair.place, pair.x, pair.y)
        self._tell(told)
        if self.impossible:
            return []
        ways = [(pair, self._way(pair)) for pair in pairs]
        replaced: dict[Any, list[int]] = {}
        for pair, way in ways:
            if way.replaced is not None and isinstance(pair.place, int):
                replaced.setdefault(way.replaced, []).append(pair.place)
        passes: list[Pass] = [dataclasses.replace(one, layers=tuple(at)) for one, at in replaced.items()]
        return [*passes, *self._merges(ways), *self._cuts(ways)]

    def _way(self, pair: _Pair) -> Way:
        """The way that is chosen, where there are several."""
        reach = self.reacher.reach(pair.x, pair.y)
        said: How | None = getattr(self.choices, reach.open) if reach.open else None
        by_how = {way.how: way for way in reach.ways}
        if said is not None and said not in by_how:
            (only,) = by_how
            flag = f"--{reach.open.replace('_', '-')}"
            self.impossible.append(f"{flag} {said}: layer {pair.place} is reached by `{only}` only")
        elif said is None and len(by_how) > 1:
            role = MERGES[reach.open].role
            sizes = change_words(pair.x.op.dims[role].size, pair.y.op.dims[role].size)
            self.open[f"--{reach.open.replace('_', '-')} drop|merge"] = f"{role} {sizes}: some dropped, or all averaged"
        return by_how.get(said or "drop", reach.ways[0])

    def _merges(self, ways: Sequence[tuple[_Pair, Way]]) -> Iterator[Pass]:
        found: dict[MergePass, list[Place]] = {}
        for pair, way in ways:
            if way.merged is not None:
                found.setdefault(way.merged, []).append(pair.place)
        for one, places in found.items():
            everywhere = [pair.place for pair, _ in ways if isinstance(pair.y.op, one.kind)]
            if places == everywhere:
                yield one
            elif len(positions := [p for p in places if isinstance(p, int)]) == len(places):
                yield dataclasses.replace(one, layers=tuple(positions))
            else:
                self.impossible.append(f"`{one}` of MTP layers only: it merges there where it does everywhere")

    def _cuts(self, ways: Sequence[tuple[_Pair, Way]]) -> Iterator[Pass]:
        """A prune of each dim that shrinks, of all blocks of a kind where they end alike, else of some."""
        for kind in dict.fromkeys(pair.y.op.kind for pair, _ in ways):
            here = [(pair, way) for pair, way in ways if pair.y.op.kind == kind]
            cut = {c.role for _, way in here for c in way.cuts}
            for role in dict.fromkeys(role for pair, _ in here for role in pair.y.op.dims if role in cut):
                having = [(pair, way) for pair, way in here if role in pair.y.op.dims]
                yield from self._prunes(kind, role, [_cut(pair, way, role) for pair, way in having])

    def _prunes(self, kind: str, role: str, cuts: Sequence[tuple[Place, Cut]]) -> Iterator[Pass]:
        by = self._by()
        sizes = {cut.to for _, cut in cuts}
        mtp = {cut.to for place, cut in cuts if isinstance(place, str)}
        least = sizes.pop() if len(sizes) == 1 else None
        if least is None and any(isinstance(place, str) and cut.had > cut.to for place, cut in cuts):
            least = max(mtp)  # `layers` names no layer of multi-token prediction: all are cut to its size first
            if len(mtp) > 1 or any(cut.to > least or cut.had < least for _, cut in cuts):
                self.impossible.append(f"MTP layers: {kind} {role} of a size that other layers do not pass")
                return
        if least is not None:
            yield Prune(dim=role, to=least, kind=kind, by=by)
        groups: dict[int, list[int]] = {}
        for place, cut in cuts:
            if isinstance(place, int) and cut.to < (least or cut.had):
                groups.setdefault(cut.to, []).append(place)
        for to, places in groups.items():
            yield Prune(dim=role, to=to, kind=kind, layers=tuple(places), by=by)


def _cut(pair: _Pair, way: Way, role: str) -> tuple[Place, Cut]:
    """The cut of a role, of as many units as there are where nothing is cut."""
    size = pair.y.op.dims[role].size
    return pair.place, next((c for c in way.cuts if c.role == role), Cut(role, size, size))
