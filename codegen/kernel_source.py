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
_REFERENCE = f"{_HOME}.reference"
_STATE = f"{_REFERENCE}.state"


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


Import = tuple[str, str, str]  # module, attribute ("" for the module itself), local name


def kernels_text(names: Iterable[str]) -> str:
    """kernels.py: the named primitives with all that they need, under their legend of shapes."""
    paragraphs = (importlib.import_module(_REFERENCE).__doc__ or "").strip().split("\n\n")
    wanted, imports = _closure(names)
    return render_template(
        "kernels.py",
        version=__version__,
        legend="\n\n".join(paragraphs[1:]),
        imports=_imports(imports),
        definitions="\n".join(_sections(wanted)),
    )


def state_text(*, refusal: str, drafts: bool) -> str:
    """state.py: the LayerState of the primitives, and the State of a model; `refusal` says why it cannot rewind."""
    wanted, imports = _closure(["LayerState"])
    more = [
        ("collections.abc", "Iterable", "Iterable"),
        ("typing", "Any", "Any"),
        ("torch", "Tensor", "Tensor"),
        ("torch.utils._pytree", "register_pytree_node", "register_pytree_node"),
    ]
    return render_template(
        "state.py",
        version=__version__,
        imports=_imports({*imports, *more}),
        layer_state="\n\n\n".join(_module(module).source(name) for module, name in wanted),
        refusal=refusal,
        drafts=drafts,
    )


def _closure(names: Iterable[str]) -> tuple[list[tuple[str, str]], set[Import]]:
    """The definitions that the named ones need, as (module, name), and what they import."""
    wanted: dict[tuple[str, str], None] = {}
    imports: set[Import] = set()
    todo = [_home(name) for name in names]
    first = set(todo)
    while todo:
        module, name = todo.pop()
        if (module, name) in wanted:
            continue
        wanted[module, name] = None
        for used in _names(_module(module).definitions[name]):
            target = _resolve(module, used)
            if target is None or target == (module, name):
                continue
            if target[0] == _STATE and target not in first:
                imports.add((".state", used, used))
            elif target[0].startswith(_HOME):
                todo.append(target)
            else:
                imports.add((*target, used))
    return list(wanted), imports


def _home(name: str) -> tuple[str, str]:
    if name in primitives():
        return source_function(primitives()[name]).__module__, name
    return _STATE, name


def _resolve(module: str, name: str) -> tuple[str, str] | None:
    """Where a name that a definition uses comes from: None for builtins and locals."""
    known = _module(module)
    if name in known.definitions:
        return module, name
    if name not in known.imports:
        return None
    source, attribute = known.imports[name]
    if source == f"{_HOME}.primitive":
        raise GraphError(f"primitive in {module} uses `{name}` of archc itself: it cannot be copied")
    if source == _REFERENCE and attribute in primitives():
        return _home(attribute)
    return source, attribute


def _names(node: ast.stmt) -> set[str]:
    """Names that a definition reads, in annotations too, but not in the decorators that are left out."""
    parts = [n for n in ast.iter_child_nodes(node) if "primitive" not in ast.unparse(n) or not _decorates(node, n)]
    return {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}


def _decorates(node: ast.stmt, part: ast.AST) -> bool:
    return part in getattr(node, "decorator_list", [])


def _imports(found: Iterable[Import]) -> str:
    """Import statements in isort's order: the standard library, torch, the package's own."""
    plain: list[str] = []
    members: dict[str, list[str]] = {}
    for module, attribute, local in sorted(found):
        if attribute:
            members.setdefault(module, []).append(attribute if attribute == local else f"{attribute} as {local}")
        else:
            plain.append(f"import {module}" if local == module.partition(".")[0] else f"import {module} as {local}")
    lines = plain + [f"from {m} import {', '.join(sorted(members[m], key=_isort))}" for m in sorted(members)]
    groups: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for line in lines:
        source = line.split()[1]
        groups[2 if source.startswith(".") else int(source.partition(".")[0] == "torch")].append(line)
    return "\n\n".join("\n".join(group) for group in groups.values() if group)


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
        yield f"# {known.doc}\n\n"
        for name in known.definitions:
            if name in by_module[module]:
                yield f"{known.source(name)}\n\n"
