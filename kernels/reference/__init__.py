"""The torch reference of every primitive; importing this registers them all.

Shapes are written with one legend: B batch, L tokens, T tokens of a flat batch, D d_model, H heads, G groups or
KV heads, P head_dim, N d_state, C channels, E experts, K top_k (or the taps of a convolution), F d_ff, S keys.

References promote and never cast down: reductions, rotations, softmax and the SSD scan work in fp32, or in fp64
where the input is fp64, and return the input's dtype. `segments` [B, L] marks packed documents: a primitive that
mixes tokens does not cross a change of segment. `state` is the `LayerState` of the layer, read and changed in
place; what is written there is detached from the autograd graph.
"""

from archc.kernels.reference.activations import clamped_swiglu, gelu, gelu_tanh, relu2, silu
from archc.kernels.reference.attention import attention, sink_attention, sliding_attention
from archc.kernels.reference.conv import causal_conv1d
from archc.kernels.reference.linear import clamp, concat_last, embedding, linear, split, widen
from archc.kernels.reference.moe import expert_hidden, expert_mlp, expert_outputs, held_expert_mlp, route
from archc.kernels.reference.norms import gated_rms_norm, layer_norm, layer_norm_1p, rms_norm
from archc.kernels.reference.rope import rotary, rotary_frequencies
from archc.kernels.reference.segments import segment_positions, segment_runs, shift_left
from archc.kernels.reference.ssd import decay_rates, ssd_scan, step_sizes
from archc.kernels.reference.state import LayerState

__all__ = [
    "LayerState",
    "attention",
    "causal_conv1d",
    "clamp",
    "clamped_swiglu",
    "concat_last",
    "decay_rates",
    "embedding",
    "expert_hidden",
    "expert_mlp",
    "expert_outputs",
    "gated_rms_norm",
    "gelu",
    "gelu_tanh",
    "held_expert_mlp",
    "layer_norm",
    "layer_norm_1p",
    "linear",
    "relu2",
    "rms_norm",
    "rotary",
    "rotary_frequencies",
    "route",
    "segment_positions",
    "segment_runs",
    "shift_left",
    "silu",
    "sink_attention",
    "sliding_attention",
    "split",
    "ssd_scan",
    "step_sizes",
    "widen",
]
