"""What goes with a model whose tokens become fewer: its tokenizer, and configs that name tokens by id."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archc.hub.checkpoint_dir import VOCABULARY_FILES, Origin, copy_carried
from archc.ir.graph import Graph
from archc.train.tokenizers.base import read_json
from archc.train.tokenizers.huggingface import GENERATION_CONFIG, HF_FILE
from archc.train.tokenizers.kept import keep_tokens, renumbered_config


def carry(source: Path, folder: Path, graph: Graph, tokens: Sequence[int] | None) -> None:
    """Copy what travels along with the model `graph`; where only `tokens` of it stay, with their new ids.

    Raises ArchcError with the reasons where the tokenizer cannot do without the others."""
    copy_carried(source, folder)
    if tokens is None:
        return
    found = [name for name in VOCABULARY_FILES if (folder / name).is_file()]
    for name in found:
        (folder / name).unlink()  # what the new tokenizer has of them is written again
    if found:
        keep_tokens(source, tokens, folder)
    if HF_FILE not in found and (folder / GENERATION_CONFIG).is_file():
        made = _renumbered(read_json(source / GENERATION_CONFIG), graph, tokens, str(source / GENERATION_CONFIG))
        (folder / GENERATION_CONFIG).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def kept_origin(origin: Origin | None, graph: Graph, tokens: Sequence[int] | None) -> Origin | None:
    """Where a model was imported from, its config with the new ids. Raises UnsupportedError for named tokens gone."""
    if origin is None or tokens is None:
        return origin
    where = "the config of the model that this was imported from"
    return dataclasses.replace(origin, config=_renumbered(origin.config, graph, tokens, where))


def _renumbered(config: dict[str, Any], graph: Graph, tokens: Sequence[int], where: str) -> dict[str, Any]:
    return renumbered_config(config, tokens, graph.dims["vocab"].size, where)
