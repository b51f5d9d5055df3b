"""What the decorator promises: one node per call, named results, sources that stand on their own."""

from __future__ import annotations

import ast
import builtins
import inspect
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch

from archc.kernels import reference
from archc.kernels.primitive import dependencies, primitive, primitives, results, source_function


def test_importing_kernels_does_not_import_torch() -> None:
    code = "import sys, archc.kernels, archc.kernels.primitive; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_call_on_proxies_is_one_node() -> None:
    def maths(q: Any, k: Any) -> Any:
        q, k = reference.rotary(q, k, torch.ones(2), 1.0)
        return reference.concat_last(q, reference.relu2(k))

    graph = torch.fx.symbolic_trace(maths).graph
    calls = [n for n in graph.nodes if n.op == "call_function" and hasattr(n.target, "results")]
    assert [n.target.__name__ for n in calls] == ["rotary", "relu2", "concat_last"]
    assert calls[0].meta["results"] == ("q", "k") == results(reference.rotary)


def test_proxies_are_found_in_nested_arguments() -> None:
    graph = torch.fx.symbolic_trace(lambda x, n: reference.split(torch.ones(4), (n, n))).graph
    assert sum(n.op == "call_function" for n in graph.nodes) == 1


def test_two_primitives_of_one_name_are_refused() -> None:
    def silu(x: Any) -> Any:
        return x

    with pytest.raises(ValueError, match="`silu` is registered twice"):
        primitive(silu)


def test_dependencies_are_found_by_name() -> None:
    assert dependencies(reference.rms_norm) == ("widen",)
    assert "ssd_carry_at_once" in dependencies(primitives()["ssd_carry"])
    assert dependencies(reference.linear) == ()


@pytest.mark.parametrize("name", sorted(primitives()))
def test_a_source_uses_torch_math_and_primitives_only(name: str) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(source_function(primitives()[name]))))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    bound = {a.arg for n in ast.walk(function) if isinstance(n, ast.arguments) for a in _all(n)}
    bound |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    assert not any(isinstance(n, ast.Import | ast.ImportFrom) for n in ast.walk(function)), "imports stand at the top"
    read = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    known = {"torch", "F", "math", "LayerState", "primitive", *primitives(), *dir(builtins)}
    assert read - bound <= known
    assert ast.get_docstring(function)


def _all(arguments: ast.arguments) -> list[ast.arg]:
    more = [a for a in (arguments.vararg, arguments.kwarg) if a]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *more]


def test_everything_public_is_a_primitive_or_the_state() -> None:
    assert set(reference.__all__) <= {"LayerState", *primitives()}
