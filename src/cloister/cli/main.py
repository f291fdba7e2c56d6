"""The root of the command line."""

import sys

import typer

from cloister import __version__
from cloister.cli import audit, data, environment, gateway, image, module, operate, sandbox, space, workspace
from cloister.cli.output import Failure
from cloister.core.errors import CloisterError
from cloister.platform.settings import SettingsError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Cloister: a self-hosted data collaborative.",
)  # fmt: skip
operate.register(app)
app.add_typer(space.app, name="space")
app.add_typer(audit.app, name="audit")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(workspace.app, name="workspace")
app.add_typer(environment.app, name="environment")
app.add_typer(image.app, name="image")
app.add_typer(gateway.app, name="gateway")
app.add_typer(module.app, name="module")
data.register(app)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; errors are sentences, not tracebacks."""
    try:
        app()
    except (CloisterError, Failure, SettingsError) as error:
        typer.echo(f"cloister: {error}", err=True)
        sys.exit(1)
    except OSError as error:  # a file that is not there, or may not be read
        if error.filename is None:
            raise
        typer.echo(f"cloister: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
