"""Imported MTP against transformers' own attention and MoE blocks, strung together by hand.

transformers ignores `mtp.*`. The joint follows the public converters and SGLang's NemotronH MTP model: the embedding
of the next token, normed, beside the normed hidden state of the backbone (after its last norm), projected.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHBlock

from archc.hub.import_ import import_checkpoint
from archc.ir.execute import execute
from tests.hub.oracles import ORACLES, mtp_tensors, save

BATCH, LENGTH, TOLERANCE = 2, 19, 1e-4


def transformers_block(config: transformers.PretrainedConfig, index: int, tensors: dict[str, Tensor]) -> NemotronHBlock:
    """Block `index` of the MTP module, loaded with its tensors; experts are stacked as transformers holds them."""
    prefix = f"mtp.layers.{index}."
    mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    block = NemotronHBlock(config, index).eval()
    for name, target in block.state_dict().items():
        parts = [mine[n] for n in expert_names(name, config.n_routed_experts)] if ".experts." in name else []
        target.copy_(torch.stack(parts) if parts else mine[name])
    return block


def expert_names(name: str, experts: int) -> list[str]:
    before, _, matrix = name.partition(".experts.")
    return [f"{before}.experts.{e}.{matrix}.weight" for e in range(experts)]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


def test_mtp_hidden_states(tmp_path: Path) -> None:
    oracle = ORACLES["nemotron_h-mtp"]
    model = save(oracle, tmp_path / "hf")
    checkpoint = import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    tokens = torch.randint(0, oracle.config["vocab_size"], (BATCH, LENGTH))
    with torch.no_grad():
        got = execute(checkpoint.graph, checkpoint.weights(), tokens, outputs=["mtp.1"])["mtp.1"]
        hidden = model.model(tokens).last_hidden_state
        wanted = by_hand(oracle.hf_config(), mtp_tensors(oracle), model, hidden, tokens)
    # the last position has no next token
    torch.testing.assert_close(got[:, :-1], wanted, atol=TOLERANCE, rtol=0)


def by_hand(
    config: transformers.PretrainedConfig,
    tensors: dict[str, Tensor],
    model: transformers.PreTrainedModel,
    hidden: Tensor,
    tokens: Tensor,
) -> Tensor:
    """Hidden states [B, L - 1, D] of the MTP module: position t has seen token t + 1."""
    eps, first = config.layer_norm_epsilon, "mtp.layers.0."
    blocks = mtp_config(config)
    embedding = rms_norm(model.model.embeddings(tokens[:, 1:]), tensors[f"{first}enorm.weight"], eps)
    previous = rms_norm(hidden[:, :-1], tensors[f"{first}hnorm.weight"], eps)
    x = torch.cat([embedding, previous], dim=-1) @ tensors[f"{first}eh_proj.weight"].t()
    length = x.shape[1]
    causal = torch.full((length, length), -torch.inf).triu(1)[None, None]
    for index in range(len(blocks.layers_block_type)):
        x = transformers_block(blocks, index, tensors)(x, attention_mask=causal)
    return rms_norm(x, tensors["mtp.layers.1.final_layernorm.weight"], eps)


def mtp_config(config: transformers.PretrainedConfig) -> transformers.PretrainedConfig:
    """The config with the MTP module's blocks as its layers."""
    values = config.to_dict() | {"layers_block_type": ["full_attention", "moe"]}
    return transformers.AutoConfig.for_model(**values, attn_implementation="eager")
