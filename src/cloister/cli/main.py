"""The root of the command line."""

import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from cloister import __version__
from cloister.cli.output import Failure
from cloister.core.errors import CloisterError, SettingsError

GROUPS = ("space", "audit", "sandbox", "workspace", "environment", "image", "gateway", "module")
"""Each is the module of its name."""
OTHERS = {"operate": ("settings", "doctor", "serve", "demo", "db"), "data": ("sql", "dataset")}
"""Modules of commands that stand at the root."""


def assemble(arguments: Sequence[str]) -> typer.Typer:
    """The command that these arguments ask for, or all when that is none of them.

    Only what is asked for is imported: a client of a server elsewhere needs a tenth of it, and starts in a fraction of the time.
    """
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
        help="Cloister: a self-hosted data collaborative.",
    )  # fmt: skip
    modules: dict[str, tuple[str, ...]] = {**OTHERS, **{name: (name,) for name in GROUPS}}
    wanted = [module for module, commands in modules.items() if arguments and arguments[0] in commands]
    for module in wanted or modules:
        app.add_typer(import_module(f"cloister.cli.{module}").app, name=module if module in GROUPS else None)
    app.command()(version)
    return app


def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; errors are sentences, not tracebacks."""
    try:
        assemble(sys.argv[1:])()
    except (CloisterError, Failure, SettingsError) as error:
        typer.echo(f"cloister: {error}", err=True)
        sys.exit(1)
    except OSError as error:  # a file that is not there, or may not be read
        if error.filename is None:
            raise
        typer.echo(f"cloister: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
