"""`archc migrate`: the passes that two models' difference tells, and what it does not tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from archc.cli import app
from archc.compress.depth import find_layers
from archc.compress.migrate import Choices, check_end, passes_between, same_spec
from archc.compress.recipe import load_recipe
from archc.compress.run import SCORES, compress
from archc.hub.checkpoint_dir import load_checkpoint, write_checkpoint_dir
from archc.importance.files import save_scores
from archc.ir.graph import LAYERS, Graph
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, PassError, UnsupportedError
from archc.passes import Context, Pipeline, apply
from archc.passes.drop_layers import DropLayers
from archc.passes.scores import Scores
from archc.resolve import load
from archc.spec.model import Spec, spec_from_graph

PAPERS = sorted((Path(__file__).resolve().parents[2] / "examples/papers").glob("*.yaml"))
TINY = ("tiny-attention", "tiny-dense", "tiny-hybrid", "tiny-latent", "tiny-mamba", "tiny-moe")


def fresh(graph: Graph) -> Graph:
    """The graph as a spec tells it: nothing says where it comes from."""
    return spec_from_graph(graph).graph()


def made(name: str, passes: str) -> Graph:
    return fresh(apply(load(name), passes)[0])


def told(name: str, passes: str, **choices: Any) -> str:
    a, b = load(name), made(name, passes)
    found = passes_between(a, b, Choices(**choices))
    check_end(a, found, b)
    return str(found)


# -- published pairs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", PAPERS, ids=lambda f: f.stem)
def test_a_published_pair_is_derived(file: Path) -> None:
    parent, child = (
        load(line.split(": ", 1)[1]) for line in file.read_text().splitlines() if line[:4] in ("# pa", "# ch")
    )
    dropped = [p.layers for p in load_recipe(file).passes.passes if isinstance(p, DropLayers)]
    found = passes_between(parent, child, Choices(by="first", layers=dropped[0] if dropped else None))
    check_end(parent, found, child)
    assert Pipeline.parse(str(found)) == found
    _, weights = apply(parent, found)
    assert weights.shapes(parent.weight_shapes()) == child.weight_shapes()


def test_there_are_eight_papers() -> None:
    assert len(PAPERS) == 8


# -- there and back ----------------------------------------------------------------------------------------------------


@st.composite
def cuts(draw: st.DrawFn, graph: Graph) -> str:
    """A prune of some dim of some kind, everywhere or in some layers."""
    mixers = [graph.node(f"{block}.mixer").op for block in graph.blocks[LAYERS]]
    kind = draw(st.sampled_from(sorted({op.kind for op in mixers})))
    at = [i for i, op in enumerate(mixers) if op.kind == kind]
    op = mixers[at[0]]
    role = draw(st.sampled_from([r for r, d in op.dims.items() if d.order != "fixed" and r != "vocab"]))
    share = draw(st.sampled_from([0.25, 0.5, 0.75]))
    places = draw(st.just([]) | st.lists(st.sampled_from(at), min_size=1, unique=True))
    if role == "d_model":
        return f"prune{{dim=d_model, keep={share}, by=first}}"
    layers = f", layers=({', '.join(map(str, places))})" if places else ""
    return f"prune{{dim={role}, keep={share}, by=first, kind={kind}{layers}}}"


@st.composite
def compressions(draw: st.DrawFn) -> tuple[Graph, Graph, tuple[int, ...]]:
    """A tiny model, what drawn passes make of it, and the layers that went; passes that break a rule are left out."""
    start = draw(st.sampled_from(TINY).map(load))
    count = len(start.blocks[LAYERS])
    gone = tuple(draw(st.lists(st.integers(0, count - 1), max_size=3, unique=True)))
    graph = apply(start, DropLayers(layers=gone))[0]
    for _ in range(draw(st.integers(0, 4))):
        try:
            graph = apply(graph, draw(cuts(graph)))[0]
        except ArchcError:
            continue
    return start, graph, gone


@settings(max_examples=25, deadline=None)
@given(compressions())
def test_what_passes_made_is_derived_back(drawn: tuple[Graph, Graph, tuple[int, ...]]) -> None:
    start, made, gone = drawn
    # Layers that went are named, or told by the ids that both graphs have of one ancestor.
    for b, layers in ((fresh(made), gone), (made, None)):
        choices = Choices(by="first", layers=layers, kv_heads="drop", groups="drop", experts="drop")
        found = passes_between(start, b, choices)
        check_end(start, found, b)


@settings(max_examples=100)
@given(st.text("ab", max_size=7), st.text("ab", max_size=5))
def test_layers_are_found_as_by_trying_all(had: str, there: str) -> None:
    import itertools

    every = [c for c in itertools.combinations(range(len(had)), len(there)) if [had[i] for i in c] == list(there)]
    found = find_layers(len(had), len(there), lambda i, j: had[i] == there[j])
    if found is None:
        assert not every
        return
    assert (found.earliest, found.latest) == (min(every), max(every))
    assert set(found.may_go) == {i for c in every for i in set(range(len(had))) - set(c)}
    assert found.certain == (len(every) == 1)


# -- what is derived ---------------------------------------------------------------------------------------------------


def test_the_order_of_layers_tells_which_went() -> None:
    assert told("tiny-dense", "drop-layers{layers=(6)}") == "drop-layers{layers=(6)}"


def test_a_size_of_all_and_sizes_of_some() -> None:
    passes = "prune{dim=d_ff, to=512, by=first, kind=mlp}"
    assert told("tiny-dense", passes, by="first") == passes
    some = "prune{dim=d_ff, to=512, by=first, kind=mlp, layers=(1, 3)}"
    assert told("tiny-dense", some, by="first") == some


def test_heads_that_can_only_be_merged_are() -> None:
    assert told("tiny-dense", "merge-kv-heads{to=1}") == "merge-kv-heads{to=1}"
    assert told("tiny-dense", "merge-groups{to=1}") == "merge-groups{to=1}"
    assert told("tiny-moe", "merge-experts{to=4, top_k=1}") == "merge-experts{to=4, top_k=1}"


def test_merged_units_may_be_fewer_too() -> None:
    passes = "merge-kv-heads{to=1}\nprune{dim=queries_per_kv, to=2, by=first, kind=attention}"
    assert told("tiny-dense", passes, by="first", kv_heads="merge") == passes
    drop = "prune{dim=n_kv_heads, to=1, by=first, kind=attention}"
    assert told("tiny-dense", drop, by="first", kv_heads="drop") == drop


@pytest.mark.parametrize(
    "name, passes, choices",
    [
        ("tiny-hybrid", "drop-mtp", {}),
        ("tiny-latent", "drop-mtp{steps=1}", {}),
        ("tiny-mamba", "untie-embeddings", {}),
        ("tiny-dense", "tie-embeddings{source=mean}", {"tie": "mean"}),
        ("tiny-dense", "prune-vocab{keep=((0, 99), 300)}", {"tokens": ((0, 99), 300)}),
        ("tiny-dense", "attention-to-mamba{layers=(5), d_state=16, n_groups=2, dtype=bf16}", {}),
        (
            "tiny-hybrid",  # whose MTP has experts too
            "prune{dim=d_ff, to=96, by=first, kind=moe}\nprune{dim=d_ff, to=48, by=first, kind=moe, layers=(1)}",
            {"by": "first"},
        ),
        ("tiny-attention", "prune{dim=head_dim, to=16, by=first, kind=attention}", {"by": "first"}),
    ],
)
def test_one_pass_is_told_by_what_it_makes(name: str, passes: str, choices: dict[str, Any]) -> None:
    assert told(name, passes, **choices) == passes


# -- what is open ------------------------------------------------------------------------------------------------------


def test_everything_open_is_asked_for_at_once() -> None:
    passes = (
        "drop-layers{layers=(2, 3)}; prune{dim=d_model, to=96, by=first}; prune{dim=n_kv_heads, to=1, by=first};"
        "tie-embeddings; prune-vocab{keep=((0, 99))}"
    )
    b = made("tiny-dense", passes)
    with pytest.raises(PassError) as raised:
        passes_between(load("tiny-dense"), b)
    first, *lines = str(raised.value).splitlines()
    assert first == "from `tiny-dense` to `tiny-dense` more than one way leads; choose:"
    assert lines == [
        "  --layers POSITIONS: which 2 layers go (1 mamba2, 1 mlp) of 0-4, such as 2-3",
        "  --tie embedding|lm_head|mean: what the tied matrix is",
        "  --tokens IDS (such as 0-99,200): vocab 320 -> 100: which tokens stay",
        "  --by first|random|ESTIMATOR with --importance FILE: by what the units are chosen that stay",
        "  --kv-heads drop|merge: n_kv_heads 2 -> 1: some dropped, or all averaged",
    ]


def test_estimators_that_there_are_scores_of_are_named() -> None:
    a, b = load("tiny-dense"), made("tiny-dense", "prune{dim=d_ff, to=512, by=first}")
    with pytest.raises(PassError, match=r"--by first\|random\|activation\|taylor"):
        passes_between(a, b, Choices(estimators=("activation", "taylor")))
    assert "by" not in str(passes_between(a, b, Choices(estimators=("activation",))))  # the default of prune


def test_groups_and_experts_are_dropped_or_merged() -> None:
    a = replace_mixers(load("tiny-dense"), norm_groups=1)  # else the parts of the norm tell which of the two it was
    with pytest.raises(PassError, match=r"--groups drop\|merge: n_groups 2 -> 1"):
        passes_between(a, fresh(apply(a, "prune{dim=n_groups, to=1, by=first}")[0]), Choices(by="first"))
    a, b = load("tiny-moe"), made("tiny-moe", "prune{dim=experts, to=4, by=first}")
    with pytest.raises(PassError, match=r"--experts drop\|merge: experts 8 -> 4"):
        passes_between(a, b, Choices(by="first"))
    for how, passes in (("drop", "prune{dim=experts, to=4, by=first, kind=moe}"), ("merge", "merge-experts{to=4}")):
        assert str(passes_between(a, b, Choices(by="first", experts=how))) == passes


def replace_mixers(graph: Graph, **fields: Any) -> Graph:
    """The model with other fields of the blocks that have them."""
    spec = spec_from_graph(graph)
    layers = tuple(
        replace(b, fields=replace(b.fields, **{k: v for k, v in fields.items() if hasattr(b.fields, k)}))
        for b in spec.layers
    )
    return replace(spec, layers=layers).graph()


# -- what no pass does -------------------------------------------------------------------------------------------------


def changed(spec: Spec, **fields: Any) -> Graph:
    return replace(spec, **fields).graph()


def test_everything_impossible_is_listed_at_once() -> None:
    a = load("tiny-dense")
    wrong = replace_mixers(a, d_ff=1024, activation="silu", head_dim=48)
    spec = spec_from_graph(wrong)
    b = changed(spec, d_model=256, vocab=400, norm=replace(spec.norm, eps=1e-3), formats=(("weights", "fp32"),))
    with pytest.raises(UnsupportedError) as raised:
        passes_between(a, b, Choices(by="first"))
    text = str(raised.value)
    assert text.startswith("no passes lead from `tiny-dense` to `tiny-dense`:\n")
    for line in (
        "d_model 192 -> 256 (no pass makes a dim larger)",
        "vocab 320 -> 400 (no pass makes a dim larger)",
        "norm.eps 1e-05 -> 0.001",
        "weights format bf16 -> fp32",
        "layers 1, 3, 6, 8, 10, 13: mlp d_ff 768 -> 1024 (no pass makes a dim larger)",
        "layers 1, 3, 6, 8, 10, 13: mlp activation relu2 -> silu",
        "layers 5, 12: attention head_dim 32 -> 48 (no pass makes a dim larger)",
    ):
        assert f"  {line}" in text.splitlines(), text


def test_layers_that_come_or_become_others_are_listed() -> None:
    a = load("tiny-dense")
    spec = spec_from_graph(a)
    mamba, mlp = spec.layers[:2]
    longer = changed(spec, layers=(*spec.layers, mlp))
    with pytest.raises(UnsupportedError, match="mlp added in `tiny-dense`"):
        passes_between(a, longer)
    other = changed(spec, layers=(*spec.layers[:-1], mamba))
    with pytest.raises(UnsupportedError, match="layer 13: mlp -> mamba2: no pass makes one of the other"):
        passes_between(a, other)


def test_steps_of_mtp_do_not_come() -> None:
    with pytest.raises(UnsupportedError, match="multi-token prediction: 0 -> 1 steps"):
        passes_between(made("tiny-hybrid", "drop-mtp"), load("tiny-hybrid"))


def test_rotary_frequencies_of_a_narrower_head_are_not_computed_ones() -> None:
    a = load("tiny-attention")
    with pytest.raises(UnsupportedError, match=r"rope.frequencies .* -> none"):
        passes_between(a, replace_mixers(a, head_dim=16), Choices(by="first"))


def test_frequencies_of_other_pairs_are_found_before_anything_is_written() -> None:
    a = load("tiny-attention")
    b = fresh(apply(a, "prune{dim=head_dim, to=16, by=random, kind=attention}")[0])
    with pytest.raises(UnsupportedError, match="what the passes make of `tiny-attention` is not"):
        check_end(a, passes_between(a, b, Choices(by="first")), b)


@pytest.mark.parametrize(
    "layers, problem",
    [
        ((2,), "14 -> 12 layers, 1 named"),
        ((2, 2), "twice 2"),
        ((2, 14), "out of range 14"),
        ((0, 2), "layer 1: mlp -> mamba2"),
    ],
)
def test_named_layers_must_fit(layers: tuple[int, ...], problem: str) -> None:
    with pytest.raises(UnsupportedError) as raised:
        passes_between(load("tiny-dense"), made("tiny-dense", "drop-layers{layers=(2, 3)}"), Choices(layers=layers))
    assert problem in str(raised.value)


def test_a_choice_that_does_not_lead_there() -> None:
    b = made("tiny-dense", "merge-kv-heads{to=1}")
    with pytest.raises(UnsupportedError, match="--kv-heads drop: layer 5 is reached by `merge` only"):
        passes_between(load("tiny-dense"), b, Choices(kv_heads="drop"))


def test_formats_that_the_spec_does_not_name_are_the_checkpoint_s() -> None:
    spec = spec_from_graph(load("tiny-dense"))
    layers = tuple(replace(b, formats=(("A_log", "fp32"),)) if b.kind == "mamba2" else b for b in spec.layers)
    a, plain = changed(spec, formats=(("weights", "fp16"),), layers=layers), load("tiny-dense")
    assert passes_between(a, plain) == Pipeline(()) and same_spec(a, plain)
    assert not same_spec(plain, a)
    with pytest.raises(UnsupportedError, match="mamba2 A_log format bf16 -> fp32"):
        passes_between(plain, a)


# -- the command -------------------------------------------------------------------------------------------------------


def archc(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent") / "ckpt"
    graph = load("tiny-dense")
    write_checkpoint_dir(folder, graph, init_weights(graph), {"step": "test"})
    return folder


PASSES = "drop-layers{layers=(2, 3)}; prune{dim=d_model, to=96}; prune{dim=d_ff, to=256, kind=mlp}"


def test_weights_are_those_of_compress(parent: Path, tmp_path: Path) -> None:
    graph = load("tiny-dense")
    draw = np.random.default_rng(0)
    units = {name: draw.random((max(d.rows, 1), d.size)) for name, d in graph.dims.items()}
    scores = tmp_path / "scores.safetensors"
    save_scores(scores, Scores(graph.short_hash, {"activation": units}))
    b, _ = apply(graph, PASSES, Context(scores=Scores(graph.short_hash, {"activation": units})))
    spec = tmp_path / "b.yaml"
    spec.write_text(replace(spec_from_graph(b), name="smaller").to_yaml())
    out = tmp_path / "out"
    given = ("--weights", parent, "--from", "tiny-dense", "--to", spec, "--importance", scores, "--layers", "2-3")
    shown = archc("migrate", *given, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert Pipeline.parse(shown.output) == Pipeline.parse(PASSES)
    done = archc("migrate", *given, "-o", out)
    assert done.exit_code == 0, done.output
    found = load_checkpoint(out)
    assert found.graph.name == "smaller" and same_spec(found.graph, load(spec))
    expected = compress(parent, Pipeline.parse(PASSES), tmp_path / "other", scores=scores)
    assert found.tensors.names == expected.tensors.names
    assert all(found.tensors.read(n).equal(expected.tensors.read(n)) for n in expected.tensors.names)
    assert (out / SCORES).exists()
    assert archc("verify", out, "--parent", parent).exit_code == 0


def test_nothing_is_written_where_it_does_not_lead(parent: Path, tmp_path: Path) -> None:
    done = archc("migrate", "--weights", parent, "--to", "tiny-moe", "-o", tmp_path / "out")
    assert isinstance(done.exception, UnsupportedError)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_model_is_refused(parent: Path, tmp_path: Path) -> None:
    done = archc("migrate", "--weights", parent, "--from", "tiny-moe", "--to", "tiny-moe", "-o", tmp_path / "out")
    assert "holds another model than `tiny-moe`" in str(done.exception)


@pytest.mark.parametrize(
    "given, said",
    [
        (("--to", "tiny-dense", "-o", "out"), "give --weights CKPT"),
        (("--to", "tiny-dense", "--from", "tiny-dense"), "give --weights CKPT"),
        (("--to", "tiny-dense", "--from", "tiny-dense", "--dry-run", "--layers", "3-"), "expected numbers and ranges"),
    ],
)
def test_options_that_do_not_go_together(given: tuple[str, ...], said: str) -> None:
    done = archc("migrate", *given)
    assert done.exit_code == 2 and said in done.output
