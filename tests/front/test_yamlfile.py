"""Reading YAML: places of everything, and every error of a file at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from archc.kernels.errors import SpecErrors
from archc.yamlfile import load_model, load_yaml


class Scaling(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["llama3", "yarn"]
    factor: float = Field(gt=0)


class Layer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    n_heads: int = Field(description="number of query heads", gt=0)
    scaling: Literal["none"] | Scaling = "none"

    @field_validator("n_heads")
    @classmethod
    def _even(cls, n: int) -> int:
        if n % 2:
            raise ValueError(f"expected an even number of heads, got {n}")
        return n


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    layers: list[Layer] = []
    by_name: dict[str, Layer] = {}


def errors_of(text: str | Path, model: type[BaseModel] = Model) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        load_model(text, model, file=None if isinstance(text, Path) else "m.yaml")
    return [str(error) for error in caught.value.errors]


def test_a_file_is_read_into_its_model(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("name: a\nlayers:\n  - {n_heads: 2, scaling: {kind: yarn, factor: 4}}\n")
    assert load_model(file, Model).layers == [Layer(n_heads=2, scaling=Scaling(kind="yarn", factor=4.0))]


def test_every_error_of_a_file_is_reported_in_order_with_its_place() -> None:
    text = """\
nam: a
layers:
  - {n_heads: -2}
  - {n_heads: many, scaling: {kind: yarm, factor: 0}}
by_name:
  x: {heads: 2}
nam: b
"""
    found = errors_of(text)
    assert [error.splitlines()[0] for error in found] == [
        "m.yaml:1:1: unknown field `nam`: did you mean `name`?",
        "m.yaml:3:15: `n_heads`: expected a number greater than 0, got `-2`",
        "m.yaml:4:15: `n_heads`: expected an integer, got `many`",
        "m.yaml:4:37: `kind`: expected `llama3` or `yarn`, got `yarm`",
        "m.yaml:4:51: `factor`: expected a number greater than 0, got `0`",
        "m.yaml:6:7: unknown field `heads`: did you mean `n_heads`?",
        "m.yaml:7:1: duplicate key `nam`",
    ]
    assert found[3].splitlines()[1:] == [
        "      - {n_heads: many, scaling: {kind: yarm, factor: 0}}",
        "                                        ^ did you mean `yarn`?",
    ]


def test_a_missing_field_stands_at_the_mapping_that_lacks_it_and_says_what_it_is() -> None:
    assert errors_of("name: a\nby_name:\n  first: {}\n") == [
        "m.yaml:3:3: missing field `n_heads`\n      first: {}\n      ^ number of query heads"
    ]


def test_the_words_of_a_validator_follow_the_name_of_its_field() -> None:
    (error,) = errors_of("name: a\nlayers: [{n_heads: 3}]\n")
    assert error.startswith("m.yaml:2:20: `n_heads`: expected an even number of heads, got 3\n")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{kind: yarn, factr: 2}", "2:45: unknown field `factr`: did you mean `factor`?"),
        ("{kind: yarn}", "2:23: missing field `factor`"),
        ("off", "2:32: `scaling`: expected `none` or a mapping, got `off`"),
    ],
)
def test_a_union_reports_the_branch_that_fits(value: str, message: str) -> None:
    (error,) = errors_of(f"name: a\nlayers: [{{n_heads: 2, scaling: {value}}}]\n")
    assert error.splitlines()[0] == f"m.yaml:{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.yaml:1:1: the file is empty: expected `field: value` lines"),
        ("# nothing\n", "m.yaml:1:1: the file is empty: expected `field: value` lines"),
        ("a: 1\n\tb: 2\n", "m.yaml:2:1: a tab cannot indent YAML"),
        ("a: [1, 2\nb: 3\n", "m.yaml:2:2: not valid YAML: expected ',' or ']', but got ':'"),
        ("a: b: c\n", "m.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: *\n", "m.yaml:1:5: not valid YAML: expected alphabetic or numeric character, but found '\\n'"),
        ("a: 1\n---\nb: 2\n", "m.yaml:2:1: a second document begins here: expected one\n    ---\n    ^ remove it"),
        ("name: \x07\n", "m.yaml:1:7: character U+0007 is not allowed in YAML"),
        ("? [a]\n: 1\n", "m.yaml:1:3: a key must be a word, got a list or mapping"),
        ("name: !!python/object:os.system x\n", "m.yaml:1:7: tag `tag:yaml.org,2002:python/object:os.system`"),
        ("name: &a [*a]\n", "m.yaml:1:7: nested too deeply: at most 64 levels"),
        ("name: [\n" + "[" * 5000, "m.yaml:2:63: nested too deeply: at most 64 levels"),
        ("- " * 5000, "m.yaml:1:129: nested too deeply: at most 64 levels"),
        ("{a: " * 5000 + "1" + "}" * 5000, "m.yaml:1:257: nested too deeply: at most 64 levels"),
        ("just words\n", "m.yaml:1:1: expected a mapping, got `just words`"),
        (f"name: {'9' * 5000}\n", "m.yaml:1:7: expected a value of type int, got `9999"),
        (f"name: 0x{'f' * 5000}\n", "m.yaml:1:7: expected a value of type int, got `0xff"),
        ("name: !!int\n", "m.yaml:1:7: expected a value of type int, got ``"),
        ("name: !!bool x\n", "m.yaml:1:7: expected a value of type bool, got `x`"),
    ],
)
def test_what_is_not_a_spec_is_one_clear_error(text: str, message: str) -> None:
    assert any(error.startswith(message) for error in errors_of(text))


def test_levels_up_to_the_limit_are_read() -> None:
    assert load_yaml("[" * 64 + "]" * 64).data
    assert load_yaml("".join(" " * i + "a:\n" for i in range(64))).data


@pytest.mark.parametrize("text", ["<<: {name: a}\n", "layers:\n  - &a {n_heads: 2}\n  - {<<: *a}\n"])
def test_merge_keys_are_refused_before_anything_else(text: str) -> None:
    (error,) = errors_of(text)
    head, line, caret = error.splitlines()
    assert head.endswith(": a merge key `<<` is not supported: write the fields out")
    assert line[caret.index("^") :].startswith("<<")


def test_a_field_without_a_value_stands_at_its_key() -> None:
    assert errors_of("name:\n\n# nothing\nlayers: [{n_heads: }, ]\n") == [
        "m.yaml:1:1: `name`: expected text, got nothing\n    name:\n    ^",
        "m.yaml:4:11: `n_heads`: expected an integer, got nothing\n    layers: [{n_heads: }, ]\n              ^",
    ]
    (error,) = errors_of("name: a\nlayers:\n  -\n\n")
    assert error.startswith("m.yaml:3:")


def test_what_a_file_says_is_shown_on_one_line_and_short() -> None:
    long = "a" * 100_000
    for text in (
        f"name: a\n{long}: 1\n",
        f"name: a\nby_name: {{x: {{n_heads: {long}}}}}\n",
        f"name: a\nby_name: {{{long}: {{n_heads: {long}}}}}\n",
        f"name: a\nby_name: {{{long}: {{n_heads: 3}}}}\n",
        f"name: a\nlayers: [{{n_heads: 2, scaling: {{kind: {long}, factor: 1}}}}]\n",
        f"name: a\nname: *{long}\n",
        f"{long}: 1\n{long}: 2\n",
        f"name: !{long} 3\n",
        f"name: {long} : {long}\n",
        f'name: "a\\nb"\nlayers: [{{n_heads: "a\\nb\\e[31m{long}"}}]\n',
    ):
        for error in errors_of(text):
            assert len(error) < 500 and error.count("\n") <= 2 and "\x1b" not in error, error


def test_infinity_and_no_number_are_shown_as_yaml_writes_them() -> None:
    for written in (".inf", "-.inf", ".nan"):
        (error,) = errors_of(f"name: {written}\n")
        assert f"expected text, got `{written}`" in error


def test_aliases_that_blow_up_are_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    assert "too many values" in errors_of(bomb)[0]


def test_bytes_that_are_not_utf8_are_placed(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_bytes(b"name: a\nb: \xff\n")
    assert errors_of(file) == [f"{file}:2:4: expected UTF-8 text, got byte 0xff (save the file as UTF-8)"]


def test_a_file_that_is_not_there_is_an_error_of_the_file(tmp_path: Path) -> None:
    assert "cannot read the file: No such file" in errors_of(tmp_path / "none.yaml")[0]


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert load_model(file, Model).name == "a"


def test_many_places_in_one_long_text_are_found_in_one_go() -> None:
    node = load_yaml(f"text: {'M ' * 20_000}\n", file="m.yaml").find(("text",))
    assert [node.inside(2 * i).column for i in range(20_000)] == [7 + 2 * i for i in range(20_000)]


def test_yaml_1_2_words_and_numbers() -> None:
    node = load_yaml("on: yes\nfloat: 1e-5\nint: 010\nday: 2026-01-01\nempty:\n1: one\n")
    assert node.data == {"on": "yes", "float": 1e-5, "int": 10, "day": "2026-01-01", "empty": None, "1": "one"}


def test_places_of_values_and_of_characters_inside_them() -> None:
    node = load_yaml("a: [x, {b: 'M-M*'}]\nfold: >\n  M-M\n  -*\n", file="m.yaml")
    assert str(node.place(("a", 1, "b"))) == "m.yaml:1:12"
    assert str(node.place(("a", 1, "missing"))) == "m.yaml:1:8"
    assert str(node.find(("a", 1, "b")).inside(3)) == "m.yaml:1:16"
    assert str(node.find(("fold",)).inside(4)) == "m.yaml:4:3"
    assert str(node.error("no", loc=("a", 0), hint="yes")) == "m.yaml:1:5: no\n    a: [x, {b: 'M-M*'}]\n        ^ yes"
