"""Builds the graph of a language model from its blocks: the one place that knows how they are strung together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archc.ir.dims import Dim
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph, Node
from archc.ir.op import DimMaker, Op, op_class
from archc.ir.ops.embedding import Embedding
from archc.ir.ops.joints import Add, MTPJoint, Shift
from archc.ir.ops.lm_head import LMHead
from archc.ir.ops.norms import LayerNorm, RMSNorm
from archc.ir.verify import verify
from archc.kernels.errors import UnknownName

Block = tuple[str, Any]  # (op kind, its Fields)

NORMS: Mapping[str, Mapping[str, Any]] = {
    "rms": {"made": RMSNorm},
    "layer": {"made": LayerNorm},
    "layer1p": {"made": LayerNorm, "zero_centred": True},
}


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Which norm the residual stream takes: rms, layer or layer1p (zero-centred gamma)."""

    kind: str = "rms"
    eps: float = 1e-5

    def op(self, d_model: Dim) -> Op:
        """The norm as an op."""
        if self.kind not in NORMS:
            raise UnknownName("norm", self.kind, NORMS)
        options = dict(NORMS[self.kind])
        made: type[Op] = options.pop("made")
        return made(d_model=d_model, eps=self.eps, **options)  # type: ignore[call-arg]


@dataclass(frozen=True, kw_only=True)
class MTP:
    """Multi-token prediction: `steps` applications of one joint and its blocks (DeepSeek-V3; Nemotron 3)."""

    layers: Sequence[Block]
    steps: int = 1


def build_model(
    *,
    name: str,
    d_model: int,
    vocab: int,
    layers: Sequence[Block],
    norm: Norm | None = None,
    tied: bool = False,
    mtp: MTP | None = None,
    formats: Sequence[tuple[str, str]] = (),
    init_std: float = 0.02,
) -> Graph:
    """The verified graph of a decoder: embedding, blocks of norm + mixer + add, final norm, head, MTP region."""
    builder = _Builder(Dim("d_model", d_model), Dim("vocab", vocab, order="fixed"), norm or Norm(), init_std)
    nodes = list(builder.nodes(layers, tied=tied))
    outputs = [("hidden", "norm"), ("logits", "lm_head")]
    if mtp is not None:
        nodes += builder.mtp(mtp)
        outputs += [(f"mtp.{k}", f"mtp{k}.norm" if k > 1 else "mtp.norm") for k in range(1, mtp.steps + 1)]
    return verify(Graph(name, tuple(nodes), tuple(outputs), formats=tuple(formats)))


class _Builder:
    def __init__(self, d_model: Dim, vocab: Dim, norm: Norm, init_std: float) -> None:
        self.d_model, self.vocab, self.norm, self.init_std = d_model, vocab, norm, init_std

    def nodes(self, layers: Sequence[Block], *, tied: bool) -> Iterator[Node]:
        vocab: dict[str, Any] = {"vocab": self.vocab, "d_model": self.d_model, "init_std": self.init_std}
        yield Node("embedding", Embedding(**vocab), ("tokens",))
        last = "embedding"
        for i, block in enumerate(layers):
            yield from self.block(f"L{i}", block, last, region=LAYERS)
            last = f"L{i}.add"
        yield Node("norm", self.norm.op(self.d_model), (last,))
        yield Node("lm_head", LMHead(**vocab), ("norm",), owner="embedding" if tied else "")

    def block(self, name: str, block: Block, source: str, *, region: str, owner: str = "") -> Iterator[Node]:
        """norm + mixer + add; with `owner` the parameters and dims of that block."""
        kind, fields = block
        made = op_class(kind).make(fields, DimMaker(f"{owner or name}.mixer", {"d_model": self.d_model}))
        of = {role: f"{owner}.{role}" if owner else "" for role in ("norm", "mixer")}
        yield Node("norm", self.norm.op(self.d_model), (source,), region, name, of["norm"])
        yield Node("mixer", made, (f"{name}.norm",), region, name, of["mixer"])
        yield Node("add", Add(d_model=self.d_model), (source, f"{name}.mixer"), region, name)

    def mtp(self, plan: MTP) -> Iterator[Node]:
        """Every step: shift the embeddings, join, the blocks, a norm. Steps after the first refer to it."""
        hidden = "norm"
        for step in range(1, plan.steps + 1):
            prefix, first = ("mtp", "") if step == 1 else (f"mtp{step}", "mtp")
            joint = MTPJoint(d_model=self.d_model, eps=self.norm.eps, init_std=self.init_std)
            yield Node(f"{prefix}.shift", Shift(d_model=self.d_model, steps=step), ("embedding",))
            yield Node(f"{prefix}.joint", joint, (hidden, f"{prefix}.shift"), owner=first and f"{first}.joint")
            last = f"{prefix}.joint"
            for i, block in enumerate(plan.layers):
                name, owner = (f"M{i}", "") if step == 1 else (f"M{i}x{step}", f"M{i}")
                yield from self.block(name, block, last, region=MTP_LAYERS, owner=owner)
                last = f"{name}.add"
            yield Node(f"{prefix}.norm", self.norm.op(self.d_model), (last,), owner=first and f"{first}.norm")
            hidden = f"{prefix}.norm"
