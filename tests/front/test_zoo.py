"""The zoo: its names, and every model's size against its source and against transformers."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from archc import zoo
from archc.kernels.errors import UnknownName
from archc.spec import load_spec
from archc.zoo.figures import count, last_digit, rows

# fmt: off
PROMISED = {
    "nemotron-h-4b", "nemotron-h-8b", "nemotron-h-47b", "nemotron-h-56b", "nemotron-nano-12b-v2",
    "nemotron-nano-9b-v2", "nemotron-3-nano-4b", "nemotron-3-nano-30b-a3b", "nemotron-3-super-120b-a12b",
    "nemotron-3-ultra-550b-a55b", "nemotron-4-15b", "minitron-8b", "minitron-4b", "llama-3.1-8b", "llama-3.1-70b",
    "llama-3.1-minitron-4b-width", "llama-3.1-minitron-4b-depth", "mistral-nemo-12b", "mistral-nemo-minitron-8b",
    "qwen2.5-7b", "qwen2.5-72b", "qwen3-8b", "qwen3-30b-a3b", "gpt-oss-20b", "gpt-oss-120b", "mamba2-2.7b",
}
# fmt: on
TINY = [name for name in zoo.names() if name.startswith("tiny-")]
REAL = [name for name in zoo.names() if name not in TINY]


def test_the_promised_models_are_there() -> None:
    assert set(REAL) == PROMISED
    assert {"tiny-hybrid", "tiny-dense", "tiny-attention", "tiny-mamba", "tiny-moe", "tiny-latent"} <= set(TINY)


def test_an_unknown_name_is_suggested_for() -> None:
    with pytest.raises(UnknownName, match="did you mean `nemotron-nano-9b-v2`"):
        zoo.path("nemotron-nano-9b")


@pytest.mark.parametrize("name", zoo.names())
def test_a_file_holds_the_model_it_is_named_after(name: str) -> None:
    assert load_spec(zoo.path(name)).name == name


@pytest.mark.parametrize("name", REAL)
def test_published_figures_are_reached_or_listed_with_their_gap(name: str) -> None:
    spec = load_spec(zoo.path(name))
    assert spec.published and spec.source
    wrong = [f"{row.figure} counts {row.counted:,}" for row in rows(spec) if row.agrees == bool(row.figure.gap)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", TINY)
def test_tiny_models_have_a_few_million_parameters(name: str) -> None:
    assert 1_000_000 < count(load_spec(zoo.path(name)).graph(), "total") < 6_000_000


@pytest.mark.parametrize(
    ("metric", "without", "expected"),
    [
        ("total", ("mtp",), 120_668_707_840),
        ("total", (), 123_611_033_088),
        ("active", ("mtp",), 12_770_237_440),
        ("active", ("mtp", "router", "input_embedding"), 12_149_480_448),
    ],
)
def test_conventions_of_counting(metric: str, without: tuple[str, ...], expected: int) -> None:
    assert count(load_spec(zoo.path("nemotron-3-super-120b-a12b")).graph(), metric, without) == expected


def test_a_tied_embedding_is_the_output_embedding() -> None:
    graph = load_spec(zoo.path("mamba2-2.7b")).graph()
    total = count(graph, "total")
    assert count(graph, "total", ["input_embedding"]) == total
    assert count(graph, "total", ["output_embedding"]) == total - 50288 * 2560


@pytest.mark.parametrize(
    ("text", "unit"), [("31.6B", 10**8), ("8.89B", 10**7), ("4B", 10**9), ("350M", 10**6), ("8030", 1)]
)
def test_one_unit_of_the_last_printed_digit(text: str, unit: int) -> None:
    assert last_digit(text) == unit


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_counts_equal_those_of_transformers_on_the_meta_device(name: str) -> None:
    """Parameters and persistent buffers of the exported config's model; transformers has no MTP."""
    transformers = pytest.importorskip("transformers")
    import torch

    from archc.hub.bare_config import config_of

    spec = load_spec(zoo.path(name))
    config = config_of(spec)
    made = transformers.AutoConfig.for_model(
        config["model_type"], **{k: v for k, v in config.items() if k != "model_type"}
    )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    stored = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    assert count(spec.graph(), "total", ["mtp"]) == sum(math.prod(tensor.shape) for tensor in stored.values())


def test_a_spec_becomes_a_graph_without_torch_or_networkx() -> None:
    code = (
        "import sys; from archc import zoo; from archc.spec import load_spec;"
        "load_spec(zoo.path('nemotron-3-ultra-550b-a55b')).graph();"
        "sys.exit(', '.join({'torch', 'networkx', 'transformers'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
