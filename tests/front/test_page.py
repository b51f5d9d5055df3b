"""`archc show --html`: what the page holds and how it is put together. test_page_browser.py opens it."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from archc import zoo
from archc.cli import app
from archc.hardware import hardware_names, load_hardware
from archc.ir.expr import evaluate_json
from archc.ir.graph import Graph
from archc.ir.op import registered_ops
from archc.resolve import load
from archc.sheet import cost
from archc.viz.colours import colour
from archc.viz.overlay import Overlay, Units
from archc.viz.page import page
from archc.viz.scene import scene
from tests.front.pages import HOSTILE, Reader, read_alone

ULTRA = "nemotron-3-ultra-550b-a55b"
MODELS = zoo.names()


class Work(NamedTuple):
    """What the page's controls choose; empty is the model's own, or no hardware."""

    context: int
    batch: int
    hardware: str = ""
    devices: int = 1
    weights: str = ""
    kv: str = ""
    ssm: str = ""


WORKS = (
    Work(8192, 1, "h100"),
    Work(131072, 8, "a10g", kv="fp8", ssm="bf16"),
    Work(1000, 3, "b200", 8, weights="nvfp4"),
    Work(1, 5000, "gb200", 64, weights="fp8", kv="int8", ssm="fp16"),
    Work(2**20, 7, "rtx-5080", weights="int4"),
    Work(2049, 1, weights="fp32"),
)


def environment(data: Mapping[str, Any], work: Work) -> dict[str, float]:
    """What symbols stand for, as assets/cost.js has it."""
    chosen = {name: fmt for name, fmt in (("kv", work.kv), ("ssm", work.ssm)) if fmt}
    classes = {**data["formats"][work.weights], **chosen}
    env = {"batch": work.batch, "context": work.context, "input": work.context, "prefill_chunk": 2048}
    env |= {f"bytes.{name}": size for name, size in data["bytes"].items()}
    env |= {f"bytes.{name}": data["bytes"][fmt] for name, fmt in classes.items()}
    if not work.hardware:
        return env
    device = data["hardware"][work.hardware]
    env |= {f"rate.{name}": rate * work.devices for name, rate in device["rates"].items()}
    env |= {f"rate.{name}": device["rates"][fmt] * work.devices for name, fmt in classes.items()}
    env["link_s_per_byte"], env["link_latency_s"] = device["links"][str(work.devices)]
    return {**env, "bandwidth": device["bandwidth"] * work.devices}


class Totals:
    """Sums over the parts of a scene under a workload."""

    def __init__(self, data: Mapping[str, Any], work: Work) -> None:
        self.data, self.work, self.env = data, work, environment(data, work)

    def of(self, figure: str, *, mtp: bool = False, serving: bool = True) -> float:
        """One figure of the parts of multi-token prediction, of those of a plain step, or of both."""
        chosen = [part for part in self.data["parts"] if (mtp if part["mtp"] else serving)]
        return sum(part["count"] * self.value(part, figure) for part in chosen)

    def value(self, part: Mapping[str, Any], figure: str) -> float:
        plain = part.get("plain_figures") if self.work.weights else None
        return evaluate_json((plain or part["figures"])[figure], {**self.env, **part["sizes"]})

    def figures(self) -> Iterator[tuple[str, float]]:
        yield "params", self.of("params")
        yield "mtp params", self.of("params", mtp=True, serving=False)
        yield "active", self.of("active")
        yield "weights_bytes", math.ceil(self.of("weights_bytes", mtp=True))
        for name in ("kv_bytes", "ssm_bytes", "conv_bytes"):
            yield name, self.work.batch * math.ceil(self.of(name, mtp=True) / self.work.batch)
        yield "activation_bytes", evaluate_json(self.data["activation_bytes"], self.env)
        yield "prefill FLOPs", self.of("prefill_flops")
        yield "decode FLOPs", self.of("decode_flops")
        if self.work.hardware:
            yield "prefill_s", self.of("prefill_s")
            yield "decode_s", self.of("decode_s")


def sheet_figures(graph: Graph, work: Work) -> Iterator[tuple[str, float]]:
    sheet = cost(
        graph,
        hardware=f"{work.devices}x{work.hardware}" if work.hardware else None,
        context=work.context,
        batch=work.batch,
        format=work.weights or None,
        kv_format=work.kv or None,
        ssm_format=work.ssm or None,
    )
    yield "params", sheet.params.total
    yield "mtp params", sheet.params.mtp
    yield "active", sheet.params.active
    for name in ("weights_bytes", "kv_bytes", "ssm_bytes", "conv_bytes", "activation_bytes"):
        yield name, getattr(sheet.memory, name)
    yield "prefill FLOPs", sheet.flops.prefill
    yield "decode FLOPs", sheet.flops.decode_per_token
    if sheet.latency:
        yield "prefill_s", sheet.latency.prefill_s
        yield "decode_s", sheet.latency.decode_s_per_token


def covered(fold: Mapping[str, Any], offset: int = 0) -> Iterator[int]:
    """Positions that a fold stands for, round by round through what is inside it."""
    for turn in range(fold["times"]):
        moved = offset + turn * fold["length"]
        for inner in fold.get("inner", ()):
            yield from covered(inner, moved)
        if "inner" not in fold:
            yield from range(fold["start"] + moved, fold["start"] + moved + fold["length"])


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2 of two `#rrggbb` colours."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_expressions_of_the_scene_give_the_figures_of_the_cost_sheet(name: str) -> None:
    graph = load(name)
    data = json.loads(json.dumps(scene(graph)))
    for work in WORKS:
        assert dict(Totals(data, work).figures()) == pytest.approx(dict(sheet_figures(graph, work)), rel=1e-9), work


def test_every_hardware_is_offered_with_as_many_devices_as_can_work_together() -> None:
    hardware = scene(load("tiny-hybrid"))["hardware"]
    assert list(hardware) == hardware_names()
    for name, device in hardware.items():
        linked = load_hardware(name).link_bytes_s > 0
        assert list(device["links"]) == (["1", "2", "4", "8", "16", "32", "64"] if linked else ["1"])


# -- what there is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_everything_of_a_model_is_in_its_scene(name: str) -> None:
    graph = load(name)
    data = scene(graph)
    assert [node["id"] for node in data["nodes"]] == [node.id for node in graph.nodes]
    assert Counter(node["part"] for node in data["nodes"]) == {i: p["count"] for i, p in enumerate(data["parts"])}
    assert {r["name"]: tuple(b["id"] for b in r["blocks"]) for r in data["regions"]} == graph.blocks
    for region in data["regions"]:
        positions = [at for fold in region["folds"] for at in covered(fold)]
        assert positions == list(range(len(region["blocks"])))
    drawn = {e["node"] for e in data["order"] if "node" in e} | {
        n for r in data["regions"] for b in r["blocks"] for n in b["nodes"]
    }
    assert {node.id for node in graph.nodes if not graph.in_mtp(node)} <= drawn
    owners = {node.id for node in graph.nodes if not node.owner and list(node.op.params())}
    assert owners <= drawn


@pytest.mark.parametrize("name", MODELS)
def test_folded_layers_are_equal(name: str) -> None:
    data = scene(load(name))
    part = {node["id"]: node["part"] for node in data["nodes"]}
    for region in data["regions"]:
        keys = [tuple(part[node] for node in block["nodes"]) for block in region["blocks"]]
        for fold in region["folds"]:
            rounds = [keys[fold["start"] + i * fold["length"] :][: fold["length"]] for i in range(fold["times"])]
            assert all(one == rounds[0] for one in rounds)


def test_axes_in_dims() -> None:
    data = scene(load("nemotron-nano-9b-v2"))
    mamba = next(part for part in data["parts"] if part["kind"] == "mamba2")
    rows, columns = next(param for param in mamba["params"] if param["name"] == "in_proj")["axes"]
    assert [(p["name"], p["size"]) for p in rows["parts"]] == [
        ("z", 10240),
        ("x", 10240),
        ("B", 1024),
        ("C", 1024),
        ("dt", 128),
    ]
    assert (columns["text"], columns["size"]) == ("d_model", 4480)


# -- the file ----------------------------------------------------------------------------------------------------------


def hostile(graph: Graph) -> str:
    """A page all of whose names are hostile."""
    overlays = [Overlay(name, {"L0.mixer": {"*": 0.5, name: Units((1.0, 2.0))}}) for name in HOSTILE]
    return page(dataclasses.replace(graph, name="".join(HOSTILE)), overlays)


@pytest.mark.parametrize("name", ["tiny-hybrid", "nemotron-3-super-120b-a12b", "tiny-latent"])
def test_one_file_that_asks_for_nothing(name: str) -> None:
    assert read_alone(page(load(name)))["name"] == name


def test_hostile_names_stay_text() -> None:
    graph = load("tiny-hybrid")
    plain, read = Reader(page(graph)), Reader(hostile(graph))
    assert [tag for tag, _ in read.elements] == [tag for tag, _ in plain.elements]
    assert read.texts["title"] == [f"{''.join(HOSTILE)} · archc"]
    assert read.texts["script"][1] == plain.texts["script"][1]
    data = json.loads(read.texts["script"][0])
    assert data["name"] == "".join(HOSTILE)
    assert tuple(overlay["title"] for overlay in data["overlays"]) == HOSTILE
    assert not set("<>&") & set(read.texts["script"][0])


def test_a_page_is_the_same_each_time() -> None:
    assert page(load("tiny-hybrid")) == page(load("tiny-hybrid"))


def test_a_page_is_small() -> None:
    assert len(page(load(ULTRA)).encode()) < 400_000


@pytest.mark.parametrize("kind", [op.kind for op in registered_ops()])
def test_text_can_be_read_on_the_colour_of_its_kind(kind: str) -> None:
    assert contrast(colour(kind).fill, colour(kind).ink) >= 4.5


# -- the command -------------------------------------------------------------------------------------------------------


def test_archc_show_html_writes_a_page(tmp_path: Path) -> None:
    file = tmp_path / "tiny.html"
    result = CliRunner().invoke(app, ["show", "tiny-hybrid", "--html", str(file)])
    assert result.exit_code == 0 and not result.stdout
    assert file.read_text(encoding="utf-8") == page(load("tiny-hybrid"))
    assert list(tmp_path.iterdir()) == [file]


def test_archc_show_html_to_standard_output() -> None:
    result = CliRunner().invoke(app, ["show", "tiny-hybrid", "--html", "-"])
    assert result.stdout == page(load("tiny-hybrid"))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("missing/tiny.html", "No such file or directory"),
        ("file/tiny.html", "Not a directory"),
        ("folder", "Is a directory"),
    ],
)
def test_a_page_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path, file: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    command = [sys.executable, "-m", "archc", "show", "tiny-hybrid", "--html", str(tmp_path / file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"error: {tmp_path / file}: {reason}\n")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
