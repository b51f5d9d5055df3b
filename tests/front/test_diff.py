"""`archc diff` and `archc.diff`: what people read, exit status, JSON, and git's driver in a real repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import archc
from archc.ir.text import print_graph
from archc.kernels.errors import UnitError

SPEC = """archc: 1
name: small
d_model: 64
vocab: 256
blocks:
  "*": {attention: {n_heads: 4, n_kv_heads: 2, head_dim: 16}}
  "-": {mlp: {d_ff: 96}}
layers: "*-*-"
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "archc", "diff", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str]:
    """A small model and one that differs in width and depth."""
    (tmp_path / "a.yaml").write_text(SPEC)
    (tmp_path / "b.yaml").write_text(SPEC.replace("96", "64").replace('"*-*-"', '"*-*"'))
    return str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")


def test_words_costs_and_shares(models: tuple[str, str]) -> None:
    shown = run(*models, "--hardware", "a10g", "--context", "1k")
    assert shown.returncode == 1, shown.stderr
    lines = shown.stdout.splitlines()
    assert "1  dropped: layer 3 (mlp)" in lines
    assert "2  d_ff 96 -> 64 in 1 of 1 mlp layers" in lines
    # An mlp of 96 has 2 * 64 * 96 parameters, and its norm 64; one of 64 has 2 * 64 * 32 fewer than one of 96.
    words = [line.split() for line in lines]
    assert ["1", "-12.35k"] in [w[:2] for w in words] and ["2", "-4.10k"] in [w[:2] for w in words]
    assert ["all", "-16.45k"] in [w[:2] for w in words]
    assert any(w[:2] == ["decode", "time"] for w in words) and any(w[:1] == ["peak"] for w in words)


def test_lines_fit_80_columns(models: tuple[str, str]) -> None:
    assert max(map(len, run(*models, "--hardware", "a10g").stdout.splitlines())) <= 80


def test_exit_status(models: tuple[str, str]) -> None:
    same = run(models[0], models[0])
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "no difference")
    for wrong in ([models[0]], [*models, "c"], [models[0], "nowhere.yaml"], [*models, "--context", "many"]):
        assert run(*wrong).returncode == 2, wrong


def test_json_tells_changes_rows_and_shares(models: tuple[str, str]) -> None:
    shown = run(*models, "--json")
    found = json.loads(shown.stdout)
    assert shown.returncode == 1 and found["same"] is False
    assert (found["aligned_by"], found["open"]) == ("structure", [])
    dropped, narrower = found["changes"]
    assert dropped["kind"] == "dropped" and len(dropped["edits"]) == 1
    assert (narrower["of"], narrower["field"], narrower["total"]) == ("mlp", "d_ff", 1)
    assert narrower["edits"][0]["old"] == 96 and narrower["edits"][0]["new"] == 64
    assert [r["status"] for r in found["rows"]].count("dropped") == 1
    assert [s["added"]["params"] for s in found["effect"]["stages"]] == [-(2 * 64 * 96 + 64), -2 * 64 * 32]
    assert found["effect"]["a"]["memory"]["peak_bytes"] > found["effect"]["b"]["memory"]["peak_bytes"]


def test_python_takes_what_load_takes() -> None:
    assert not archc.diff("tiny-dense", archc.load("tiny-dense"))
    found = archc.diff("llama-3.1-8b", "llama-3.1-8b", kv_format="fp8", context="128k", hardware="a10g")
    assert found.effect.first == found.effect.last
    assert found.effect.first["state_bytes"] == 131072 * 32 * 2 * 8 * 128


# -- git ---------------------------------------------------------------------------------------------------------------


class Repository:
    """A git repository whose specs and IR files are shown by archc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q")
        self.git("config", "diff.archc.command", f"{sys.executable} -m archc diff --git-driver")
        self.write(".gitattributes", "*.ir diff=archc\n*.yaml diff=archc\n")

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.pager=cat")
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "x")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_git_shows_specs_and_ir_as_models(repository: Repository) -> None:
    child = "archc: 1\nname: child\nextends: ./small.yaml\nchanges: {d_model: 48}\n"
    small = archc.load("tiny-dense")
    repository.write("models/small.yaml", SPEC)
    repository.write("models/child.yaml", child)
    repository.write("m.ir", print_graph(small))
    repository.commit()
    repository.write("models/child.yaml", child.replace("48", "32"))
    repository.write("m.ir", print_graph(archc.apply(small, "drop-layers{layers=(1)}")[0]))
    shown = repository.git("diff")
    assert (
        "archc diff a/models/child.yaml b/models/child.yaml\nchild -> child\n\n1  d_model 48 -> 32 everywhere" in shown
    )
    assert "1  dropped: layer 1 (mlp)" in shown
    repository.commit()
    assert "1  d_model 48 -> 32 everywhere" in repository.git("show", "--ext-diff", "HEAD")


def test_git_sees_files_come_go_and_move(repository: Repository) -> None:
    repository.write("a.yaml", SPEC)
    repository.commit()
    repository.git("mv", "a.yaml", "moved.yaml")
    repository.write("moved.yaml", SPEC.replace("d_ff: 96", "d_ff: 80"))
    repository.git("add", "-A")
    moved = repository.git("diff", "--cached", "-M")
    assert "archc diff a/a.yaml b/moved.yaml" in moved and "d_ff 96 -> 80 in 2 of 2 mlp layers" in moved
    apart = repository.git("diff", "--cached", "--no-renames")
    assert "removed: small: 2 attention, 2 mlp; " in apart and "added: small: 2 attention, 2 mlp; " in apart


def test_git_gets_text_for_what_is_no_model(repository: Repository) -> None:
    repository.write("a.yaml", "jobs: [x]\n")
    repository.write("b.yaml", SPEC)
    (repository.folder / "c.ir").write_bytes(b"\xff\xfe")
    repository.commit()
    repository.write("a.yaml", "jobs: [y]\n")
    repository.write("b.yaml", SPEC + "# why\n")
    (repository.folder / "c.ir").write_bytes(b"\xff\xfd")
    shown = repository.git("diff")
    assert "as text: no archc spec\n" in shown
    assert "--- a/a.yaml\n+++ b/a.yaml\n@@ -1 +1 @@\n-jobs: [x]\n+jobs: [y]\n" in shown
    assert "the same model; its text changed:\n" in shown and "\n+# why\n" in shown
    assert shown.count("as text: ") == 2 and "as text: archc cannot read it: " in shown


def test_git_is_told_of_a_mode_that_changed_and_of_a_pager_that_left(repository: Repository) -> None:
    repository.write("a.yaml", SPEC)
    repository.commit()
    (repository.folder / "a.yaml").chmod(0o755)
    assert repository.git("diff").endswith("the same model and text\n")
    repository.write("a.yaml", SPEC.replace("d_ff: 96", "d_ff: 64"))
    left = subprocess.run("git diff | head -c 1", shell=True, cwd=repository.folder, capture_output=True, check=True)
    assert left.stderr == b""


def test_options_that_leave_no_room_for_one_another_are_refused(tmp_path: Path) -> None:
    page = str(tmp_path / "page.html")
    for command in (
        ["show", "tiny-moe", "--json", "--html", page],
        ["show", "tiny-moe", "--layer", "1", "--html", page],
        ["show", "tiny-moe", "--svg", "-", "--html", "-"],
        ["diff", "tiny-moe", "tiny-dense", "--json", "--html", page],
        ["diff", "tiny-moe", "tiny-dense", "--patch", "-", "--svg", "-"],
    ):
        done = subprocess.run([sys.executable, "-m", "archc", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and not done.stdout and ("exclude" in done.stderr or "only one" in done.stderr)
    assert not list(tmp_path.iterdir())


def test_a_count_that_is_none_is_named() -> None:
    with pytest.raises(UnitError, match="`context`: expected a count such as"):
        archc.diff("tiny-moe", "tiny-dense", context="abc")
