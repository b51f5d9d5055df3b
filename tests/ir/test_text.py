"""The text form: what it says, that it parses back, and where its errors point."""

import pytest
from hypothesis import find, given, settings

from archc.ir.graph import Graph
from archc.ir.op import registered_ops
from archc.ir.text import parse_graph, print_graph
from archc.ir.verify import verify
from archc.kernels.errors import ArchcError, GraphError, ParseError
from archc.testing import graphs

SMALL = """archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.d_ff = 12
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mlp(L0.norm) {activation=relu2}
  L0.add = add(embedding, L0.mixer)
norm = rms_norm(L0.add)
lm_head = lm_head(norm) @embedding
output logits = lm_head
"""


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_round_trip(graph: Graph) -> None:
    assert parse_graph(print_graph(graph)) == graph
    assert verify(graph) is graph


def test_the_strategy_draws_everything() -> None:
    """200 draws show every op, per-layer dims, shared parameters, MTP and formats."""
    drawn: list[Graph] = []

    @given(graphs())
    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    def draw(graph: Graph) -> None:
        drawn.append(graph)

    draw()
    nodes = [n for g in drawn for n in g.nodes]
    assert {n.op.kind for n in nodes} == {cls.kind for cls in registered_ops()}
    assert any(n.owner for n in nodes) and any(n.formats for n in nodes)
    assert any(n.region == "mtp.layers" for n in nodes) and any(g.formats for g in drawn)
    per_layer = [{g.node(n.id).op.sizes for n in g.nodes if n.role == "mixer"} for g in drawn]
    assert any(len(sizes) > 2 for sizes in per_layer)


def test_print_is_what_was_parsed() -> None:
    assert print_graph(parse_graph(SMALL)) == SMALL


@pytest.mark.parametrize("first", ["0123456789abcdef", "1234567890123456", "12e4567890123456", "deadbeefdeadbeef"])
def test_lineage_is_a_line_and_not_in_the_hash(first: str) -> None:
    text = SMALL.replace("name small\n", f"name small\nlineage {first} ffffffffffffffff\n")
    graph = parse_graph(text)
    assert graph.lineage == (first, "ffffffffffffffff") and print_graph(graph) == text
    plain = parse_graph(SMALL)
    assert graph.hash == plain.hash and graph != plain
    assert graph.ancestry == {plain.hash[:16], first, "ffffffffffffffff"}


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "message"),
    [
        ("archc graph 1", "archc graph 9", 1, 1, "version 9"),
        ("mlp(L0.norm)", "mpl(L0.norm)", 10, 14, "did you mean `mlp`"),
        ("activation=relu2", "activaton=relu2", 10, 28, "did you mean `activation`"),
        ("dim d_model = 8", "dim d_model = x", 4, 15, "expected a size"),
        ("dim d_model = 8", "dim d_model = 8 within d_mdel", 4, 24, "unknown dim"),
        ("dim L0.mixer.d_ff = 12\n", "", 9, 1, "needs a dim `d_ff`"),
        ("{activation=relu2}", "{activation=relu2", 10, 44, "expected `,`"),
        ("layers:\n", "", 8, 1, "stands in no region"),
        ("norm = rms_norm(L0.add)", "norm = rms_norm(L0.add) ~", 12, 25, "unexpected character"),
        ("@embedding", "embedding", 13, 25, "unexpected `embedding`"),
        ("name small", "name small\nlineage", 3, 8, "expected 16 hexadecimal digits, got `end of line`"),
        ("name small", "name small\nlineage 12ab", 3, 9, "expected 16 hexadecimal digits, got `12ab`"),
        ("name small", f"name small\nlineage {16 * 'a'}\nlineage {16 * '1'}", 4, 1, "`lineage` is given twice"),
        ("activation=relu2", "alpha=12ab", 10, 34, "expected a value, got `12ab`"),
    ],
)
def test_parse_errors_point_at_the_place(old: str, new: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_graph(SMALL.replace(old, new), file="m.txt")
    assert (caught.value.at.line, caught.value.at.column) == (line, column)
    assert message in str(caught.value) and str(caught.value).startswith(f"m.txt:{line}:{column}: ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("add(embedding, L0.mixer)", "add(embedding, L9.mixer)", "input 1 is `L9.mixer`, which does not stand before"),
        ("add(embedding, L0.mixer)", "add(embedding)", "takes 2 inputs, got 1"),
        ("@embedding", "@embeding", "parameters of `embeding`, which is no node"),
        ("output logits = lm_head", "output logits = head", "output `logits` is `head`"),
        ("{activation=relu2}", "{activation=relu2} formats(up=fp8)", "format of `up`, which is no parameter"),
        ("{activation=relu2}", "{activation=relu2} formats(up_proj=fp9)", "unknown format `fp9`"),
        (
            "L0.norm = rms_norm(embedding)\n  L0.mixer = mlp(L0.norm)",
            "L0.norm = rms_norm(embedding)\n  L0.mixer = mlp(L0.norm) {d_model=L0.mixer.d_ff}",
            "layers.0.mixer (mlp L0.mixer): input 0 (`L0.norm`) is over d_model[8], expected L0.mixer.d_ff[12]",
        ),
    ],
)
def test_verification_names_op_scope_and_both_dims(old: str, new: str, message: str) -> None:
    text = SMALL.replace(old, new).replace("} {", ", ")
    with pytest.raises(GraphError) as caught:
        verify(parse_graph(text))
    assert message in str(caught.value)


def test_one_error_lists_every_problem() -> None:
    text = SMALL.replace("@embedding", "@nobody").replace("output logits = lm_head", "output logits = nothing")
    with pytest.raises(ArchcError) as caught:
        verify(parse_graph(text))
    assert "nobody" in str(caught.value) and "nothing" in str(caught.value)


def test_find_a_graph_with_shared_mtp_blocks() -> None:
    graph = find(graphs(), lambda g: any(n.id.endswith("x2.mixer") for n in g.nodes))
    assert graph.scope("M0x2.mixer") == "mtp.layers.0.mixer"


@pytest.mark.nightly
@given(graphs())
@settings(max_examples=5000, deadline=None)
def test_round_trip_of_many(graph: Graph) -> None:
    assert parse_graph(print_graph(graph)) == graph
