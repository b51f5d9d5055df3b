"""What runtimes want of a model beyond what their formats can say.

Each rule says where it is from. What nobody here could run is kept on the careful side and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from archc.hub.families.nemotron_h_puzzle import NemotronHPuzzle
from archc.hub.fit import EXPERTS, Found, Rule, kinds, one_size, placed
from archc.ir.graph import MTP_LAYERS
from archc.spec.model import Spec

# -- tensor parallelism ------------------------------------------------------------------------------------------------

HEADS = Rule(
    "tp-heads",
    "query heads divide by the tensor-parallel size, and key/value heads do or divide it (they are then copied)",
    lambda spec, tp: _heads(spec, tp),
)
MAMBA = Rule(
    "tp-mamba",
    "Mamba heads divide by the tensor-parallel size, and groups do or there is one (vLLM's mamba_mixer2; not run here)",
    lambda spec, tp: _mamba(spec, tp),
)
WIDTHS = Rule(
    "tp-widths",
    "widths of feed-forward and experts divide by the tensor-parallel size (vLLM, experts not spread; not run here)",
    lambda spec, tp: _widths(spec, tp),
)
ONE_PROCESS = Rule("one-process", "runs whole, without tensor parallelism")
CHAIN = Rule("chain", "a chain of blocks that a spec can say, each a norm, a mixer and an add")


def _heads(spec: Spec, tp: int) -> Iterator[Found]:
    for scope, one in placed(spec):
        if one.kind != "attention":
            continue
        heads, kv = one.fields.n_heads, one.fields.n_kv_heads or one.fields.n_heads
        if heads % tp:
            yield Found(scope, "n_heads", heads, f"a multiple of {tp}")
        if kv % tp and tp % kv:
            yield Found(scope, "n_kv_heads", kv, f"a multiple or a divisor of {tp}")


def _mamba(spec: Spec, tp: int) -> Iterator[Found]:
    for scope, one in placed(spec):
        if one.kind != "mamba2":
            continue
        if one.fields.n_heads % tp:
            yield Found(scope, "n_heads", one.fields.n_heads, f"a multiple of {tp}")
        if one.fields.n_groups % tp and one.fields.n_groups != 1:
            yield Found(scope, "n_groups", one.fields.n_groups, f"1 or a multiple of {tp}")


def _widths(spec: Spec, tp: int) -> Iterator[Found]:
    for scope, one in placed(spec):
        for name in ("d_ff", "shared_d_ff"):
            width = getattr(one.fields, name, None) or 0
            if width % tp:
                yield Found(scope, name, width, f"a multiple of {tp}")


# -- multi-token prediction --------------------------------------------------------------------------------------------


def _draft_kinds(spec: Spec, tp: int) -> Iterator[Found]:
    for i, one in enumerate(spec.mtp.layers if spec.mtp else ()):
        if one.kind not in ("attention", *EXPERTS):
            yield Found(f"{MTP_LAYERS}.{i}.mixer", "", one.kind, "attention or experts")


MTP = Rule(
    "mtp", "multi-token prediction is one module of attention and experts only (vLLM's nemotron_h_mtp)", _draft_kinds
)


def _draft_pair(spec: Spec, tp: int) -> Iterator[Found]:
    found = [one.kind for one in spec.mtp.layers] if spec.mtp else []
    if found and not (len(found) == 2 and found[0] == "attention" and found[1] in EXPERTS):
        yield Found("", "mtp", ", ".join(found), "attention, then experts")


def _puzzle_pair(spec: Spec, tp: int) -> Iterator[Found]:
    yield from _draft_pair(spec, tp)
    for i, one in enumerate(spec.mtp.layers if spec.mtp else ()):
        if one.kind == "attention" and one.fields.window is not None:
            yield Found(f"{MTP_LAYERS}.{i}.mixer", "window", one.fields.window, "none")


PUZZLE_MTP = Rule(
    "mtp", "multi-token prediction is full attention, then experts (as its config class asks)", _puzzle_pair
)

# -- transformers 5.23, tried here -------------------------------------------------------------------------------------


def _some_attention(spec: Spec, tp: int) -> Iterator[Found]:
    if not any(one.kind == "attention" for _, one in placed(spec)):
        yield Found("", "layers", "no attention", "one layer of attention at least")


HYBRID_CACHE = Rule("cache", "a hybrid has attention: the cache asks such a layer how long it is", _some_attention)

# -- llama.cpp, as llama-cpp-python 0.3.36 carries it: conversion/nemotron.py and src/models/nemotron-h.cpp ------------


def _only(kind: Sequence[str], name: str, good: Callable[[object], bool], expected: object, why: str) -> Rule:
    def find(spec: Spec, tp: int) -> Iterator[Found]:
        for scope, one in placed(spec):
            if one.kind in kind and not good(getattr(one.fields, name)):
                yield Found(scope, name, getattr(one.fields, name), expected)

    return Rule(name.replace("_", "-"), why, find)


def _one_feed_forward(spec: Spec, tp: int) -> Iterator[Found]:
    if any(one.kind in EXPERTS for _, one in placed(spec)):
        for scope, one in placed(spec):
            if one.kind == "mlp":
                yield Found(scope, "", "mlp", " or ".join(EXPERTS), "a model with experts has them in every such layer")


LLAMA_CPP_HYBRID = (
    _only(("mlp", *EXPERTS), "activation", lambda v: v == "relu2", "relu2", "squared ReLU is built in"),
    _only(EXPERTS, "expert_groups", lambda v: v == 1, 1, "experts in one group: the converter writes no `topk_group`"),
    Rule("feed-forward", "all feed-forward layers are plain, or all have experts", _one_feed_forward),
)
LLAMA_CPP_MTP = Rule("mtp", "multi-token prediction is attention, then experts", _draft_pair)
LLAMA_CPP_PUZZLE = (
    _only(("attention",), "window", lambda v: v is None, "none", "attention without windows: it would ignore them"),
    kinds(("mamba2", "attention", "latent_moe"), "of feed-forward layers the converter knows latent experts only"),
    one_size(
        NemotronHPuzzle.binds,
        frozenset({"moe_intermediate_size", "num_experts_per_tok"}),
        "one size per kind of block, but for the width and top-k of experts",
    ),
    *LLAMA_CPP_HYBRID,
)
