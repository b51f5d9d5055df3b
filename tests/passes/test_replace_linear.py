"""replace-linear: text, the ridge solution another way, exact where the block is linear, from a file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from archc.fitted import write_fitted
from archc.hub.checkpoint import Checkpoint, write_checkpoint
from archc.hub.stream import run
from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.text import parse_graph
from archc.kernels.errors import PassError
from archc.passes import apply
from archc.passes.replace_linear import ReplaceLinear
from archc.passes.ridge import fit_linear

BEFORE = """archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.d_ff = 12
dim L1.mixer.d_ff = 16
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mlp(L0.norm)
  L0.add = add(embedding, L0.mixer)
  L1.norm = rms_norm(L0.add)
  L1.mixer = mlp(L1.norm)
  L1.add = add(L0.add, L1.mixer)
norm = rms_norm(L1.add)
lm_head = lm_head(norm)
output logits = lm_head
"""

AFTER = BEFORE.replace("dim L1.mixer.d_ff = 16\n", "").replace("mlp(L1.norm)", "linear(L1.norm) {bias=true}")


def test_before_and_after() -> None:
    made, weights = apply(parse_graph(BEFORE), "replace-linear{layers=(1), bias=true}")
    assert made == parse_graph(AFTER).made_from(parse_graph(BEFORE))
    assert weights.dropped == {"layers.1.mixer.up_proj", "layers.1.mixer.down_proj"}


def batches() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randint(32, (3, 11)) for _ in range(4)]


def weights_of(graph: Graph) -> dict[str, Tensor]:
    made = init_weights(graph, seed=1, dtype=torch.float64)
    return {k: w + 0.3 * torch.randn_like(w) for k, w in made.items()}


@pytest.mark.parametrize("bias", [False, True])
def test_fitted_is_the_ridge_solution(bias: bool) -> None:
    """Against least squares over all tokens at once, with rows for the penalty: another way to the same minimum."""
    graph, ridge = parse_graph(BEFORE), 1e-2
    weights = weights_of(graph)
    found = fit_linear(graph, weights, batches(), ["L1"], ridge=ridge, bias=bias)
    seen = execute(graph, weights, torch.cat(batches()), taps=["L1.norm", "L1.mixer"])
    x, y = (seen[name].reshape(-1, 8) for name in ("L1.norm", "L1.mixer"))
    x_mean, y_mean = (v.mean(0) if bias else torch.zeros(8, dtype=x.dtype) for v in (x, y))
    x, y = x - x_mean, y - y_mean
    penalty = (ridge * x.square().sum() / 8).sqrt() * torch.eye(8, dtype=x.dtype)
    expected = torch.linalg.lstsq(torch.cat([x, penalty]), torch.cat([y, torch.zeros_like(penalty)])).solution.T
    torch.testing.assert_close(found["L1.mixer.weight"], expected)
    if bias:
        torch.testing.assert_close(found["L1.mixer.offset"], y_mean - expected @ x_mean)
    assert found.keys() == {"L1.mixer.weight", "L1.mixer.offset"} if bias else {"L1.mixer.weight"}


def test_a_linear_block_is_found_again() -> None:
    graph = parse_graph(AFTER)
    weights = weights_of(graph)
    found = fit_linear(graph, weights, batches(), ["L1"], ridge=1e-15, bias=True)
    for name in ("weight", "offset"):
        torch.testing.assert_close(found[f"L1.mixer.{name}"], weights[f"layers.1.mixer.{name}"], rtol=0, atol=1e-8)


def test_from_a_file_through_the_hub(tmp_path: Path) -> None:
    """The map reads what was fitted; the block that it makes is nearer to the old one than nothing is."""
    graph = parse_graph(BEFORE)
    weights = weights_of(graph)
    sha256 = write_fitted(tmp_path / "fitted.safetensors", fit_linear(graph, weights, batches(), ["L1"], bias=True))
    one = ReplaceLinear(layers=(1,), path="fitted.safetensors", sha256=sha256, bias=True, dtype="fp64")
    made, weight_map = apply(graph, one)
    write_checkpoint(tmp_path / "old", weights)
    written = run(weight_map, Checkpoint(tmp_path / "old"), tmp_path / "new", files=tmp_path)
    new = {name: written.read(name) for name in written.names}
    errors = {}
    for name, (g, w) in {"fitted": (made, new), "zero": (made, {**new, **_zeros(new)})}.items():
        fresh = torch.randint(32, (4, 9), generator=torch.Generator().manual_seed(9))
        wanted = execute(graph, weights, fresh, taps=["L1.mixer"])["L1.mixer"]
        errors[name] = (execute(g, w, fresh, taps=["L1.mixer"])["L1.mixer"] - wanted).square().mean()
    assert errors["fitted"] < 0.5 * errors["zero"]


def _zeros(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: torch.zeros_like(w) for k, w in weights.items() if k.startswith("layers.1.mixer.")}


def test_what_is_refused() -> None:
    with pytest.raises(PassError, match="both `path` and `sha256`"):
        apply(parse_graph(BEFORE), 'replace-linear{layers=(1), path="fitted.safetensors"}')
    with pytest.raises(PassError, match="has layers 0 to 1: got 2"):
        apply(parse_graph(BEFORE), "replace-linear{layers=(2)}")
    with pytest.raises(PassError, match="got no batches"):
        fit_linear(parse_graph(BEFORE), weights_of(parse_graph(BEFORE)), [], ["L1"])
