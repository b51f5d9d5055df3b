"""Pipelines: text, what is checked before and between passes."""

from collections.abc import Iterator

import pytest

from archc.ir.graph import Graph
from archc.ir.slicing import carried
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ParseError, PassError, Place, SpecError, SpecErrors, UnknownName, WeightError
from archc.passes import Context, Pass, Pipeline, apply, base, pass_class, register_pass
from archc.resolve import load


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Passes that a test registers are gone after it."""
    monkeypatch.setattr(base, "_PASSES", dict(base._PASSES))
    yield


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("drop-layer", 1, "unknown pass `drop-layer`: did you mean `drop-layers`?"),
        ("drop-layers", 1, "`drop-layers` needs `layers`"),
        ("drop-layers{layer=(1)}", 13, "unknown field `layer`: did you mean `layers`?"),
        ("drop-layers{layers=1}", 13, "`layers`: input should be a valid tuple, got 1"),
        ("drop-layers{layers=(1, x)}", 13, "`layers`: input should be a valid integer, got 'x'"),
        ("drop-layers{layers=(1)} drop-layers", 25, "expected `;`, got `drop-layers`"),
    ],
)
def test_text_errors_point_at_the_place(text: str, column: int, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        Pipeline.parse("# a comment\n" + text, file="p.txt")
    assert (caught.value.at.line, caught.value.at.column) == (2, column)
    assert str(caught.value).startswith(f"p.txt:2:{column}: {message}")


def test_a_pass_that_does_not_apply_is_named_where_its_text_stands() -> None:
    pipeline = Pipeline.parse("drop-layers{layers=(0)}; drop-layers{layers=(99)}", file="p.txt")
    with pytest.raises(SpecError, match=r"drop-layers\{layers=\(99\)\}: .* got 99") as caught:
        list(pipeline.steps(load("tiny-dense")))
    assert (caught.value.at.line, caught.value.at.column) == (1, 26)


def test_text_parses_back() -> None:
    pipeline = Pipeline.parse("drop-layers{layers=(3, 5)}; drop-layers{layers=(0)}\n\n# then\ndrop-layers{layers=()}")
    assert len(pipeline.passes) == 3
    assert Pipeline.parse(str(pipeline)) == pipeline


@pytest.mark.usefixtures("registry")
def test_what_a_pass_requires_must_hold() -> None:
    @register_pass("score-it")
    class ScoreIt(Pass):
        """Provides scores."""

        provides = frozenset({"scores"})

        def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
            return graph, carried(graph, graph)

    @register_pass("use-scores")
    class UseScores(Pass):
        """Needs scores, and uses them up."""

        requires, breaks = frozenset({"scores"}), frozenset({"scores"})

        def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
            assert "scores" in ctx.holds
            return graph, carried(graph, graph)

    graph = load("tiny-hybrid")
    assert apply(graph, "score-it; use-scores")[0] == graph
    assert apply(graph, "use-scores", Context(frozenset({"scores"})))[0] == graph
    with pytest.raises(
        PassError, match=r"`use-scores` requires `scores`, which does not hold there: score-it provides"
    ):
        apply(graph, "score-it; use-scores; use-scores")
    # Where passes stand in a file, each error is at its own.
    passes = Pipeline.parse("use-scores; score-it; use-scores; use-scores").passes
    with pytest.raises(SpecErrors) as raised:
        apply(graph, Pipeline(passes, tuple(Place("recipe.yaml", line, 5) for line in range(3, 7))))
    assert [e.at.line for e in raised.value.errors] == [3, 6]


@pytest.mark.usefixtures("registry")
def test_a_map_that_loses_a_weight_or_misfits_is_an_error() -> None:
    @register_pass("forgetful")
    class Forgetful(Pass):
        """Forgets a weight."""

        lists_it: bool = False

        def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
            kept = {k: e for k, e in carried(graph, graph).params.items() if k != "lm_head.weight"}
            return graph, WeightMap(kept, frozenset({"lm_head.weight"} if self.lists_it else ()))

    graph = load("tiny-dense")
    with pytest.raises(WeightError, match=r"neither used nor dropped: `lm_head.weight`"):
        apply(graph, "forgetful")
    with pytest.raises(PassError, match=r"forgetful\{lists_it=true\}: the weight map does not fit .*`lm_head.weight`"):
        apply(graph, "forgetful{lists_it=true}")


@pytest.mark.usefixtures("registry")
def test_registering_twice_or_under_a_strange_name_is_an_error() -> None:
    with pytest.raises(PassError, match="registered twice"):
        register_pass("drop-layers")(type("Other", (Pass,), {}))
    with pytest.raises(PassError, match="kebab-case"):
        register_pass("Drop_Layers")(type("Other", (Pass,), {}))


def test_unknown_pass_suggests() -> None:
    with pytest.raises(UnknownName, match="did you mean `drop-layers`"):
        pass_class("drop-layes")


def test_another_type_is_refused_by_name() -> None:
    graph = load("tiny-dense")
    with pytest.raises(PassError, match=r"got Graph and int"):
        apply(graph, 5)  # type: ignore[arg-type]
    with pytest.raises(PassError, match=r"got NoneType and Pipeline"):
        apply(None, "drop-layers{layers=(1)}")  # type: ignore[arg-type]
