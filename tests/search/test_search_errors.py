"""Search files that are wrong: what is wrong, where it stands, what was expected, and nothing that is not wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from archc.cli import app
from archc.kernels.errors import ArchcError, SpecErrors
from archc.searching.file import load_search
from archc.searching.folder import FILE, RESULTS, read_results

FILE_TEXT = """\
archc_search: 1
name: wrong
base: tiny-hybrid
{more}
space:
  {space}
objectives: ["{objective}"]
"""


def errors_of(
    folder: Path, *, space: str = "d_model: [64, 128]", objective: str = "minimize params.total", more: str = ""
) -> str:
    """All errors of a file as one text, each beginning with its place."""
    text = FILE_TEXT.format(space=space.replace("\n", "\n  "), objective=objective, more=more)
    (folder / "search.yaml").write_text(text)
    with pytest.raises(SpecErrors) as caught:
        load_search(folder / "search.yaml")
    return "\n".join(f"{e.at.line}:{e.at.column}: {e.message} {e.hint}" for e in caught.value.errors if e.at)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ("moe.d_ff: {from: 8, to: 4}", "6:20: `moe.d_ff`: `from` 8 is beyond `to` 4"),
        ("moe.d_ff: {from: 8, to: 64, step: 0}", "6:37: `moe.d_ff`: `step`: expected a whole number, 1 or more"),
        ("moe.d_ff: {from: -8, to: 64}", "6:20: `moe.d_ff`: `from`: expected a whole number, 0 or more, got `-8`"),
        ("moe.d_ff: {from: 8, to: many}", "6:27: `moe.d_ff`: `to`: expected a whole number, 0 or more, got `many`"),
        ("moe.d_ff: {from: 8}", "6:13: `moe.d_ff`: expected {from:, to:, step:} or a list of values: `to` is missing"),
        ("moe.d_ff: [64, -1]", "6:18: `moe.d_ff`: expected whole numbers that are not negative, got `-1`"),
        ("layers.*.mlp.d_ff: {values: [64], each: layer}", "6:3: unknown kind of layer in `tiny-hybrid` `mlp`: known"),
        ("mpl.d_ff: [64]", "6:3: unknown kind of layer or field of a spec `mpl`"),
        ("meo.top_k: [1, 2]", "6:3: unknown kind of layer or field of a spec `meo`: did you mean `moe`?"),
        ("norn.eps: [1.0e-5]", "6:3: unknown kind of layer or field of a spec `norn`: did you mean `norm`?"),
        ("d_model: [64]\nmoe.d_ff: [64]\nlayers.1.moe.d_ff: [64]", "8:3: `moe.d_ff` and `layers.1.moe.d_ff` both say"),
        ("moe.d_ff: [64]\nd_model: {values: [64], when: {moe.dff: [64]}}", "no `moe.dff`: did you mean `moe.d_ff"),
        ("d_model: {values: [64], when: {moe.d_ff: [64]}}\nmoe.d_ff: [64]", "6:33: `d_model` depends on `moe.d_ff`"),
    ],
)  # fmt: skip
def test_lines_of_the_space(tmp_path: Path, space: str, told: str) -> None:
    found = errors_of(tmp_path, space=space)
    assert told in found and len(found.splitlines()) == 1


@pytest.mark.parametrize(
    ("ranking", "told"),
    [
        ("[3, 3, 8]", "4:14: `ranking`: position 3 stands twice"),
        ("[3, 12]", "4:14: `ranking`: the base has layers 0 to 9: got 12"),
        ("{from: 4, to: 1}", "4:17: `ranking`: `from` 4 is beyond `to` 1"),
        ("[first]", "4:10: `ranking`: expected positions of layers from 0"),
    ],
)
def test_a_ranking_that_is_wrong_is_all_that_is_told(tmp_path: Path, ranking: str, told: str) -> None:
    found = errors_of(tmp_path, space="layers: {from: 5, to: 10}", more=f"ranking: {ranking}")
    assert told in found and len(found.splitlines()) == 1


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ("params.total < 2.2M", "use <= or >="),
        ("params.total = 2.2M", "use <= or >="),
        ("zero_shot <= 3.0", "`zero_shot`: it is a rung: add it to `rungs`, and its score is an objective"),
        ("memory.kv <= 1MiB at {format: int3}", "4:42: `format`: unknown format `int3`: did you mean `int8`?"),
        ("memory.kv <= 1MiB at {kv_format: b16}", "4:45: `kv_format`: unknown format `b16`: did you mean `bf16`?"),
        ("memory.kv <= 1MiB at {contxt: 4k}", "4:34: unknown field of `at` `contxt`: did you mean `context`?"),
        ("memory.kv <= 1MiB at {context: many}", "4:43: `context`: expected a count"),
        (
            "latency.decode <= 1ms at {hardware: a10q}",
            "4:48: `hardware`: unknown hardware `a10q`: did you mean `a10g`?",
        ),
    ],
)
def test_budgets(tmp_path: Path, budget: str, told: str) -> None:
    found = errors_of(tmp_path, more=f'budgets: ["{budget}"]')
    assert told in found and len(found.splitlines()) == 1


def test_objectives_that_are_rungs(tmp_path: Path) -> None:
    found = errors_of(tmp_path, objective="minimize zero_shot")
    assert "7:14: `zero_shot`: it is a rung: add it to `rungs`" in found and len(found.splitlines()) == 1
    more = "rungs: [capacity: {}]"
    assert "less is better: `minimize capacity`" in errors_of(tmp_path, objective="maximize capacity", more=more)


def test_samplers_and_storages(tmp_path: Path) -> None:
    assert "mip" in errors_of(tmp_path, more="sampler: tpee")
    found = errors_of(tmp_path, more="storage: nosuch://x/y")
    assert "4:10: `storage`: unknown kind of database `nosuch`: expected sqlite or postgresql" in found
    assert "did you mean `sqlite`?" in errors_of(tmp_path, more="storage: sqlit:///a.db")


@pytest.mark.parametrize("command", ["best", "show"])
def test_a_search_that_is_not_finished_goes_on(tmp_path: Path, command: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / FILE).write_text("archc_search: 1\n")
    (run / "study.log").write_text("")
    told = CliRunner().invoke(app, [command, str(run)])
    assert "a search was begun here and is not finished" in str(told.exception)
    with pytest.raises(ArchcError, match=rf"`archc search {run}/search.yaml -o {run}` goes on with it"):
        read_results(run)
    (run / RESULTS).write_text('{"archc_search_res')
    with pytest.raises(ArchcError, match=rf"results.json: damaged .*`archc search {run}/search.yaml -o {run}`"):
        read_results(run)
