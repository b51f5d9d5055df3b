"""Losses on states inside the teacher: hidden states of what was kept, adapters, blocks on the parent's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import archc
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.selection import keep
from archc.ir.slicing import select
from archc.ir.weight_expr import Affine, Cast
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError
from archc.train.losses import Losses, Setting
from archc.train.losses.block_kd import BlockKD
from archc.train.losses.hidden_kd import HiddenKD
from archc.train.losses.kept import Kept, kept
from archc.train.losses.load_balance import LoadBalance
from archc.train.losses.logit_kd import LogitKD
from archc.train.losses.measures import MEASURES
from archc.train.losses.mtp import MTP
from archc.train.losses.next_token import NextToken
from archc.train.teachers import LiveTeacher
from tests.train.losses_kit import batch_of, gradients, graph_of, mean, model_of

UNITS = [7, 2, 3, 11, 0, 5, 8, 1]  # of 12, in another order


@pytest.fixture(scope="module")
def parent() -> Graph:
    return graph_of("M*E-M-", name="parent")


@pytest.fixture(scope="module")
def weights(parent: Graph) -> dict[str, Tensor]:
    return init_weights(parent, seed=5, dtype=torch.float64)


def cut(parent: Graph, units: list[int], layers: str = "") -> tuple[Graph, WeightMap]:
    """The parent without some layers, and with these units of its residual stream."""
    shorter, first = archc.apply(parent, f"drop-layers{{layers=({layers})}}")
    narrower, second = select(shorter, [keep(shorter.dims["d_model"], units)])
    return narrower, WeightMap.compose(first, second, parent.weight_shapes())


def taught_by(parent: Graph, weights: Mapping[str, Tensor], weight_map: WeightMap | None = None) -> LiveTeacher:
    return LiveTeacher(parent, model_of(parent, weights), weight_map=weight_map)


# -- what was kept -----------------------------------------------------------------------------------------------------


def test_the_weight_map_tells_what_was_kept(parent: Graph, weights: dict[str, Tensor]) -> None:
    student, made = cut(parent, UNITS, "1, 4")
    assert kept(student, taught_by(parent, weights, made)) == Kept({0: 0, 1: 2, 2: 3, 3: 5}, tuple(UNITS))


def test_a_map_in_another_storage_type_tells_the_same(parent: Graph, weights: dict[str, Tensor]) -> None:
    student, made = cut(parent, UNITS)
    stored = WeightMap({name: Cast(expr, "bf16") for name, expr in made.params.items()})
    assert kept(student, taught_by(parent, weights, stored)).stream == tuple(UNITS)


def test_units_that_were_changed_do_not_count_as_kept(parent: Graph, weights: dict[str, Tensor]) -> None:
    student, made = cut(parent, UNITS)
    changed = WeightMap({name: Affine(expr, 2.0) for name, expr in made.params.items()})
    assert kept(student, taught_by(parent, weights, changed)).stream is None


def test_without_a_map_ids_tell_where_there_is_a_common_ancestor(parent: Graph, weights: dict[str, Tensor]) -> None:
    shorter, _ = archc.apply(parent, "drop-layers{layers=(0, 2)}")
    teacher = taught_by(parent, weights)
    assert kept(shorter, teacher) == Kept({0: 1, 1: 3, 2: 4, 3: 5}, tuple(range(12)))
    assert kept(replace(shorter, lineage=()), teacher) == Kept({}, None)


# -- hidden states -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", list(MEASURES))
def test_kept_units_are_matched_directly(parent: Graph, weights: dict[str, Tensor], measure: Any) -> None:
    student, made = cut(parent, UNITS, "1, 4")
    model, teacher, batch = model_of(student, made.apply(weights)), taught_by(parent, weights, made), batch_of()
    setting = Setting(student, {"parent": teacher})
    value = mean(HiddenKD(measure=measure), model, batch, setting)

    _, ours = model.hidden(batch.tokens, batch.segments, [f"layers.{i}" for i in range(4)])
    _, theirs = teacher.model.hidden(batch.tokens, batch.segments, [f"layers.{i}" for i in (0, 2, 3, 5)])
    distances = []
    for i, j in {0: 0, 1: 2, 2: 3, 3: 5}.items():
        s, t = ours[f"layers.{i}"], theirs[f"layers.{j}"][..., UNITS].detach()
        distances.append(
            {
                "mse": lambda s, t: (s - t) ** 2,
                "relative_mse": lambda s, t: ((s - t).norm(dim=-1) / t.norm(dim=-1)) ** 2,
                "cosine": lambda s, t: 1 - (s * t).sum(-1) / s.norm(dim=-1) / t.norm(dim=-1),
            }[measure](s, t).mean()
        )
    expected = torch.stack(distances).mean()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    reached, wanted = gradients(value, model), gradients(expected, model)
    for name in reached.keys() | wanted.keys():
        torch.testing.assert_close(reached[name], wanted[name], rtol=1e-9, atol=1e-13)
    losses = Losses([HiddenKD()], setting)
    assert not list(losses.modules.parameters()) and not losses.modules.state_dict()


def test_a_permuted_teacher_is_matched_exactly(parent: Graph, weights: dict[str, Tensor]) -> None:
    student, made = cut(parent, [*UNITS, 4, 6, 9, 10])
    setting = Setting(student, {"parent": taught_by(parent, weights, made)})
    model = model_of(student, made.apply(weights))
    assert mean(HiddenKD(), model, batch_of(), setting) < 1e-25
    assert mean(HiddenKD(), model_of(student, seed=9), batch_of(), setting) > 1e-2


def test_told_are_the_distances_of_each_pair(parent: Graph, weights: dict[str, Tensor]) -> None:
    student, made = cut(parent, UNITS, "1, 4")
    losses = Losses([HiddenKD()], Setting(student, {"parent": taught_by(parent, weights, made)}))
    told = losses(model_of(student, made.apply(weights)), batch_of()).told()
    each = [told[f"hidden_kd/layers.{i}"][0] for i in range(4)]
    torch.testing.assert_close(told["hidden_kd"][0], torch.stack(each).mean())


def test_a_stranger_learns_adapters(parent: Graph, weights: dict[str, Tensor]) -> None:
    student = graph_of("*-", d_model=6)
    setting = Setting(student, {"parent": taught_by(parent, weights)})
    losses = Losses([HiddenKD(taps={"layers.0": "layers.1", "norm": "norm"})], setting)
    losses.modules.double()
    shapes = {name: tuple(p.shape) for name, p in losses.modules.named_parameters()}
    assert shapes == {"hidden_kd.adapters.0.weight": (12, 6), "hidden_kd.adapters.1.weight": (12, 6)}

    model, batch = model_of(student), batch_of()
    optimizer = torch.optim.Adam([*model.parameters(), *losses.modules.parameters()], lr=0.01)
    values = []
    for _ in range(60):
        value = losses(model, batch).objective(losses.counts(batch))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


def test_what_does_not_fit_is_told(parent: Graph, weights: dict[str, Tensor]) -> None:
    setting = Setting(graph_of("*-"), {"parent": taught_by(parent, weights)})
    with pytest.raises(ArchcError, match="which layers of student and parent stand for one another: name them in `tap"):
        Losses([HiddenKD()], setting)
    with pytest.raises(ArchcError, match=r"student has no module `layers\.2`: there are embedding, norm, layers\.N"):
        Losses([HiddenKD(taps={"layers.2": "layers.1"})], setting)
    with pytest.raises(ArchcError, match=r"parent has no module `layers\.6`"):
        Losses([HiddenKD(taps={"layers.0": "layers.6"})], setting)


# -- blocks ------------------------------------------------------------------------------------------------------------


def test_blocks_learn_on_the_parents_input(parent: Graph, weights: dict[str, Tensor]) -> None:
    """Another kind (attention for Mamba-2) and a narrower MLP, against the formula; no pass of the student."""
    student = graph_of("*-")
    teacher, batch = taught_by(parent, weights), batch_of()
    model = model_of(student)
    model.hidden = None  # nothing asks for a pass of the student
    passes = []
    teacher.model.register_forward_hook(lambda *_: passes.append(1))
    teacher.model.embedding.register_forward_hook(lambda *_: passes.append(1))
    setting = Setting(student, {"parent": teacher})
    kd = BlockKD(blocks={"layers.0": "layers.0", "layers.1": "layers.3"})
    value = mean(kd, model, batch, setting)
    assert len(passes) == 1

    taps = ["embedding", "layers.0", "layers.2", "layers.3"]
    _, theirs = teacher.model.hidden(batch.tokens, batch.segments, taps)
    distances = []
    for block, before, after in ((0, "embedding", "layers.0"), (1, "layers.2", "layers.3")):
        x, y = theirs[before].detach(), theirs[after].detach()
        off = model.layers[block](x, batch.segments) - y
        distances.append((off.norm(dim=-1) / (y - x).norm(dim=-1)).square().mean())
    expected = torch.stack(distances).mean()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    reached, wanted = gradients(value, model), gradients(expected, model)
    assert {name.split(".")[0] for name in reached} == {"layers"}
    for name in reached.keys() | wanted.keys():
        torch.testing.assert_close(reached[name], wanted[name], rtol=1e-9, atol=1e-13)


def test_blocks_learn_apart(parent: Graph, weights: dict[str, Tensor]) -> None:
    """What one block computes changes no other's distance, and equal blocks have none."""
    shorter, made = archc.apply(parent, "drop-layers{layers=(1, 4)}")
    model, batch = model_of(shorter, made.apply(weights)), batch_of()
    losses = Losses([BlockKD()], Setting(shorter, {"parent": taught_by(parent, weights)}))
    with torch.no_grad():
        model.layers[1].norm.weight.mul_(1.5)
    told = losses(model, batch).told()
    distances = {name: float(total) for name, (total, _) in told.items() if "/" in name}
    assert distances.pop("block_kd/layers.1") > 1e-3
    assert len(distances) == 3 and max(distances.values()) < 1e-20


def test_one_block_learns_what_the_parents_does(parent: Graph, weights: dict[str, Tensor]) -> None:
    student = graph_of("-")
    setting = Setting(student, {"parent": taught_by(parent, weights)})
    losses, model, batch = Losses([BlockKD(blocks={"layers.0": "layers.5"})], setting), model_of(student), batch_of()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    values = []
    for _ in range(80):
        value = losses(model, batch).objective(losses.counts(batch))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.3 * values[0]


def test_blocks_that_do_not_fit_are_told(parent: Graph, weights: dict[str, Tensor]) -> None:
    teacher = taught_by(parent, weights)
    with pytest.raises(ArchcError, match="student has d_model 8, `parent` 12"):
        Losses([BlockKD(blocks={"layers.0": "layers.0"})], Setting(graph_of("*", d_model=8), {"parent": teacher}))
    with pytest.raises(ArchcError, match=r"`blocks` names blocks such as layers\.1: got `norm`"):
        Losses([BlockKD(blocks={"norm": "layers.0"})], Setting(graph_of("*"), {"parent": teacher}))


# -- precision ---------------------------------------------------------------------------------------------------------


def test_a_narrow_student_and_teacher(parent: Graph, weights: dict[str, Tensor]) -> None:
    """bf16 models: every loss is computed in fp32 from what they say, and its gradients are theirs."""
    student = graph_of("M*E-", mtp=1)
    teacher = taught_by(parent, weights)
    teacher.model.bfloat16()
    taps = {"layers.0": "layers.0", "norm": "norm"}
    kinds = [
        NextToken(),
        MTP(),
        LogitKD(),
        HiddenKD(taps=taps),
        BlockKD(blocks={"layers.1": "layers.1"}),
        LoadBalance(),
    ]
    losses = Losses(kinds, Setting(student, {"parent": teacher}))
    losses.modules.bfloat16()
    model, batch = model_of(student).bfloat16(), batch_of()
    values = losses(model, batch)
    assert {value.total.dtype for value in values.by_label.values()} == {torch.float32}
    values.objective(losses.counts(batch)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad is not None for p in losses.modules.parameters())
