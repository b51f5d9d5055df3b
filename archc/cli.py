"""The `archc` command: a table of commands, each in a file of its own that is imported only when it is used.

A command is a function with typer annotations in `archc/commands/<name>.py`, whose imports of anything heavy stand
inside it, and one line in COMMANDS.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from archc import __version__
from archc.kernels.errors import ArchcError

# Help panel -> command -> "module:function".
COMMANDS = {
    "Look and compare": {
        "zoo": "archc.commands.zoo:zoo",
        "show": "archc.commands.show:show",
        "estimate": "archc.commands.estimate:estimate",
        "diff": "archc.commands.diff:diff",
        "check": "archc.commands.check:check",
        "profile": "archc.commands.profile:profile",
        "schema": "archc.commands.schema:schema",
    },
    "Search": {
        "search": "archc.commands.search:search",
        "best": "archc.commands.best:best",
    },
    "Build and run": {
        "demo": "archc.commands.demo:demo",
        "compile": "archc.commands.compile:compile",
        "compress": "archc.commands.compress:compress",
        "migrate": "archc.commands.migrate:migrate",
        "verify": "archc.commands.verify:verify",
        "train": "archc.commands.train:train",
        "distill": "archc.commands.distill:distill",
        "runs": "archc.commands.runs:runs",
        "tokenizer": "archc.commands.tokenizer:tokenizer",
        "eval": "archc.commands.eval:eval",
        "importance": "archc.commands.importance:importance",
        "generate": "archc.commands.generate:generate",
    },
    "Exchange": {
        "import": "archc.commands.import_:import_",
        "export": "archc.commands.export:export",
    },
}

EXIT_ERROR = 2


class _Commands(MutableMapping[str, Any]):
    """Command name -> typer command, built when it is first asked for."""

    def __init__(self) -> None:
        self._panels = {name: panel for panel, names in COMMANDS.items() for name in names}
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = self._build(name)
        return self._built[name]

    def _build(self, name: str) -> Any:
        panel = self._panels[name]
        module, _, function = COMMANDS[panel][name].partition(":")
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(name, rich_help_panel=panel)(getattr(importlib.import_module(module), function))
        return typer.main.get_command(alone)

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command
        self._panels.setdefault(name, "Other")

    def __delitem__(self, name: str) -> None:
        del self._panels[name]
        self._built.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._panels)

    def __len__(self) -> int:
        return len(self._panels)


class _LazyGroup(TyperGroup):
    """A group that imports a command's module when the command runs or its help is shown."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    cls=_LazyGroup,
    name="archc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"archc {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="ARCHC_DEBUG", help="Show the Python traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Design, cost, compress and compile hybrid language models from one declaration.

    MODEL is a spec file, a zoo name, a checkpoint folder, an IR text file or a Hugging Face config.json.
    """
    if debug:
        os.environ["ARCHC_DEBUG"] = "1"


def main() -> None:
    """Run the command line; an error of archc or of the file system is one message, with exit status 2."""
    _log_to_stderr()
    try:
        app()
    except ArchcError as error:
        if _debugging():
            raise
        _fail(str(error))
    except BrokenPipeError:
        # The reader (`head`) has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if _debugging():
            raise
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (MemoryError, RuntimeError) as error:
        if _debugging() or not _is_out_of_memory(error):
            raise
        _fail(f"out of memory: {str(error).splitlines()[0]}")


def _log_to_stderr() -> None:
    """What archc's modules log from `warning` up, a line each: `warning: ...`; and how far is what takes a while."""
    log = logging.getLogger("archc")
    logging.getLogger("archc.progress").setLevel(logging.INFO)
    if not any(isinstance(handler, _Plain) for handler in log.handlers):
        log.addHandler(_Plain())


class _Plain(logging.Handler):
    """Writes to what is standard error by then: a caller may have replaced it since."""

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        print(f"{level}{self.format(record)}", file=sys.stderr, flush=True)


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether memory ran out; torch has no class of its own for that on a CPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _debugging() -> bool:
    return os.environ.get("ARCHC_DEBUG", "0") not in ("", "0")


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(EXIT_ERROR)
