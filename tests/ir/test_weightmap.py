"""Laws of the WeightMap algebra, over random expressions: every value compared exactly."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.ir import weight_expr as w
from archc.ir.weight_eval import TORCH_DTYPES, evaluate, reader
from archc.ir.weight_formats import Shape, packing
from archc.ir.weight_index import Index
from archc.ir.weight_json import from_json, to_json
from archc.ir.weight_normal import normalise
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, WeightError

SIZES = st.integers(1, 4)
SHAPES = st.lists(SIZES, min_size=1, max_size=3).map(tuple)


def factorisations(n: int) -> list[Shape]:
    """Shapes of 1 to 3 axes with n elements."""
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    pairs = [(a, n // a) for a in divisors]
    return [(n,), *pairs, *((a, b, n // a // b) for a in divisors for b in divisors if n % (a * b) == 0)]


@st.composite
def expressions(draw: st.DrawFn, olds: dict[str, Shape], depth: int = 4) -> w.WeightExpr:
    """A random expression over `olds`; values are small integers, so that fp32 arithmetic is exact."""
    x: w.WeightExpr = w.Old(draw(st.sampled_from(sorted(olds))))
    if draw(st.integers(0, 9)) == 0:
        x = w.Const(draw(st.integers(-3, 3)), draw(SHAPES), "fp32")
    for _ in range(draw(st.integers(0, depth))):
        x = draw(grown(x, olds))
    return x


@st.composite
def grown(draw: st.DrawFn, x: w.WeightExpr, olds: dict[str, Shape]) -> w.WeightExpr:
    """`x` under one more node."""
    shape = w.shape(x, olds)
    axis = draw(st.integers(0, len(shape) - 1))
    rest = ["transpose", "reshape", "reshape", "concat", "stack", "linear", "affine", "scale"]
    kind = draw(st.sampled_from(["take"] * 4 + rest))
    if kind == "take":
        positions = st.integers(0, shape[axis] - 1)
        return w.Take(x, axis, draw(st.lists(positions, min_size=1, max_size=6) | st.permutations(range(shape[axis]))))
    if kind == "transpose":
        return w.Transpose(x, tuple(draw(st.permutations(range(len(shape))))))
    if kind == "reshape":
        return w.Reshape(x, draw(st.sampled_from(factorisations(int(np.prod(shape))))))
    if kind == "affine":
        return w.Affine(x, draw(st.sampled_from([1.0, -1.0, 2.0])), draw(st.sampled_from([0.0, 1.0])))
    if kind == "scale":
        name = draw(st.sampled_from(sorted(olds)))
        count = int(np.prod(olds[name]))
        positions = draw(st.lists(st.integers(0, count - 1), min_size=shape[axis], max_size=shape[axis]))
        return w.Scale(x, w.Take(w.Reshape(w.Old(name), (count,)), 0, positions), axis)
    twins = [x]
    for _ in range(draw(st.integers(0, 2))):
        take = st.permutations(range(shape[axis]))
        twins.append(draw(st.sampled_from([x, w.Const(7, shape, "fp32"), w.Take(x, axis, draw(take))])))
    parts = tuple(draw(st.permutations(twins)))
    if kind == "concat":
        return w.Concat(parts, axis)
    if kind == "stack":
        return x if len(shape) == 3 else w.Stack(parts, draw(st.integers(0, len(shape))))
    return w.Linear(parts, tuple(draw(st.sampled_from([1.0, -1.0, 0.5])) for _ in parts))


@st.composite
def old_shapes(draw: st.DrawFn) -> dict[str, Shape]:
    return {name: draw(SHAPES) for name in "abc"[: draw(st.integers(1, 3))]}


@st.composite
def maps(draw: st.DrawFn, olds: dict[str, Shape], prefix: str) -> WeightMap:
    params = {f"{prefix}{i}": draw(expressions(olds)) for i in range(draw(st.integers(1, 3)))}
    used = frozenset().union(*(w.old_names(e) for e in params.values()))
    return WeightMap(params, frozenset(olds) - used)


def values(shapes: dict[str, Shape]) -> dict[str, torch.Tensor]:
    """Distinct small integers."""
    total, made = 0, {}
    for name, shape in shapes.items():
        n = int(np.prod(shape))
        made[name] = torch.arange(total, total + n, dtype=torch.float32).reshape(shape)
        total += n
    return made


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].shape == b[k].shape for k in a)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_normal_form_is_the_same_value(data: st.DataObject) -> None:
    olds = data.draw(old_shapes())
    expr = data.draw(expressions(olds, depth=6))
    expected = evaluate(expr, reader(values(olds)))
    for shapes in (olds, {}):
        normal = normalise(expr, shapes)
        assert w.shape(normal, olds) == w.shape(expr, olds) == tuple(expected.shape)
        assert torch.equal(evaluate(normal, reader(values(olds))), expected)
    assert normalise(normalise(expr, olds), olds) == normalise(expr, olds)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_composition_is_one_after_the_other_and_associative(data: st.DataObject) -> None:
    olds = data.draw(old_shapes())
    first = data.draw(maps(olds, "p"))
    second = data.draw(maps(first.shapes(olds), "q"))
    third = data.draw(maps(second.shapes(first.shapes(olds)), "r"))
    tensors = values(olds)
    stepwise = third.apply(second.apply(first.apply(tensors)))
    left = WeightMap.compose(WeightMap.compose(first, second, olds), third, olds)
    right = WeightMap.compose(first, WeightMap.compose(second, third, first.shapes(olds)), olds)
    assert same(left.apply(tensors), stepwise)
    assert same(right.apply(tensors), stepwise)
    assert left.used | left.dropped == right.used | right.dropped == set(olds)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_json_parses_back(data: st.DataObject) -> None:
    one = data.draw(maps(data.draw(old_shapes()), "p"))
    assert from_json(to_json(one)) == one
    assert to_json(from_json(to_json(one))) == to_json(one)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_reads_says_exactly_which_rows_evaluation_asks_for(data: st.DataObject) -> None:
    olds = data.draw(old_shapes())
    expr = normalise(data.draw(expressions(olds)), olds)
    seen: dict[str, set[int]] = {}

    def read(name: str, rows: Index | None = None) -> torch.Tensor:
        seen.setdefault(name, set()).update(range(olds[name][0]) if rows is None else rows)
        return reader(values(olds))(name, rows)

    evaluate(expr, read)
    told = {n: set(range(olds[n][0])) if rows is None else set(rows) for n, rows in w.reads(expr).items()}
    assert told == seen


def test_identity_is_neutral() -> None:
    olds = {"a": (4, 3), "b": (3,)}
    identity = WeightMap.identity(olds)
    one = WeightMap({"x": w.Take(w.Old("a"), 0, [2, 0])}, frozenset({"b"}))
    assert WeightMap.compose(identity, one, olds) == one == WeightMap.compose(one, WeightMap.identity(one.params), olds)


A = w.Old("a")


@pytest.mark.parametrize(
    ("expr", "normal"),
    [
        (w.Take(w.Take(A, 0, [4, 2, 0]), 0, [2, 1]), w.Take(A, 0, [0, 2])),
        (w.Take(w.Take(A, 1, [0]), 0, [1]), w.Take(w.Take(A, 0, [1]), 1, [0])),
        (w.Take(A, 0, range(6)), A),
        (w.Take(w.Transpose(A, (1, 0)), 1, [3]), w.Transpose(w.Take(A, 0, [3]), (1, 0))),
        (w.Transpose(w.Transpose(A, (1, 0)), (1, 0)), A),
        (w.Reshape(w.Reshape(A, (2, 3, 4)), (6, 4)), A),
        # six rows are two groups of three: keep rows 0 and 2 of each
        (w.Take(w.Reshape(A, (2, 3, 4)), 1, [0, 2]), w.Reshape(w.Take(A, 0, [0, 2, 3, 5]), (2, 2, 4))),
        (w.Take(w.Reshape(A, (24,)), 0, range(4, 12)), w.Reshape(w.Take(A, 0, [1, 2]), (8,))),
        (w.Take(w.Concat((A, w.Old("b")), 0), 0, [1, 7]), w.Concat((w.Take(A, 0, [1]), w.Take(w.Old("b"), 0, [1])), 0)),
        (w.Take(w.Concat((A, w.Old("b")), 0), 0, [1, 2]), w.Take(A, 0, [1, 2])),
        (w.Concat((w.Take(A, 0, [0, 1]), w.Take(A, 0, [2, 3, 4, 5])), 0), A),
        (w.Take(w.Stack((A, w.Old("b")), 0), 0, [1]), w.Reshape(w.Old("b"), (1, 6, 4))),
        (w.Take(w.Affine(w.Cast(A, "bf16"), 2.0), 1, [2]), w.Affine(w.Cast(w.Take(A, 1, [2]), "bf16"), 2.0)),
        (w.Take(w.Const(0.5, (6, 4), "fp32"), 0, [0]), w.Const(0.5, (1, 4), "fp32")),
        # a matrix product keeps its takes above: a smaller product may round otherwise
        (w.Take(w.MatMul(A, w.Old("m")), 0, [1]), w.Take(w.MatMul(A, w.Old("m")), 0, [1])),
    ],
    ids=str,
)
def test_normal_form(expr: w.WeightExpr, normal: w.WeightExpr) -> None:
    assert normalise(expr, {"a": (6, 4), "b": (6, 4), "m": (4, 2)}) == normal


def test_split_then_fused_again_is_the_parameter_itself() -> None:
    """gpt_oss interleaves gate and up rows; import takes them apart, export puts them together."""
    shapes = {"gate_up": (4, 10, 3)}
    old = w.Old("gate_up")
    taken_apart = WeightMap({"gate": w.Take(old, 1, range(0, 10, 2)), "up": w.Take(old, 1, range(1, 10, 2))})
    interleave = np.arange(10).reshape(2, 5).T.ravel()
    together = WeightMap({"gate_up": w.Take(w.Concat((w.Old("gate"), w.Old("up")), 1), 1, interleave)})
    assert WeightMap.compose(taken_apart, together, shapes) == WeightMap.identity(shapes)


def test_experts_stacked_transposed_and_taken_apart_again_are_themselves() -> None:
    shapes = {f"e{i}": (5, 3) for i in range(4)}
    fused = WeightMap({"down": w.Transpose(w.Stack(tuple(map(w.Old, shapes)), 0), (0, 2, 1))})
    one_by_one = WeightMap(
        {f"e{i}": w.Reshape(w.Take(w.Transpose(w.Old("down"), (0, 2, 1)), 0, [i]), (5, 3)) for i in range(4)}
    )
    assert WeightMap.compose(fused, one_by_one, shapes) == WeightMap.identity(shapes)


def test_different_rows_of_each_stacked_expert_are_read_from_each() -> None:
    shapes = {f"e{i}": (3, 2) for i in range(2)}
    stacked = WeightMap({"up": w.Stack((w.Old("e0"), w.Old("e1")), 0)})
    pruned = WeightMap({"up": w.Reshape(w.Take(w.Reshape(w.Old("up"), (6, 2)), 0, [0, 2, 5, 3]), (2, 2, 2))})
    taken = (w.Take(w.Old("e0"), 0, [0, 2]), w.Take(w.Old("e1"), 0, [2, 0]))
    assert WeightMap.compose(stacked, pruned, shapes).params == {"up": w.Stack(taken, 0)}


def test_dropping_experts_reads_only_those_kept() -> None:
    fused = WeightMap({"up": w.Stack(tuple(w.Old(f"e{i}") for i in range(4)), 0)})
    pruned = WeightMap({"up": w.Take(w.Old("up"), 0, [3, 1])})
    both = WeightMap.compose(fused, pruned)
    assert both.used == {"e3", "e1"}
    assert both.dropped == {"e0", "e2"}


def test_reads_of_a_pruned_expert_width_are_the_experts_and_rows_kept() -> None:
    """Different rows of each expert: through [experts * d_ff, d], as Selections expand them."""
    flat = [0, 2, 5, 4]  # experts of three rows: rows 0, 2 of the first and 2, 1 of the second
    expr = w.Reshape(w.Take(w.Reshape(w.Old("up"), (12, 2)), 0, flat), (2, 2, 2))
    assert w.reads(normalise(expr, {"up": (4, 3, 2)})) == {"up": Index([0, 1])}


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32", "fp8"])
def test_arithmetic_has_the_same_bits_before_and_after_a_take(dtype: str) -> None:
    """One rounding per element whatever its position: random values, and odd rows, where vector tails differ."""
    torch.manual_seed(0)
    tensors = {n: torch.randn(37, 13).to(TORCH_DTYPES[dtype]) for n in "ab"}
    mix = w.Linear((w.Old("a"), w.Old("b")), (0.3, 0.7))
    column = w.Reshape(w.Take(w.Old("b"), 1, [4]), (37,))
    for expr in (mix, w.Affine(mix, 1.7, -1.0), w.Cast(w.Affine(mix, 1.7, -0.1), "bf16"), w.Scale(mix, column, 0)):
        taken = w.Take(w.Take(expr, 0, [36, 3, 5]), 1, [12, 0, 7, 7])
        normal = normalise(taken, dict.fromkeys("ab", (37, 13)))
        plain, moved = (evaluate(e, reader(tensors)).view(torch.uint8) for e in (taken, normal))
        assert normal != taken
        assert torch.equal(plain, moved)


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_rearrangements_work_on_every_storage_type(dtype: str) -> None:
    size = torch.empty((), dtype=TORCH_DTYPES[dtype]).element_size()
    raw = torch.randint(0, 2 if dtype == "bool" else 256, (6, 4 * size), dtype=torch.uint8).view(TORCH_DTYPES[dtype])
    x = w.Old("x")
    corner = w.Take(w.Take(x, 1, [3, 1]), 0, [1, 1, 2, 4])
    expr = w.Stack((w.Concat((w.Take(x, 0, [5, 0]), w.Transpose(corner, (1, 0))), 0),), 1)
    value = evaluate(expr, reader({"x": raw}))
    assert value.dtype == raw.dtype
    assert list(value.shape) == [4, 1, 4]
    as_bytes = raw.contiguous().view(torch.uint8).reshape(6, 4, size)
    expected = torch.cat([as_bytes[[5, 0]], as_bytes[[1, 1, 2, 4]][:, [3, 1]].transpose(0, 1)])
    assert torch.equal(value.contiguous().view(torch.uint8).reshape(4, 4, size), expected)


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_constants_and_casts_reach_every_storage_type(dtype: str) -> None:
    for expr in (w.Const(1, (2, 3), dtype), w.Cast(w.Const(1, (2, 3), "fp32"), dtype)):
        value = evaluate(w.Take(w.Concat((expr, expr), 1), 1, [5, 0]), reader({}))
        assert value.dtype == TORCH_DTYPES[dtype]
        assert value.to(torch.complex64).tolist() == [[1, 1], [1, 1]]


# -- mxfp4 -------------------------------------------------------------------------------------------------------------


def every_mxfp4() -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks with every byte, under scales over the whole exponent range but the two that overflow bf16 or are NaN."""
    blocks = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(252, 1, 1)
    scales = torch.arange(252, dtype=torch.uint8)[:, None].repeat(1, 16)
    return blocks, scales


def test_mxfp4_agrees_with_transformers() -> None:
    convert = pytest.importorskip("transformers.integrations.mxfp4").convert_moe_packed_tensors
    blocks, scales = every_mxfp4()
    keep = slice(7, 245)  # transformers computes in bf16, whose 2^n loses what lies outside
    ours = evaluate(w.Dequantise((w.Old("b"), w.Old("s")), "mxfp4"), reader({"b": blocks[keep], "s": scales[keep]}))
    theirs = convert(blocks[keep][:, None], scales[keep][:, None])  # [n, 512, 1]
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, theirs[..., 0])


def test_mxfp4_values_survive_packing_again() -> None:
    blocks, scales = every_mxfp4()
    values = packing("mxfp4").unpack(blocks, scales)
    again = packing("mxfp4").pack(values)
    assert torch.equal(packing("mxfp4").unpack(again["blocks"], again["scales"]), values)


def test_mxfp4_rounds_to_nearest_even_and_saturates() -> None:
    row = torch.tensor([4.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.2, -0.3, 5.1, 7.9] + [0.0] * 20)
    packed = packing("mxfp4").pack(row)
    got = packing("mxfp4").unpack(packed["blocks"], packed["scales"])
    assert got.tolist()[:12] == [4.0, 0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, -0.0, -0.5, 6.0, 6.0]


def test_takes_move_through_packed_formats() -> None:
    shapes = {"b": (4, 3, 2, 16), "s": (4, 3, 2)}
    whole = w.Dequantise((w.Old("b"), w.Old("s")), "mxfp4")
    second_block = w.Take(w.Take(whole, 0, [2]), 2, range(32, 64))
    normal = normalise(second_block, shapes)
    assert w.reads(normal) == {"b": Index([2]), "s": Index([2])}
    torch.manual_seed(0)
    blocks = torch.randint(0, 256, shapes["b"], dtype=torch.uint8)
    tensors = {"b": blocks, "s": torch.full(shapes["s"], 120, dtype=torch.uint8)}
    assert torch.equal(evaluate(normal, reader(tensors)), evaluate(second_block, reader(tensors)))
    crooked = w.Take(whole, 2, range(1, 33))
    assert normalise(crooked, shapes) == crooked
    packed = w.Take(w.Quantise(w.Old("x"), "mxfp4", "scales"), 1, [1])
    assert normalise(packed, {"x": (5, 64)}) == w.Quantise(w.Take(w.Old("x"), 1, range(32, 64)), "mxfp4", "scales")


# -- errors ------------------------------------------------------------------------------------------------------------


def test_check_lists_everything_that_is_lost_or_unknown() -> None:
    one = WeightMap({"x": w.Old("a"), "y": w.Old("layers.1.upp")}, frozenset({"gone"}))
    with pytest.raises(WeightError) as e:
        one.check(["a", "b", "c", "layers.1.up"])
    assert str(e.value).splitlines() == [
        "the weight map does not fit:",
        "neither used nor dropped: `b`, `c`, `layers.1.up`",
        "no old parameter `gone`: known are a, b, c, layers.1.up",
        "no old parameter `layers.1.upp`: did you mean `layers.1.up`?",
    ]


def test_a_parameter_cannot_be_used_and_dropped() -> None:
    with pytest.raises(WeightError, match="both used and dropped: `a`"):
        WeightMap({"x": w.Old("a")}, frozenset({"a"}))


def test_composing_refuses_to_lose_a_parameter() -> None:
    with pytest.raises(WeightError, match="neither used nor dropped: `y`"):
        WeightMap.compose(WeightMap.identity("xy"), WeightMap.identity("x"))


def test_shapes_lists_every_parameter_that_does_not_fit() -> None:
    one = WeightMap({"x": w.Take(A, 0, [9]), "y": w.Concat((A, w.Old("b")), 0), "z": A, "u": w.Old("aa")})
    with pytest.raises(WeightError) as e:
        one.shapes({"a": (6, 4), "b": (6, 5)})
    assert str(e.value).splitlines() == [
        "`x`: take(a, 0, [9]): no position 9 on axis 0 of [6, 4]",
        "`y`: concat([a, b], 0): parts 0 and 1 differ in shape beside axis 0: [-1, 4] and [-1, 5]",
        "`u`: no old parameter `aa`: did you mean `a`?",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: w.Take(A, -1, [0]),
        lambda: w.Take(A, 0, [-1]),
        lambda: w.Take(A, 0, [0.5]),  # type: ignore[list-item]
        lambda: w.Transpose(A, (0, 2)),
        lambda: w.Reshape(A, (-1, 2)),
        lambda: w.Reshape(A, (2**40, 2**40)),
        lambda: w.Concat((), 0),
        lambda: w.Linear((A,), (1.0, 2.0)),
        lambda: w.Const(float("nan"), (1,), "fp32"),
        lambda: w.Cast(A, "float32"),
        lambda: w.Quantise(A, "mxfp5", "blocks"),
        lambda: w.Quantise(A, "mxfp4", "zeros"),
    ],
)  # fmt: skip
def test_malformed_expressions_are_refused_when_made(make: object) -> None:
    with pytest.raises(ArchcError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a weight map"),
        ("[]", "archc_weight_map"),
        ("[" * 100000, "not a weight map"),
        ('{"archc_weight_map": 1, "params": [], "dropped": [], "indices": []}', "`params`"),
        ('{"archc_weight_map": 1, "params": {}, "dropped": [1], "indices": []}', "`dropped`"),
        ('{"archc_weight_map": 1, "params": {}, "dropped": [], "indices": ["0:9e9"]}', "not an index"),
        ('{"archc_weight_map": 1, "params": {}, "dropped": [], "indices": ["0:99999999999"]}', "no tensor has room"),
    ],
    ids=["torn", "a list", "deep", "no params", "dropped", "no index", "a huge index"],
)
def test_what_is_no_map_is_a_weight_error(text: str, message: str) -> None:
    with pytest.raises(WeightError, match=message):
        from_json(text)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("3", "`x`: expected a name"),
        ('{"op": "tak"}', "did you mean `take`"),
        ('{"op": "take", "x": "a"}', "missing or unknown axis, index"),
        ('{"op": "take", "x": "a", "axis": true, "index": 0}', "take.axis is of type int"),
        ('{"op": "take", "x": "a", "axis": 0, "index": 1}', "take.index numbers one of the 1 indices"),
        ('{"op": "take", "x": "a", "axis": 0, "index": "0:2"}', "take.index numbers one of the 1 indices"),
        ('{"op": "const", "value": NaN, "shape": [1], "dtype": "fp32"}', "const.value"),
        ('{"op": "cast", "dtype": "fp32", "x": ' * 1500 + '"a"' + "}" * 1500, "not a weight map"),
    ],
    ids=lambda v: v[:40],
)
def test_hostile_expressions_are_a_weight_error(expr: str, message: str) -> None:
    with pytest.raises(WeightError, match=message):
        from_json(f'{{"archc_weight_map": 1, "params": {{"x": {expr}}}, "dropped": [], "indices": ["0"]}}')


@given(st.lists(st.integers(0, 9), max_size=12) | st.integers(0, 6).map(range))
def test_index_text_parses_back(positions: list[int]) -> None:
    index = Index(positions)
    assert Index.parse(str(index)) == index
    assert [p for run in index.runs() for p in run.positions()] == list(positions)


@given(
    st.lists(st.integers(0, 9), max_size=4) | st.tuples(st.integers(0, 9), st.integers(0, 5)).map(lambda r: range(*r))
)
def test_one_run_is_all_positions_or_none(positions: list[int]) -> None:
    index = Index(positions)
    steps = set(np.diff(positions).tolist())
    run = index.run()
    assert (run is None) == (len(steps) > 1)
    assert run is None or list(run.positions()) == list(positions)


def test_index_text_is_ranges() -> None:
    assert str(Index([*range(8), 12, *range(16, 32, 2), 3, 3, 3])) == "0:8,12,16:32:2,3*3"


def test_the_algebra_does_not_import_torch() -> None:
    code = "import sys, archc.ir.weightmap, archc.ir.weight_json; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_a_vector_along_an_axis_scales_it_and_keeps_the_storage_type() -> None:
    x, by = torch.randn(3, 4, 2, dtype=torch.bfloat16), torch.randn(4)
    made = evaluate(w.Scale(A, w.Old("by"), 1), reader({"a": x, "by": by}))
    assert (
        made.dtype == torch.bfloat16 == TORCH_DTYPES[w.dtype(w.Scale(A, w.Old("by"), 1), {"a": "bf16", "by": "fp32"})]
    )
    assert torch.equal(made, (x.float() * by[None, :, None]).bfloat16())
    with pytest.raises(WeightError, match=r"a vector of shape \[4\] along axis 0 of \[3, 4, 2\]"):
        w.shape(w.Scale(A, w.Old("by"), 0), {"a": (3, 4, 2), "by": (4,)})
