"""The runtimes: which families each loads, and what it wants beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from archc.hub.fit import Rule
from archc.kernels.errors import UnknownName, listed, nearest
from archc.targets.rules import (
    HEADS,
    HYBRID_CACHE,
    LLAMA_CPP_HYBRID,
    LLAMA_CPP_MTP,
    LLAMA_CPP_PUZZLE,
    MAMBA,
    MTP,
    PUZZLE_MTP,
    WIDTHS,
)


@dataclass(frozen=True)
class Runtime:
    """A runtime: `families` it loads (model_type -> rules beside the family's own), None for any graph at all.

    `rules` hold for every family. `parallel` says whether it cuts a model among processes."""

    name: str
    says: str
    families: Mapping[str, tuple[Rule, ...]] | None
    rules: tuple[Rule, ...] = ()
    parallel: bool = True


PLAIN = ("gpt_oss", "llama", "mamba2", "mistral", "nemotron", "nemotron_h", "qwen2", "qwen3", "qwen3_moe")
VLLM = {name: () for name in PLAIN} | {"nemotron_h": (MTP,)}

TARGETS: Mapping[str, Runtime] = {
    one.name: one
    for one in (
        Runtime(
            "transformers",
            "transformers 5.23, which the tests load exports with; it leaves multi-token prediction out",
            {name: () for name in PLAIN} | {"nemotron_h": (HYBRID_CACHE,)},
            (HEADS,),
        ),
        Runtime("vllm", "vLLM; from its source, not run here", VLLM, (HEADS, MAMBA, WIDTHS)),
        Runtime(
            "vllm-puzzle",
            "a vLLM with `nemotron_h_puzzle` (0.24 has it); from public sources, not run here",
            VLLM | {"nemotron_h_puzzle": (PUZZLE_MTP,)},
            (HEADS, MAMBA, WIDTHS),
        ),
        Runtime(
            "llama.cpp",
            "llama.cpp as in llama-cpp-python 0.3.36; it knows no bounds of Mamba's time step",
            {name: () for name in PLAIN}
            | {"nemotron_h": (*LLAMA_CPP_HYBRID, LLAMA_CPP_MTP), "nemotron_h_puzzle": LLAMA_CPP_PUZZLE},
            parallel=False,
        ),
        Runtime("package", "what `archc compile` writes: any graph", None, parallel=False),
    )
}


def runtime(name: str) -> Runtime:
    """A runtime by name. Raises UnknownName with a suggestion and the list."""
    if name in TARGETS:
        return TARGETS[name]
    error = UnknownName("target", name, TARGETS)
    if nearest(name, TARGETS):
        error.args = (f"{error} Targets are {listed(list(TARGETS))}",)
    raise error
