"""Specs: YAML in, a checked `Spec` and its graph out, and back."""

from __future__ import annotations

from archc.spec.load import load_spec
from archc.spec.model import Block, Figure, MTPSpec, Spec, spec_from_graph
from archc.spec.schema import schema

__all__ = ["Block", "Figure", "MTPSpec", "Spec", "load_spec", "schema", "spec_from_graph"]
