"""Specs: what they may say, how they inherit, and every mistake at its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from archc import zoo
from archc.ir.build import Norm
from archc.ir.ops.attention import Attention, Rope, RopeScaling
from archc.ir.ops.mlp import MLP
from archc.kernels.errors import SpecErrors
from archc.spec import Block, load_spec, schema

SPEC = """\
archc: 1
name: tiny
d_model: 64
vocab: 1k
norm: {kind: layer1p, eps: 1.0e-6}
init: {std: 0.01}
blocks:
  M: {mamba2: {n_heads: 4, head_dim: 16, d_state: 16, n_groups: 2, dt_limit: [0.001, .inf]}}
  "*": {attention: {n_heads: 4, head_dim: 16, n_kv_heads: 2, window: none, rope: {theta: 500000, scaling:
        {kind: llama3, factor: 8, original_context: 8k}}}}
  "-": {mlp: {d_ff: 128, activation: relu2}, formats: {up_proj: fp8_e4m3}}
layers:
  - 2 x [M, -]
  - {use: "-", d_ff: 96, formats: {down_proj: nvfp4}}
  - {use: "*", rope: {theta: 10000, scaling: none}, init_std: 0.5}
mtp: {layers: "*-", steps: 2}
formats: {weights: bf16, kv: fp8}
"""


def errors_of(text: str) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        load_spec(text, file="m.yaml")
    return [str(error) for error in caught.value.errors]


def first_lines(text: str) -> list[str]:
    return [error.splitlines()[0] for error in errors_of(text)]


class TestReading:
    def test_the_parts_of_a_spec(self) -> None:
        spec = load_spec(SPEC)
        assert (spec.name, spec.d_model, spec.vocab, spec.tied) == ("tiny", 64, 1024, False)
        assert spec.norm == Norm(kind="layer1p", eps=1e-6)
        assert spec.formats == (("weights", "bf16"), ("kv", "fp8"))
        assert [block.kind for block in spec.layers] == ["mamba2", "mlp", "mamba2", "mlp", "mlp", "attention"]
        assert spec.mtp is not None and spec.mtp.steps == 2
        assert [block.kind for block in spec.mtp.layers] == ["attention", "mlp"]

    def test_fields_are_the_ops_own_with_human_sizes_and_the_models_initial_deviation(self) -> None:
        attention = load_spec(SPEC).mtp.layers[0]  # type: ignore[union-attr]
        scaling = RopeScaling(kind="llama3", factor=8.0, original_context=8192)
        rope = Rope(theta=500000.0, scaling=scaling)
        fields = Attention.Fields(n_heads=4, head_dim=16, n_kv_heads=2, rope=rope, init_std=0.01)
        assert attention == Block(kind="attention", fields=fields)

    def test_a_layer_may_change_fields_of_its_block(self) -> None:
        *_, mlp, attention = load_spec(SPEC).layers
        assert mlp.fields == MLP.Fields(d_ff=96, activation="relu2", init_std=0.01)
        assert mlp.formats == (("up_proj", "fp8"), ("down_proj", "nvfp4"))
        assert attention.fields.rope == Rope(theta=10000.0)
        assert attention.fields.init_std == 0.5

    def test_the_graph_has_the_layers_dims_formats_and_names(self) -> None:
        graph = load_spec(SPEC).graph()
        shapes = graph.weight_shapes()
        assert shapes["layers.1.mixer.up_proj"] == (128, 64)
        assert shapes["layers.4.mixer.up_proj"] == (96, 64)
        assert graph.weight_format(graph.node("L4.mixer"), "down_proj") == "nvfp4"
        assert graph.weight_format(graph.node("L1.mixer"), "down_proj") == "bf16"
        assert graph.weight_format(graph.node("M1.mixer"), "up_proj") == "fp8"
        assert dict(graph.outputs).keys() == {"hidden", "logits", "mtp.1", "mtp.2"}


class TestErrors:
    def test_everything_wrong_with_a_file_is_said_at_once(self) -> None:
        text = """\
archc: 2
name: ../evil
d_modl: 64
vocab: -3
blocks:
  M: {mamba2: {n_heads: 30, head_dim: 64, d_state: 128, n_groups: 8}}
  "*": {attention: {n_heads: 32, head_dim: 128, rope: {thta: 1}}}
  "-": {mpl: {d_ff: 1}}
  E: {moe: {experts: 4, top_k: 8, d_ff: 12.5, activation: rellu2}}
layers: [MQ, {use: M, d_ff: 3}, 0 x M]
formats: {weight: bf16, kv: fp9}
vocab: 3
"""
        assert first_lines(text) == [
            "m.yaml:1:8: `archc`: expected 1, got `2`",
            "m.yaml:2:7: `name`: expected a name of letters and digits joined by `.`, `_` or `-`, got `../evil`",
            "m.yaml:3:1: unknown field `d_modl`: did you mean `d_model`?",
            "m.yaml:4:8: `vocab`: expected a number greater than 0, got `-3`",
            "m.yaml:6:67: `n_heads` must be divisible by `n_groups`: got n_heads=30, n_groups=8",
            "m.yaml:7:56: unknown field `thta`: did you mean `theta`?",
            "m.yaml:8:9: unknown kind of block `mpl`: did you mean `mlp`?",
            "m.yaml:9:41: `d_ff`: expected an integer, got `12.5`",
            "m.yaml:9:59: `activation`: expected `relu2`, `silu`, `gelu`, `gelu_tanh` or `clamped_swiglu`, "
            "got `rellu2`",
            "m.yaml:10:11: no block is called `Q`",
            "m.yaml:10:33: expected a repeat from 1 to 10000, got 0",
            "m.yaml:11:11: unknown field `weight`: did you mean `weights`?",
            "m.yaml:11:29: `kv`: unknown format `fp9`: did you mean `fp8`?",
            "m.yaml:12:1: duplicate key `vocab`",
        ]

    def test_a_rule_between_fields_stands_at_its_field_with_what_would_do(self) -> None:
        (error,) = errors_of(SPEC.replace("n_heads: 4, head_dim: 16, d_state", "n_heads: 6, head_dim: 16, d_state")
                             .replace("n_groups: 2", "n_groups: 4"))  # fmt: skip
        head, line, caret = error.splitlines()
        assert head == "m.yaml:8:65: `n_heads` must be divisible by `n_groups`: got n_heads=6, n_groups=4"
        assert line[caret.index("^")] == "4"
        assert "n_groups in [1, 2, 3, 6]" in caret

    def test_a_layers_change_is_checked_where_it_stands(self) -> None:
        text = SPEC.replace("d_ff: 96", "d_f: 96").replace("init_std: 0.5", "n_heads: 3")
        assert (
            first_lines(text)
            == [
                "m.yaml:14:16: unknown field `d_f`: did you mean `d_ff`?",
                "m.yaml:9:59: `n_heads` must be divisible by `n_kv_heads`: got n_heads=3, n_kv_heads=2",
            ][::-1]
        )

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("up_proj: fp8_e4m3", "up_prj: fp8", "11:56: unknown parameter `up_prj`: did you mean `up_proj`?"),
            ("up_proj: fp8_e4m3", "up_proj: fp3", "11:65: `up_proj`: unknown format `fp3`: did you mean `fp32`?"),
            ("d_ff: 128", "d_ff: true", "11:21: `d_ff`: expected an integer, got `true`"),
            ("d_ff: 128", "d_ff: '12 x'", "11:21: `d_ff`: expected a count such as 131072, 128k or 4M (binary)"),
            ("d_ff: 128", "d_ff: 1099511627776", "11:21: `d_ff`: expected a number less than 1099511627776"),
            ("{mlp: {d_ff: 128, activation: relu2}, ", "{", "11:8: expected one kind of block (attention, "),
            ("mlp: {d_ff: 128, activation: relu2}", "mlp: ", "11:9: missing field `d_ff`"),
            ('"-": {mlp', '"[": {mlp', "11:3: `[` cannot name a block"),
            ('"-": {mlp', 'x: {mlp', "11:3: `x` cannot name a block: it is the repeat sign of patterns, as in 4 x "
             "[M -]"),
            ('"-": {mlp', '"a\\nb": {mlp', "11:3: `a\\nb` cannot name a block"),
            ("vocab: 1k", "vocab: ３２０", "4:8: `vocab`: expected a count such as 131072, 128k or 4M (binary): got "
             "`３２０`"),
            ("name: tiny", 'name: "a\\nb"', "2:7: `name`: expected a name of letters and digits joined by `.`, `_` or "
             "`-`, got `a\\nb`\n"),
            ("name: tiny", f"name: {'a' * 101}", "2:7: `name`: expected a name of at most 100 characters, got 101"),
            ("eps: 1.0e-6", "eps: .inf", "5:28: `eps`: expected a finite number, got `.inf`"),
            ("eps: 1.0e-6", "eps: 2", "5:28: `eps`: expected a number less than or equal to 1, got `2`"),
            ("eps: 1.0e-6", "eps: .nan", "5:28: `eps`: expected a finite number, got `.nan`"),
            ("std: 0.01", "std: .inf", "6:13: `std`: expected a finite number, got `.inf`"),
            ("std: 0.01", "std: 1e30", "6:13: `std`: expected a number less than or equal to 100, got `1e+30`"),
            ("init_std: 0.5", "init_std: 1e30", "15:63: `init_std`: expected a number less than or equal to 100"),
            ("theta: 500000", "theta: .inf", "9:90: `theta`: expected a finite number, got `.inf`"),
            ("theta: 500000", "theta: 1e30", "9:90: `theta`: expected a number less than or equal to 1000000000000"),
            ("factor: 8", "factor: .inf", "10:32: `factor`: expected a finite number, got `.inf`"),
            ("[0.001, .inf]", "[.inf, .inf]", "8:79: `dt_limit`: expected a finite number, got `.inf`"),
            ("[0.001, .inf]", "[0, .nan]", "8:82: `dt_limit`: expected a number greater than 0, got `.nan`"),
            ("[0.001, .inf]", "[-1, 2]", "8:79: `dt_limit`: expected a number greater than or equal to 0, got `-1`"),
            ("[0.001, .inf]", "[2, 1]", "8:78: `dt_limit` must be [low, high] with 0 <= low < high: got [2, 1]"),
            ("head_dim: 16, n_kv_heads", "head_dim: 15, n_kv_heads", "9:82: rotary embedding turns channels in pairs: "
             "head_dim * partial must be even, got 15 * 1 = 15"),
            ("window: none", "window: wide", "9:70: `window`: expected a count such as"),
            ("steps: 2", "steps: 0", "16:28: `steps`: expected a number greater than 0, got `0`"),
            ("{layers: \"*-\", steps", "{steps", "16:1: missing field `layers`"),
            ("archc: 1\n", "", "1:1: missing field `archc`"),
            ("name: tiny", "name: a b", "2:7: `name`: expected a name of letters"),
            ("mtp:", "changes: {}\nmtp:", "16:1: `changes` needs `extends`"),
        ],
    )  # fmt: skip
    def test_one_mistake(self, old: str, new: str, message: str) -> None:
        assert old in SPEC
        assert any(error.startswith(f"m.yaml:{message}") for error in errors_of(SPEC.replace(old, new)))

    def test_a_rule_of_large_sizes_is_told_as_quickly_and_as_short(self) -> None:
        for heads in (2**40 - 87, 735134400):  # a prime, and a number of 1344 divisors
            text = SPEC.replace("n_heads: 4, head_dim: 16, d_state", f"n_heads: {heads}, head_dim: 16, d_state")
            (error,) = errors_of(text.replace("n_groups: 2", "n_groups: 999983"))
            assert len(error) < 400 and "^ n_groups " in error

    def test_infinity_bounds_no_time_step(self) -> None:
        assert load_spec(SPEC).layers[0].fields.dt_limit == (0.001, float("inf"))

    def test_names_of_any_length_are_told_in_short(self) -> None:
        long = "q" * 100_000
        for text in (
            SPEC.replace("name: tiny", f"name: {long}"),
            SPEC.replace("vocab: 1k", f"vocab: {long}"),
            SPEC.replace("mlp:", f"{long}:"),
            SPEC.replace("mlp:", ", ".join(f"k{i}: 1" for i in range(10_000)) + ", mlp:"),
            SPEC.replace("up_proj: fp8_e4m3", f"{long}: fp8"),
            SPEC.replace("up_proj: fp8_e4m3", f"up_proj: {long}"),
            SPEC.replace('"-": {mlp', f'"[{long}": {{mlp'),
            SPEC.replace("weights: bf16", f"{long}: bf16"),
            f"archc: 1\nname: x\nextends: {long}\n",
            f"archc: 1\nname: x\nextends: {long}.yaml\n",
            f"archc: 1\nname: x\nextends: llama-3.1-8b\n{long}: 3\n",
        ):
            assert all(len(error) < 600 for error in errors_of(text)), errors_of(text)[0][:600]

    @pytest.mark.parametrize(
        "text", ["3\n", "[1]\n", "archc: 1\n", "blocks: 3\nlayers: 2\nmtp: 1\n", "norm: {eps: {}}\n"]
    )
    def test_what_is_no_spec_at_all_is_still_a_spec_error(self, text: str) -> None:
        assert errors_of(text)


class TestExtends:
    def test_changes_are_merged_into_the_parent(self) -> None:
        spec = load_spec(
            "archc: 1\nname: small\nextends: llama-3.1-8b\n"
            "changes:\n  d_model: 512\n  blocks:\n    '-': {mlp: {d_ff: 1024}}\n  layers: '2 x [*, -]'\n"
        )
        parent = load_spec(zoo.path("llama-3.1-8b"))
        assert (spec.name, spec.d_model, spec.vocab, len(spec.layers)) == ("small", 512, parent.vocab, 4)
        assert spec.layers[0] == parent.layers[0]
        assert spec.layers[1].fields.d_ff == 1024 and spec.layers[1].fields.gated
        assert spec.published == () and spec.source == ()

    def test_another_kind_of_block_replaces_the_old_one_and_an_empty_value_the_default(self) -> None:
        spec = load_spec(
            "archc: 1\nname: moe\nextends: llama-3.1-8b\n"
            "changes: {norm: , blocks: {'-': {moe: {experts: 4, top_k: 2, d_ff: 64}}, '*': {attention: {rope: }}}}\n"
        )
        assert spec.layers[1].kind == "moe"
        assert spec.layers[0].fields.rope is None and spec.layers[0].fields.n_kv_heads == 8
        assert spec.norm == Norm()

    def test_a_file_beside_the_spec_may_be_extended(self, tmp_path: Path) -> None:
        (tmp_path / "base.yaml").write_text(SPEC)
        (tmp_path / "mine.yaml").write_text("archc: 1\nname: mine\nextends: base.yaml\nchanges: {tied: true}\n")
        assert load_spec(tmp_path / "mine.yaml").tied

    def test_errors_name_the_file_that_has_them(self, tmp_path: Path) -> None:
        (tmp_path / "base.yaml").write_text(SPEC.replace("vocab: 1k", "vocab: none"))
        child = tmp_path / "mine.yaml"
        child.write_text("archc: 1\nname: mine\nextends: base.yaml\nchanges: {d_model: -1}\n")
        with pytest.raises(SpecErrors) as caught:
            load_spec(child)
        assert [str(error.at) for error in caught.value.errors] == [f"{tmp_path}/base.yaml:4:8", f"{child}:4:20"]

    @pytest.mark.parametrize(
        ("rest", "message"),
        [
            ("extends: llama-3.1-8\n", "3:10: unknown zoo model `llama-3.1-8`: did you mean `llama-3.1-8b`?"),
            (
                "extends: nowhere.yaml\n",
                "m.yaml:3:10: cannot read `nowhere.yaml`: No such file or directory\n    extends: "
                "nowhere.yaml\n             ^ a path from here, or a name in `archc zoo`",
            ),
            (
                "extends: llama-3.1-8b.yaml\n",
                "No such file or directory\n    extends: llama-3.1-8b.yaml\n             ^ "
                "did you mean `llama-3.1-8b`?",
            ),
            ("extends: 3\n", "3:10: `extends`: expected a zoo name or a file, got `3`"),
            ("extends: llama-3.1-8b\nvocab: 3\n", "4:1: a spec that extends another gives `vocab` under `changes`"),
            ("extends: llama-3.1-8b\nchanges: {name: x}\n", "4:11: `name` is not inherited: give it beside `extends`"),
            ("extends: llama-3.1-8b\nchanges: 3\n", "4:10: `changes`: expected a mapping, got `3`"),
            ("extends: llama-3.1-8b\nchanges: {vocb: 3}\n", "4:11: unknown field `vocb`: did you mean `vocab`?"),
        ],
    )
    def test_mistakes(self, rest: str, message: str) -> None:
        assert any(message in error for error in errors_of(f"archc: 1\nname: x\n{rest}"))

    def test_a_file_that_is_not_there_is_an_error_of_the_line_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "base.yaml").write_text(SPEC)
        for name, reason in (("bse.yaml", "No such file or directory"), ("dir.yaml", "Is a directory")):
            (tmp_path / "dir.yaml").mkdir(exist_ok=True)
            (tmp_path / "mine.yaml").write_text(f"archc: 1\nname: mine\nextends: {name}\n")
            with pytest.raises(SpecErrors) as caught:
                load_spec(tmp_path / "mine.yaml")
            (error,) = caught.value.errors
            assert str(error.at) == f"{tmp_path}/mine.yaml:3:10"
            assert error.message == f"cannot read `{tmp_path}/{name}`: {reason}"
            assert (error.hint == "did you mean `base.yaml`?") == (name == "bse.yaml")

    def test_paths_stay_as_they_were_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "sub").mkdir()
        for name, text in {
            "a.yaml": "extends: sub/b.yaml\n",
            "sub/b.yaml": "extends: ../a.yaml\n",
            "c.yaml": "extends: sub/wrong.yaml\nchanges: {tied: true}\n",
            "e.yaml": "extends: sub/list.yaml\n",
        }.items():
            (tmp_path / name).write_text(f"archc: 1\nname: x\n{text}")
        (tmp_path / "sub/wrong.yaml").write_text(SPEC.replace("vocab: 1k", "vocab: 0"))
        (tmp_path / "sub/list.yaml").write_text("[1]\n")
        for name, start in {
            "a.yaml": "sub/b.yaml:3:10: `extends` goes round in a circle through `../a.yaml`",
            "c.yaml": "sub/wrong.yaml:4:8: `vocab`: expected a number greater than 0",
            "e.yaml": "e.yaml:3:10: `sub/list.yaml` holds no spec",
        }.items():
            with pytest.raises(SpecErrors) as caught:
                load_spec(Path(name))
            assert str(caught.value.errors[0]).startswith(start)

    def test_a_chain_of_parents_ends_somewhere(self, tmp_path: Path) -> None:
        for i in range(40):
            (tmp_path / f"{i}.yaml").write_text(f"archc: 1\nname: x\nextends: {i + 1}.yaml\n")
        with pytest.raises(SpecErrors, match=r"16.yaml:3:10: `extends`: expected at most 16 specs in a row"):
            load_spec(tmp_path / "0.yaml")


class TestSchema:
    def test_it_knows_every_field_of_every_op(self) -> None:
        block = schema()["$defs"]["Block"]["properties"]
        assert block["attention"]["properties"].keys() >= {"n_heads", "rope", "qk_norm"}
        assert "d_ff" in block["mlp"]["required"] and block["mlp"]["additionalProperties"] is False

    def test_it_bounds_sizes_and_numbers_in_its_own_keywords(self) -> None:
        whole = schema()
        kinds = whole["$defs"]["Block"]["properties"]
        for size in (whole["properties"]["d_model"], whole["properties"]["vocab"], kinds["mlp"]["properties"]["d_ff"]):
            assert size["exclusiveMinimum"] == 0
            assert {"type": "integer", "exclusiveMaximum": 2**40} in size["anyOf"]
        assert whole["$defs"]["MTPFields"]["properties"]["steps"]["maximum"] == 64
        assert kinds["mamba2"]["properties"]["conv_kernel"]["minimum"] == 2
        assert not re.search(r'"(gt|ge|lt|le)"', json.dumps(whole))

    def test_it_is_json_and_its_defaults_in_words_where_json_has_no_number(self) -> None:
        limit = schema()["$defs"]["Block"]["properties"]["mamba2"]["properties"]["dt_limit"]
        assert "default" not in limit and "[0, .inf] when left out" in limit["description"]
        json.dumps(schema(), allow_nan=False)

    def test_a_used_block_offers_the_fields_of_every_op(self) -> None:
        items = schema()["$defs"]["Layers"]["anyOf"][1]["items"]["anyOf"]
        (use,) = [item for item in items if "use" in item.get("properties", {})]
        assert use["properties"].keys() >= {"use", "times", "formats", "d_ff", "window", "experts", "d_state"}
        assert use["additionalProperties"] is False
        window = use["properties"]["window"]
        assert window["description"] and "default" not in window
        (rope,) = [one["$ref"] for one in use["properties"]["rope"]["anyOf"] if "$ref" in one]
        changes = schema()["$defs"][rope.removeprefix("#/$defs/")]
        assert "required" not in changes and "theta" in changes["properties"]

    def test_every_field_is_described(self) -> None:
        whole = schema()
        kinds = whole["$defs"]["Block"]["properties"]
        owners = {"": whole, **whole["$defs"], **kinds}
        bare = [
            f"{owner}.{name}"
            for owner, part in owners.items()
            for name, field in part.get("properties", {}).items()
            if not field.get("description")
        ]
        assert not bare

    def test_every_reference_in_it_resolves(self) -> None:
        whole = schema()

        def references(part: object) -> list[str]:
            if isinstance(part, dict):
                below = [ref for value in part.values() for ref in references(value)]
                return below + ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
            return [ref for value in part for ref in references(value)] if isinstance(part, list) else []

        assert {ref.removeprefix("#/$defs/") for ref in references(whole)} <= whole["$defs"].keys()

    def test_the_zoo_conforms_to_it(self) -> None:
        validator = jsonschema.Draft202012Validator(schema())
        from archc.yamlfile import load_yaml

        for name in zoo.names():
            assert not [e.message for e in validator.iter_errors(load_yaml(zoo.path(name)).data)], name
