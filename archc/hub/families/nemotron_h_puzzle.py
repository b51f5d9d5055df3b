"""Nemotron-H with sizes of its own in every layer: `nemotron_h_puzzle` (Nemotron-Labs-3-Puzzle), which vLLM reads.

`block_configs` has one object a layer, `block_type` and the sizes that this layer has for itself; the fields above it
hold for all layers. transformers 5.23 has no such family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from archc.hub.blocks import all_blocks
from archc.hub.config import Bind, Config, bind
from archc.hub.families.nemotron_h import (
    KINDS,
    LETTER_OF,
    LETTERS,
    LISTS,
    MTP_LIST,
    NemotronH,
    letters_of,
    read_pattern,
)
from archc.hub.family import family
from archc.hub.fit import Rule, one_size
from archc.kernels.errors import UnsupportedError, WeightError, quoted, suggestion
from archc.spec.model import Block, MTPSpec, Spec

BLOCKS, MTP_BLOCKS = "block_configs", "mtp_block_configs"
# Fields that every object of a block's letter has, as the class published with the model requires.
OWN = {
    "-": ("intermediate_size",),
    "E": ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "moe_shared_expert_intermediate_size"),
}
# Fields that an object has beside them where layers differ. Mamba has none: engines size its state once for all layers.
# Of attention, the class published with the model has the window only, and vLLM reads the others too.
MAY_DIFFER = {
    "*": ("num_attention_heads", "num_key_value_heads", "head_dim", "sliding_window"),
    "E": ("moe_latent_size", "routed_scaling_factor", "n_group", "topk_group", "norm_topk_prob"),
}
FREE = frozenset(key for keys in (*OWN.values(), *MAY_DIFFER.values()) for key in keys)
NAMES = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


@family
class NemotronHPuzzle(NemotronH):
    """Nemotron-H whose feed-forward, experts and attention have sizes of their own in each layer."""

    model_type = "nemotron_h_puzzle"
    architecture = "NemotronHPuzzleForCausalLM"
    layouts = ("model.", "backbone.", "model. fused", "backbone. fused")
    neutral: ClassVar[Mapping[str, Any]] = {k: v for k, v in NemotronH.neutral.items() if k != "sliding_window"}
    more_keys = NemotronH.more_keys | FREE | {BLOCKS, MTP_BLOCKS}
    harmless = NemotronH.harmless | {"blockwise_members"}
    binds: ClassVar[tuple[Bind, ...]] = (*NemotronH.binds, bind("sliding_window", "attention.window", default=None))

    def rules(self) -> tuple[Rule, ...]:
        mine = one_size(self.binds, FREE, "one size per kind of block, but for attention, feed-forward and experts")
        return tuple(mine if rule.name == mine.name else rule for rule in super().rules())

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, config: Config, name: str) -> Spec:
        spec = super().read(config, name)
        broken = [str(one) for rule in self.rules() for one in rule.violations(spec)]
        if broken:
            raise WeightError("\n".join(f"`{BLOCKS}`: {line}" for line in broken))
        return spec

    def read_blocks(self, config: Config, made: Mapping[str, dict[str, Any]]) -> tuple[Block, ...]:
        blocks, layers = self._entries_as_blocks(config, BLOCKS, LISTS), config.get("num_hidden_layers")
        if layers not in (None, len(blocks)):
            raise WeightError(f"`num_hidden_layers` is {layers}, `{BLOCKS}` has {len(blocks)}")
        return blocks

    def read_mtp(self, config: Config, made: Mapping[str, dict[str, Any]]) -> MTPSpec | None:
        mtp = super().read_mtp(config, made)
        if mtp is None:
            return None
        # a config with a pattern alone has its sizes above
        listed = config.get(MTP_BLOCKS) or [{"block_type": NAMES[letter]} for letter in letters_of(mtp.layers)]
        return replace(mtp, layers=self._entries_as_blocks(config | {MTP_BLOCKS: listed}, MTP_BLOCKS, (MTP_LIST,)))

    def _entries_as_blocks(self, config: Config, key: str, lists: tuple[str, ...]) -> tuple[Block, ...]:
        """The blocks that the objects of a list describe. Raises WeightError for all faulty objects at once."""
        entries = config.get(key)
        if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
            raise WeightError(f"`{key}` must be a list of objects, one a layer: got {quoted(repr(entries))}")
        faults: list[str] = []
        blocks: list[Block] = []
        for i, entry in enumerate(entries):
            try:
                blocks.append(self._block_of(config, entry))
            except (WeightError, UnsupportedError) as error:
                faults += [f"`{key}[{i}]`: {line}" for line in str(error).splitlines()]
        if faults:
            raise WeightError("\n".join(faults))
        self._check_pattern(config, key, lists, "".join(LETTERS[one["block_type"]] for one in entries))
        return tuple(blocks)

    def _check_pattern(self, config: Config, key: str, lists: tuple[str, ...], said: str) -> None:
        pattern_key = "hybrid_override_pattern" if key == BLOCKS else "mtp_hybrid_override_pattern"
        pattern = read_pattern({k: v or None for k, v in config.items()}, pattern_key, lists)
        if pattern not in (None, said):
            raise WeightError(f"the layers stand there twice and differently: `{key}` says {said}, not {pattern}")

    def _block_of(self, config: Config, entry: Config) -> Block:
        """The block that one object describes over the fields of the whole config."""
        name = entry.get("block_type")
        if not isinstance(name, str) or name not in LETTERS:
            raise WeightError(f"unknown `block_type` {quoted(str(name))}{suggestion(str(name), NAMES.values())}")
        letter, given = LETTERS[name], {k: v for k, v in entry.items() if k != "block_type" and v is not None}
        own = {key: one for one in self._binds_of(letter) for key in one.keys}
        strange = [f"unknown field {quoted(k)} of `{name}`{suggestion(k, own)}" for k in given if k not in own]
        if strange:
            raise WeightError("\n".join(strange))
        hidden = {key for k in given for key in own[k].keys}
        merged = {k: v for k, v in config.items() if k not in hidden} | given
        lacking = [k for k in OWN.get(letter, ()) if not any(merged.get(key) is not None for key in own[k].keys)]
        if lacking:
            raise WeightError("\n".join(f"`{name}` has no `{k}`, nor has the config above it" for k in lacking))
        (one,) = self._blocks(letter, merged, self._bound(merged))
        return one

    def _binds_of(self, letter: str) -> Iterator[Bind]:
        """The fields that speak of blocks of one letter alone."""
        of = {kind for kind, its in LETTER_OF.items() if its == letter}
        return (one for one in self.binds if {path.rpartition(".")[0] for path in one.to} <= of)

    # -- writing ------------------------------------------------------------------------------------------------------

    def respelled(self, config: Config, spec: Spec) -> Config:
        return config

    def write_blocks(self, spec: Spec) -> Config:
        config = super().write_blocks(spec) | self._listed(spec, spec.layers, BLOCKS, LISTS[0])
        if spec.mtp is None:
            return config
        return config | self._listed(spec, spec.mtp.layers, MTP_BLOCKS, MTP_LIST)

    def _listed(self, spec: Spec, blocks: tuple[Block, ...], key: str, names: str) -> Config:
        differing = self._differing(spec)
        letters = [LETTER_OF[one.kind] for one in blocks]
        entries = [self._entry(one, differing) for one in blocks]
        return {key: entries, names: [NAMES[letter] for letter in letters]}

    def _entry(self, one: Block, differing: frozenset[str]) -> Config:
        letter = LETTER_OF[one.kind]
        keys = {*OWN.get(letter, ()), "moe_latent_size", *differing}
        said = ((b, _value(one, b)) for b in self._binds_of(letter) if b.key in keys)
        return {"block_type": NAMES[letter]} | {b.key: b.write(value) for b, value in said if value is not None}

    def _written(self, spec: Spec, source: Config) -> Config:
        """Without what differs between layers, so that nobody takes one layer's size for another's."""
        differing = self._differing(spec)
        hidden = {key for one in self.binds if one.key in differing for key in one.keys}
        return {k: v for k, v in super()._written(spec, source).items() if k not in hidden}

    def _differing(self, spec: Spec) -> frozenset[str]:
        """The fields that may differ and do, between the blocks that they speak of."""
        found = set()
        for letter in KINDS:
            blocks = [one for one in all_blocks(spec) if LETTER_OF[one.kind] == letter]
            found |= {b.key for b in self._binds_of(letter) if len({_value(one, b) for one in blocks}) > 1}
        return frozenset(found & FREE)


def _value(one: Block, bind: Bind) -> Any:
    """What a config field says of a block; None where its kind has no such field, or stands for another's."""
    names = [path.rpartition(".")[2] for path in bind.to if path.rpartition(".")[0] == one.kind]
    value = getattr(one.fields, names[0]) if names else None
    if value is None and bind.absent:
        return getattr(one.fields, bind.absent.rpartition(".")[2])
    return value
