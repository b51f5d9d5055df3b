"""The built-in ops. A new one is a file here and its import line below."""

from archc.ir.ops import (  # noqa: F401
    attention,
    embedding,
    joints,
    latent_moe,
    linear,
    lm_head,
    mamba2,
    mlp,
    moe,
    norms,
)
