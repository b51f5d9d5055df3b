"""drop-blocks: which layers go by their scores, alone, together, in a run."""

from __future__ import annotations

import pytest

from archc.ir.graph import LAYERS
from archc.kernels.errors import PassError
from archc.passes import Context, apply
from archc.passes.drop_blocks import DropBlocks
from archc.passes.scores import Scores
from archc.resolve import load

GRAPH = load("tiny-dense")
BLOCKS = GRAPH.blocks[LAYERS]


def goes(scores: list[float], **options: object) -> tuple[int, ...]:
    blocks = {"influence": dict(zip(BLOCKS, scores, strict=True))}
    ctx = Context(scores=Scores(GRAPH.short_hash, blocks=blocks))
    return DropBlocks(**options).positions(GRAPH, ctx)  # type: ignore[arg-type]


SCORES = [9.0, 1.0, 8.0, 2.0, 3.0, 7.0, 0.5, 6.0, *([10.0] * (len(BLOCKS) - 8))]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"count": 3}, (1, 3, 6)),
        ({"count": 2, "contiguous": True}, (3, 4)),
        ({"count": 2, "together": 2}, (6, 7)),
        ({"count": 4, "together": 2, "contiguous": True}, (4, 5, 6, 7)),
        ({"count": 1, "spare": 6}, (6,)),
    ],
)
def test_which_go(options: dict[str, object], expected: tuple[int, ...]) -> None:
    assert goes(SCORES, **options) == expected


def test_only_one_kind_goes() -> None:
    made, _ = apply(load("tiny-hybrid"), "drop-blocks{count=2, kind=mamba2, by=random}")
    kinds = [n.op.kind for n in load("tiny-hybrid").nodes if n.role == "mixer"]
    left = [n.op.kind for n in made.nodes if n.role == "mixer"]
    assert left.count("mamba2") == kinds.count("mamba2") - 2 and len(left) == len(kinds) - 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop-blocks{count=99, by=random}", f"`tiny-dense` has {len(BLOCKS)} that may go: got 99"),
        ("drop-blocks{count=3, together=2, by=random}", "that may go, 2 at a time: got 3"),
        ("drop-blocks{count=1}", "`by=influence` needs scores, and there are none"),
        ("drop-blocks{count=1, kind=mpl, by=random}", "unknown kind of op in `tiny-dense` `mpl`: did you mean `mlp`?"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(PassError) as raised:
        apply(GRAPH, text)
    assert message in str(raised.value)
