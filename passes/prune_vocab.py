"""prune-vocab: fewer tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from archc.ir.graph import Graph
from archc.ir.selection import Selections, keep
from archc.ir.slicing import sliced
from archc.ir.weight_expr import Old
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass, register_pass

Ids = tuple[int | tuple[int, int], ...]


@register_pass("prune-vocab")
class PruneVocab(Pass):
    """Keep these token ids, in this order: their rows of the embedding and of the head.

    An entry of `keep` is an id or a (first, last) range; `id_ranges` writes a list of ids so. The id of a token is then
    its position; `archc.train.tokenizers.kept.keep_tokens` rewrites the tokenizer alike. The logits of kept tokens are
    what they were after a text of kept tokens. Raises PassError for ids that there are not or that come twice.
    """

    keep: Ids

    Examples = ({"keep": ((0, 99), 300)}, {"keep": (7, 3, 5)}, {"keep": ((0, 319),)})

    @classmethod
    def idle(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        if "vocab" in graph.dims:
            yield {"keep": ((0, graph.dims["vocab"].size - 1),)}

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph over fewer tokens."""
        vocab = graph.dims.get("vocab")
        if vocab is None:
            raise self.error(f"`{graph.name}` has no vocabulary")
        ids = self.tokens
        wrong = [i for i in ids if not 0 <= i < vocab.size]
        if wrong or not ids:
            raise self.error(f"`{graph.name}` has the ids 0 to {vocab.size - 1}: got {wrong[0] if wrong else 'none'}")
        if len(set(ids)) < len(ids):
            raise self.error(f"ids named twice: {len(ids) - len(set(ids))} of {len(ids)}")
        # Tokens stand in a fixed order for everybody who has no map of them: here there is one.
        chosen = Selections([keep(vocab, ids)])
        params = {key: Old(key) for key in graph.weight_shapes()}
        cut = {
            f"{graph.scopes[node.id]}.{param.name}": sliced(
                Old(f"{graph.scopes[node.id]}.{param.name}"), param.axes, chosen
            )
            for node, param in graph.params()
            if any(chosen.touches(axis) for axis in param.axes)
        }
        return graph.with_dims(chosen.resized), WeightMap({**params, **cut})

    @property
    def tokens(self) -> list[int]:
        """The tokens that stay, ranges written out."""
        return [
            i for entry in self.keep for i in ([entry] if isinstance(entry, int) else range(entry[0], entry[1] + 1))
        ]


def id_ranges(ids: Iterable[int]) -> Ids:
    """Ids as `keep` takes them, runs of three and more as ranges.

    >>> id_ranges([0, 1, 2, 3, 7, 9, 10, 5])
    ((0, 3), 7, 9, 10, 5)
    """
    runs: list[list[int]] = []
    for i in ids:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return tuple(entry for run in runs for entry in (((run[0], run[-1]),) if len(run) > 2 else run))
