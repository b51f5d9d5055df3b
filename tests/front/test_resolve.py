"""One resolver: every way to name a model gives the same graph, and what names none is one clear error."""

import json
from pathlib import Path

import pytest

from archc.compilation import compile_model
from archc.hub.bare_config import config_of
from archc.hub.checkpoint_dir import write_checkpoint_dir
from archc.ir.graph_json import graph_to_json
from archc.ir.init import init_weights
from archc.ir.text import print_graph
from archc.kernels.errors import ArchcError, GraphError, ParseError, SpecErrors, UnknownName
from archc.resolve import load
from archc.spec import load_spec
from archc.zoo import path


@pytest.mark.parametrize("name", ["tiny-hybrid", "tiny-latent"])
def test_every_form_of_one_model_is_one_graph(name: str, tmp_path: Path) -> None:
    graph, spec = load(name), load_spec(path(name))
    (tmp_path / "model.yaml").write_text(spec.to_yaml())
    (tmp_path / "model.ir").write_text(print_graph(graph))
    (tmp_path / "model.json").write_text(json.dumps(graph_to_json(graph)))
    write_checkpoint_dir(tmp_path / "ckpt", graph, init_weights(graph, seed=0), {"step": "test"})
    compile_model(name, tmp_path / "package")
    for form in ("model.yaml", "model.ir", "model.json", "ckpt", "package"):
        assert load(tmp_path / form) == graph == load(str(tmp_path / form)), form
    assert load(graph) is graph
    assert load(spec) == graph


def test_a_hugging_face_config_is_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "nemotron-nano-9b-v2"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(load_spec(path("nemotron-nano-9b-v2")))))
    assert load(folder).hash == load(folder / "config.json").hash
    assert load(folder).weight_shapes() == load("nemotron-nano-9b-v2").weight_shapes()


def test_a_zoo_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = path("tiny-dense").read_text()
    Path("tiny-hybrid").mkdir()
    assert load("tiny-hybrid").name == "tiny-hybrid"
    Path("other.yaml").write_text(other)
    assert load("other.yaml").name == "tiny-dense"
    with pytest.raises(ArchcError, match=r"tiny-hybrid is no model: expected model\.ir .*graph\.ir .*config\.json"):
        load("./tiny-hybrid")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny-hybird", "unknown model `tiny-hybird`: did you mean `tiny-hybrid`?"),
        ("somewhere/model", "no such file or folder: somewhere/model"),
        ("model.yaml", "no such file or folder: model.yaml"),
        ("notes.txt", r"notes.txt is no model: a file ends in .yaml, .yml, .ir, .json"),
    ],
)
def test_what_names_no_model(model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("hello")
    with pytest.raises(ArchcError) as caught:
        load(model)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("m.yaml", b"archc: 1\nname: [", SpecErrors, "m.yaml:2"),
        ("m.ir", b"archc graph 1\nname x\ny = mpl(z)\n", ParseError, "m.ir:3:5: unknown op `mpl`: did you mean `mlp`?"),
        ("m.ir", b"\xff\xfe", ParseError, "expected UTF-8 text"),
        ("m.ir", b"archc graph 1\nname x\noutput y = z\n", GraphError, "m.ir: graph `x` does not hold together"),
        ("m.json", b'{\n "a": }', ParseError, "m.json:2:7: not JSON: "),
        ("m.json", b'{"archc_graph": 1}', GraphError, "m.json: not the JSON form of a graph:\n  name: field required"),
        ("m.json", b'{"model_type": "lama"}', UnknownName, "unknown model_type `lama`: did you mean `llama`?"),
        ("m.json", b"[" * 100_000, ParseError, "not JSON"),
    ],
)
def test_bad_files(name: str, content: bytes, error: type[ArchcError], message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        load(tmp_path / name)
    assert message in str(caught.value)


@pytest.mark.parametrize("model", [None, 3, {"name": "x"}])
def test_another_type_says_what_a_model_is(model: object) -> None:
    with pytest.raises(ArchcError, match=f"a model is a Graph, a Spec, or .*: got {type(model).__name__}"):
        load(model)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unknown model ``"):
        load("")
