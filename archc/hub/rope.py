"""Rotary position embeddings in foreign configs: `rope_theta` + `rope_scaling`, or `rope_parameters`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from archc.hub.config import Config
from archc.ir.ops.attention import Rope, RopeScaling
from archc.kernels.errors import UnsupportedError, WeightError, suggestion

# `rope_percent` is how Minitron's first configs spell the rotated fraction.
ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "rope_percent")
ROPE_TYPES = ("default", "llama3", "yarn")

# Spec field -> config field of the scalings; the YaRN paper's own mscale pair folds into attention_factor.
_COMMON = {"factor": "factor", "original_context": "original_max_position_embeddings"}
_SCALING = {
    "llama3": _COMMON | {"low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor"},
    "yarn": _COMMON
    | {
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "truncate": "truncate",
        "attention_factor": "attention_factor",
    },
}
_READ_ELSEWHERE = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "mscale", "mscale_all_dim"}


def read_rope(config: Config, theta: float = 10000.0, partial: float = 1.0, scaling: Config | None = None) -> Rope:
    """The rotary embedding of a config in either spelling; the arguments are the family's defaults.

    Raises WeightError for a malformed one and UnsupportedError for a rule that archc does not have."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or scaling or {}
    if not isinstance(given, dict) or any(isinstance(v, dict) for v in given.values()):
        raise UnsupportedError(f"one rotary embedding for all layers is supported: got {given!r}")
    everything = config | given
    fraction = everything.get("partial_rotary_factor") or everything.get("rope_percent") or partial
    rope = Rope(
        theta=_number(everything.get("rope_theta") or theta, "rope_theta"),
        partial=_number(fraction, "partial_rotary_factor"),
    )
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise UnsupportedError(f"rope_type `{kind}` is not supported{suggestion(str(kind), ROPE_TYPES)}")
    return rope if kind == "default" else replace(rope, scaling=_read_scaling(kind, given, config))


def _read_scaling(kind: str, given: Config, config: Config) -> RopeScaling:
    names = _SCALING[kind]
    strange = sorted(set(given) - set(names.values()) - _READ_ELSEWHERE)
    if strange:
        raise UnsupportedError(f"rope scaling `{kind}` has fields that archc does not read: {', '.join(strange)}")
    context = given.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    full = given | {"original_max_position_embeddings": context}
    if given.get("factor") is None and kind == "yarn" and context:
        full["factor"] = config.get("max_position_embeddings", context) / context
    above, below = given.get("mscale"), given.get("mscale_all_dim")
    if kind == "yarn" and above and below and not given.get("attention_factor"):
        full["attention_factor"] = _mscale(full["factor"], above) / _mscale(full["factor"], below)
    values = {spec: full[key] for spec, key in names.items() if full.get(key) is not None}
    missing = [names[f] for f in ("factor", "original_context") if f not in values]
    if missing:
        raise WeightError(f"rope scaling `{kind}` lacks {', '.join(missing)}")
    made = {f: v if isinstance(v, bool) else _number(v, names[f]) for f, v in values.items()}
    made["original_context"] = int(made["original_context"])
    return RopeScaling(kind=kind, **made)  # type: ignore[arg-type]


def write_rope(rope: Rope | None, always: bool = False) -> Config:
    """The fields of a rotary embedding as `rope_theta` and `rope_scaling`, which old engines and transformers 5 read.

    `always` writes `rope_scaling` even where there is no scaling, for families whose default is one."""
    if rope is None:
        return {}
    if rope.frequencies is not None:
        raise UnsupportedError("rotary embeddings with explicit frequencies have no foreign form")
    config: Config = {"rope_theta": rope.theta}
    if rope.partial != 1.0:
        config["partial_rotary_factor"] = rope.partial
    if rope.scaling is not None:
        names = _SCALING[rope.scaling.kind]
        values = {key: getattr(rope.scaling, spec) for spec, key in names.items()}
        config["rope_scaling"] = {"rope_type": rope.scaling.kind} | {k: v for k, v in values.items() if v is not None}
    elif always:
        config["rope_scaling"] = {"rope_type": "default"}
    return config


def _mscale(factor: float, mscale: float) -> float:
    """YaRN's attention temperature (Peng et al. 2023, section 3.4)."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise WeightError(f"`{key}` must be a positive number: got {value!r}")
    return float(value)
