"""The built-in ops. A new one is a file here and its import line below."""

from archc.ir.ops import (  # noqa: F401
    attention,
    embedding,
    joints,
    latent_moe,
    lm_head,
    mamba2,
    mlp,
    moe,
    norms,
)

# isort: split
# Blocks added later stand below, in order: kinds take their colours by it, and pictures keep theirs.
from archc.ir.ops import linear  # noqa: F401
