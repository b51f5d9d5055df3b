"""Small graphs of every kind, their weights, and packages compiled from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from archc.compilation import compile_model
from archc.emitted import import_emitted
from archc.ir.build import MTP, Block, Norm, build_model
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.op import op_class
from archc.ir.ops.attention import Rope, RopeScaling

Weights = dict[str, torch.Tensor]


def block(kind: str, **fields: Any) -> Block:
    """A block as the builder takes it."""
    return kind, op_class(kind).Fields(**fields)


MAMBA = block("mamba2", n_heads=6, head_dim=10, d_state=7, n_groups=3, chunk=4)
ATTENTION = block("attention", n_heads=6, n_kv_heads=2, head_dim=12)
ROTARY = block(
    "attention", n_heads=6, n_kv_heads=2, head_dim=12, qk_norm=1e-6,
    rope=Rope(theta=5e5, scaling=RopeScaling(kind="yarn", factor=4.0, original_context=32)),
)  # fmt: skip
SLIDING = block(
    "attention", n_heads=4, n_kv_heads=2, head_dim=10, window=5, sinks=True, qkv_bias=True, o_bias=True, rope=Rope()
)
MLP_RELU2 = block("mlp", d_ff=33, activation="relu2")
MLP_GATED = block("mlp", d_ff=22, activation="silu", gated=True, bias=True)
MOE = block(
    "moe", experts=8, top_k=3, d_ff=20, shared_d_ff=17, router="sigmoid", correction_bias=True, scale=2.5,
    activation="relu2",
)  # fmt: skip
LATENT = block("latent_moe", experts=8, top_k=3, d_ff=20, latent=16, gated=True)
OSS = block(
    "moe", experts=6, top_k=2, d_ff=14, activation="clamped_swiglu", gated=True, bias=True, router_bias=True
)  # fmt: skip
DRAFT = MTP(layers=[block("attention", n_heads=6, n_kv_heads=3, head_dim=14), block("mlp", d_ff=21)], steps=2)


def model(name: str, layers: list[Block], *, d_model: int = 48, **options: Any) -> Graph:
    """A small language model."""
    return build_model(name=name, d_model=d_model, vocab=101, layers=layers, **options)


GRAPHS: dict[str, Callable[[], Graph]] = {
    "dense_hybrid": lambda: model("dense_hybrid", [MAMBA, MLP_RELU2, ATTENTION, MLP_RELU2]),
    "everything": lambda: model(
        "everything", [MAMBA, ROTARY, MLP_RELU2, MOE, SLIDING, LATENT, MLP_GATED, OSS, ATTENTION], mtp=DRAFT
    ),
    "tied_llama": lambda: model("tied_llama", [ROTARY, MLP_GATED, ROTARY, MLP_GATED], tied=True),
    "layer_norm": lambda: model("layer_norm", [ATTENTION, MLP_RELU2], norm=Norm(kind="layer1p"), mtp=DRAFT, tied=True),
    "mamba_mtp": lambda: model("mamba_mtp", [MAMBA, MAMBA], mtp=MTP(layers=[MAMBA], steps=1), norm=Norm(kind="layer")),
    "mlp_only": lambda: model("mlp_only", [MLP_RELU2, MLP_RELU2]),
    "linear_only": lambda: model("linear_only", [block("linear"), block("linear"), block("linear", bias=True)]),
}


def weights(graph: Graph, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Weights:
    """Weights under which every parameter matters: no zeros, no ones, logits of order one."""
    found = init_weights(graph, seed=seed, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    for key, value in found.items():
        noise = torch.randn(value.shape, generator=generator, dtype=dtype)
        if value.ndim > 1 and "conv" not in key:
            found[key] = noise / math.sqrt(value.shape[-1])
        elif not key.endswith(("A_log", "dt_bias")):
            found[key] = value + 0.3 * noise
    return found


@pytest.fixture(scope="session")
def graphs() -> dict[str, Graph]:
    """The graphs by name."""
    return {name: made() for name, made in GRAPHS.items()}


@pytest.fixture(scope="session")
def widths() -> tuple[Graph, Graph]:
    """Two widths of one model, which differ in every size."""
    small = [block("mamba2", n_heads=6, head_dim=10, d_state=7, n_groups=3, chunk=4), ROTARY, MLP_RELU2, MOE, SLIDING]
    large = [
        block("mamba2", n_heads=8, head_dim=12, d_state=9, n_groups=2, chunk=8, conv_kernel=3),
        block(
            "attention", n_heads=4, n_kv_heads=4, head_dim=16, qk_norm=1e-5,
            rope=Rope(theta=1e4, scaling=RopeScaling(kind="yarn", factor=2.0, original_context=64)),
        ),
        block("mlp", d_ff=11, activation="relu2"),
        block(
            "moe", experts=4, top_k=2, d_ff=9, shared_d_ff=5, router="sigmoid", correction_bias=True, scale=1.5,
            activation="relu2",
        ),
        block(
            "attention", n_heads=6, n_kv_heads=3, head_dim=8, window=7, sinks=True, qkv_bias=True, o_bias=True,
            rope=Rope(),
        ),
    ]  # fmt: skip
    return model("small", small, mtp=DRAFT), model("large", large, d_model=36, mtp=MTP(layers=DRAFT.layers, steps=1))


@pytest.fixture(scope="session", params=GRAPHS)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Each graph, compiled with fp64 weights."""
    return compile_graph(GRAPHS[request.param](), tmp_path_factory.mktemp("compiled"))


class Compiled:
    """A graph, its weights, the package and the model loaded from it."""

    def __init__(self, graph: Graph, given: Weights, folder: Path) -> None:
        self.graph, self.weights, self.folder = graph, given, folder
        self.package: ModuleType = import_emitted(folder)
        self.model: Any = self.package.load()


def compile_graph(graph: Graph, parent: Path) -> Compiled:
    """Compile a graph into a folder of its name."""
    given = weights(graph)
    return Compiled(graph, given, compile_model(graph, parent / graph.name, weights=given, command="test"))
