"""What holds of every loss: registered once, found by name, options in the recipe's terms, sums that add up."""

from __future__ import annotations

import pytest
import torch

from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError, UnknownName
from archc.resolve import load
from archc.train.losses import Loss, Losses, Needs, Setting, TeacherNeeds, loss, loss_class, registered_losses
from archc.train.losses.base import options
from archc.train.losses.combined import labels
from archc.train.losses.next_token import NextToken


@pytest.fixture(scope="module")
def hybrid() -> Graph:
    return load("tiny-hybrid")


def test_names_are_taken_once_and_misspellings_are_told() -> None:
    with pytest.raises(ArchcError, match=r"`next_token` is registered twice: archc\.train\.losses\.next_token and"):

        @loss("next_token")
        class Again(Loss):
            pass

    with pytest.raises(ArchcError, match=r"a loss has a name such as `next_token`: got `Next Token`"):
        loss("Next Token")(Loss)
    with pytest.raises(UnknownName, match=r"unknown loss `next_tokens`: did you mean `next_token`\?"):
        loss_class("next_tokens")
    assert loss_class("next_token") is NextToken


@pytest.mark.parametrize("cls", registered_losses(), ids=lambda cls: cls.name)
def test_every_loss_has_a_weight_and_says_what_it_is(cls: type[Loss]) -> None:
    assert "weight" in options(cls)
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")


def test_needs_add_up() -> None:
    one = Needs(frozenset({"layers.0"}), {"big": TeacherNeeds(frozenset({1.0}))})
    two = Needs(
        frozenset({"norm"}), {"big": TeacherNeeds(hidden=True), "small": TeacherNeeds(taps=frozenset({"norm"}))}
    )
    both = one | two
    assert both.taps == {"layers.0", "norm"}
    assert both.teachers["big"] == TeacherNeeds(frozenset({1.0}), hidden=True)
    assert both.teachers["small"].taps == {"norm"}


def test_a_teacher_is_named_or_the_only_one(hybrid: Graph) -> None:
    with pytest.raises(ArchcError, match="needs a teacher: none given"):
        Setting(hybrid).teacher("")
    teachers = {"big": object(), "small": object()}
    setting = Setting(hybrid, teachers)  # type: ignore[arg-type]
    with pytest.raises(ArchcError, match="`teacher` must name one of big, small"):
        setting.teacher("")
    with pytest.raises(UnknownName, match="unknown teacher `bog`: did you mean `big`"):
        setting.teacher("bog")
    assert setting.teacher("small") == ("small", teachers["small"])


def test_two_of_a_kind_have_labels_of_their_own(hybrid: Graph) -> None:
    made = [NextToken(), NextToken(weight=0.5)]
    assert labels(made) == ["next_token", "next_token_2"]
    assert len(Losses(made, Setting(hybrid)).modules) == 0
    assert torch.nn.ModuleDict({label: torch.nn.Identity() for label in labels(made)})
