"""Whatever graph archc can express is emitted, or refused with a reason, and computes the same."""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archc.codegen import emit_sources
from archc.ir.execute import execute, new_state
from archc.ir.graph import Graph
from archc.kernels.errors import UnsupportedError
from archc.testing.strategies import graphs
from tests.codegen.conftest import Weights, weights

TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}
DRAWN: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}
CASE = {"graph": graphs(), "batch": st.integers(1, 2), "length": st.integers(1, 9), "packed": st.booleans()}


@settings(max_examples=100, **DRAWN)
@given(**CASE)
def test_emitted_equals_executed(graph: Graph, batch: int, length: int, packed: bool) -> None:
    compare(graph, batch, length, packed)


@pytest.mark.slow
@settings(max_examples=3000, **DRAWN)
@given(**CASE)
def test_many_emitted_equal_executed(graph: Graph, batch: int, length: int, packed: bool) -> None:
    compare(graph, batch, length, packed)


def compare(graph: Graph, batch: int, length: int, packed: bool) -> None:
    """Full forward, MTP, and a sequence fed in two pieces, of the emitted model and of the interpreter."""
    if not graph.blocks.get("layers"):
        with pytest.raises(UnsupportedError, match="has no layers"):
            emit_sources(graph)
        return
    sources = emit_sources(graph)
    model = imported(sources).Model(json.loads(sources["config.json"])).double()
    given = weights(graph)
    model.load_state_dict(given)
    tokens = torch.randint(0, graph.dims["vocab"].size, (batch, length))
    segments = torch.randint(0, 2, (batch, length)) if packed else None
    with torch.no_grad():
        compare_outputs(graph, model, given, tokens, segments)
        if not serves(graph):
            return
        mine, theirs = model.new_state(batch, length), new_state(graph, batch, length, dtype=torch.float64)
        for piece in (tokens[:, : length // 2], tokens[:, length // 2 :]):
            if piece.shape[1]:
                last = execute(graph, given, piece, state=theirs)["logits"][:, -1]
                torch.testing.assert_close(model.prefill(piece, mine), last, **TIGHT)


def compare_outputs(
    graph: Graph, model: Any, given: Weights, tokens: torch.Tensor, segments: torch.Tensor | None
) -> None:
    """Every output of the graph."""
    right = execute(graph, given, {"tokens": tokens} if segments is None else {"tokens": tokens, "segments": segments})
    hidden = model.hidden(tokens, segments)
    outputs = {"hidden": hidden, "logits": model.logits(hidden)}
    if "mtp.1" in right:
        outputs |= {f"mtp.{k}": value for k, value in enumerate(model.mtp(hidden, tokens, segments), 1)}
    assert outputs.keys() == right.keys()
    for name, value in outputs.items():
        torch.testing.assert_close(value, right[name], **TIGHT)


def serves(graph: Graph) -> bool:
    """Whether sequences may be fed in pieces, with a state that keeps floats of at least 16 bits."""
    kept = {dict(graph.formats).get(name, "fp32") for name in ("kv", "ssm", "conv")}
    return kept <= {"fp32", "fp16", "bf16"} and all(n.op.streams for n in graph.nodes if not graph.in_mtp(n))


def imported(sources: dict[str, str]) -> types.ModuleType:
    """The modules of a package, imported from memory; returns `modeling`."""
    package = types.ModuleType("emitted_in_memory")
    package.__path__ = []
    sys.modules[package.__name__] = package
    for name in ("state", "kernels", "modeling"):
        module = types.ModuleType(f"{package.__name__}.{name}")
        module.__package__ = package.__name__
        sys.modules[module.__name__] = module
        exec(compile(sources[f"{name}.py"], f"{name}.py", "exec"), module.__dict__)
    return module
