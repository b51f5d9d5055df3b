"""The source of primitives as an emitted package carries it: what it uses and nothing else, decorators left out."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType

from archc import __version__
from archc.codegen.templates import render_template
from archc.kernels.errors import GraphError
from archc.kernels.primitive import primitives, source_function

_HOME = "archc.kernels"


@dataclass
class _Module:
    """Definitions and imports of one module of kernels."""

    name: str
    doc: str
    lines: list[str]
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # local name -> (module, attribute or "")

    def source(self, name: str) -> str:
        """The text of a definition without its decorators, kept only where it is not `@primitive`."""
        node = self.definitions[name]
        first = node.lineno
        kept = [d for d in getattr(node, "decorator_list", []) if "primitive" not in ast.unparse(d)]
        above = [f"@{ast.unparse(d)}" for d in kept]
        return "\n".join([*above, *self.lines[first - 1 : node.end_lineno]])


@functools.cache
def _module(name: str) -> _Module:
    module: ModuleType = importlib.import_module(name)
    text = inspect.getsource(module)
    tree = ast.parse(text)
    found = _Module(name, (ast.get_docstring(tree) or "").partition("\n")[0], text.splitlines())
    for node in _statements(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.definitions[node.name] = node
        elif isinstance(node, ast.Import):
            found.imports |= {(a.asname or a.name.partition(".")[0]): (a.name, "") for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.imports |= {(a.asname or a.name): (str(node.module), a.name) for a in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                found.definitions[target.id] = node
    return found


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those under `if TYPE_CHECKING` included."""
    for node in body:
        if isinstance(node, ast.If):
            yield from node.body
        else:
            yield node


def kernels_text(names: Iterable[str]) -> str:
    """kernels.py: the named primitives and classes with all that they need, under their legend of shapes."""
    paragraphs = (importlib.import_module(_HOME + ".reference").__doc__ or "").strip().split("\n\n")
    legend = "\n\n".join(paragraphs[1:])
    return render_template("kernels.py", version=__version__, legend=legend, source=_source(names))


def _source(names: Iterable[str]) -> str:
    """Imports, then definitions."""
    wanted: dict[tuple[str, str], None] = {}
    imports: dict[tuple[str, str, str], None] = {}
    todo = [_home(name) for name in names]
    while todo:
        module, name = todo.pop()
        if (module, name) in wanted:
            continue
        wanted[module, name] = None
        for used in _names(_module(module).definitions[name]):
            target = _resolve(module, used)
            if target is None:
                continue
            if target[0].startswith(_HOME):
                todo.append((target[0], target[1]))
            else:
                imports[target[0], target[1], used] = None
    return _imports(imports) + "".join(_sections(wanted))


def _home(name: str) -> tuple[str, str]:
    if name in primitives():
        return source_function(primitives()[name]).__module__, name
    return f"{_HOME}.reference.state", name


def _resolve(module: str, name: str) -> tuple[str, str] | None:
    """Where a name that a definition uses comes from: None for builtins and locals."""
    known = _module(module)
    if name in known.definitions:
        return module, name
    if name not in known.imports:
        return None
    source, attribute = known.imports[name]
    if source == _HOME + ".primitive":
        raise GraphError(f"primitive in {module} uses `{name}` of archc itself: it cannot be copied")
    if source == _HOME + ".reference" and attribute in primitives():
        return _home(attribute)
    return source, attribute


def _names(node: ast.stmt) -> set[str]:
    """Names that a definition reads, in annotations too, but not in the decorators that are left out."""
    parts = [n for n in ast.iter_child_nodes(node) if "primitive" not in ast.unparse(n) or not _decorates(node, n)]
    return {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}


def _decorates(node: ast.stmt, part: ast.AST) -> bool:
    return part in getattr(node, "decorator_list", [])


def _imports(found: Iterable[tuple[str, str, str]]) -> str:
    """Import statements in isort's order: the standard library, then torch."""
    plain: list[str] = []
    members: dict[str, list[str]] = {}
    for module, attribute, local in found:
        if attribute:
            alias = attribute if attribute == local else f"{attribute} as {local}"
            members.setdefault(module, []).append(alias)
        else:
            plain.append(f"import {module}" if local == module.partition(".")[0] else f"import {module} as {local}")
    lines = sorted(plain) + [f"from {m} import {', '.join(sorted(members[m], key=_isort))}" for m in sorted(members)]
    groups = ([x for x in lines if "torch" not in x.split()[1]], [x for x in lines if "torch" in x.split()[1]])
    return "\n\n".join("\n".join(g) for g in groups if g) + "\n"


def _isort(name: str) -> tuple[int, str]:
    """isort's order within an import: constants, classes, then the rest."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def _sections(wanted: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Definitions by the module they come from, in its order, each module introduced by its summary."""
    by_module: dict[str, set[str]] = {}
    for module, name in wanted:
        by_module.setdefault(module, set()).add(name)
    for module in sorted(by_module):
        known = _module(module)
        yield f"\n\n# {known.doc}\n"
        for name in known.definitions:
            if name in by_module[module]:
                yield f"\n\n{known.source(name)}\n"
