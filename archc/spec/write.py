"""Writes a Spec as the YAML a person would write: equal layers under one letter, exceptions as overrides.

Fields at their defaults are left out.
"""

from __future__ import annotations

from typing import Any

from archc.spec.letters import layers_data, letters_of
from archc.spec.model import Block, MTPSpec, Spec
from archc.spec.records import given
from archc.spec.yamltext import document


def write_spec(spec: Spec) -> str:
    """The YAML of a spec; reading it gives an equal spec."""
    return document(spec_data(spec))


def spec_data(spec: Spec) -> dict[str, Any]:
    """The fields of a spec as plain data."""
    letters = letters_of(all_blocks(spec))
    fields = {
        "description": spec.description,
        "d_model": spec.d_model,
        "vocab": spec.vocab,
        "tied": spec.tied,
        "norm": given(spec.norm) | {"eps": spec.norm.eps},
        "init": {"std": spec.init_std} if spec.init_std != 0.02 else {},
        "blocks": {letter: block_data(block, spec.init_std) for block, letter in letters.items()},
        "layers": layers_data(spec.layers, letters),
        "mtp": mtp_data(spec.mtp, layers_data(spec.mtp.layers, letters)) if spec.mtp else {},
        "formats": dict(spec.formats),
        "published": _figures(spec),
        "source": list(spec.source),
    }
    return {"archc": 1, "name": spec.name} | {key: value for key, value in fields.items() if value}


def all_blocks(spec: Spec) -> tuple[Block, ...]:
    """The layers, those of multi-token prediction after the others."""
    return (*spec.layers, *(spec.mtp.layers if spec.mtp else ()))


def block_data(block: Block, init_std: float) -> dict[str, Any]:
    """A block as `blocks` declares it in a spec whose matrices start with deviation `init_std`."""
    fields = given(block.fields)
    fields.pop("init_std", None)
    if getattr(block.fields, "init_std", init_std) != init_std:
        fields["init_std"] = block.fields.init_std
    return {block.kind: fields} | ({"formats": dict(block.formats)} if block.formats else {})


def mtp_data(mtp: MTPSpec, layers: Any) -> dict[str, Any]:
    """Multi-token prediction, its layers written as `layers`."""
    return {"layers": layers} | ({"steps": mtp.steps} if mtp.steps != 1 else {})


def _figures(spec: Spec) -> list[dict[str, Any]]:
    figures = ({f.metric: f.text, "without": list(f.without), "gap": f.gap} for f in spec.published)
    return [{key: value for key, value in figure.items() if value} for figure in figures]
