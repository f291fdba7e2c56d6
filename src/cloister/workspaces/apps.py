"""What a workspace runs, by environment."""

from dataclasses import dataclass

from cloister.spaces import AppDeclaration, EnvironmentDeclaration
from cloister.workspaces.errors import NoApp

JUPYTERLAB = ("python3", "/opt/cloister/jupyter/start.py")


@dataclass(frozen=True)
class App:
    """How an app is started, and how it is known to serve."""

    command: tuple[str, ...]
    port: int | None
    """The loopback port it listens on; None when it listens on the app socket by itself."""
    health: str
    start: str
    jupyter: bool


def app_of(environment: EnvironmentDeclaration) -> App:
    """Return the app of an environment.

    Raises:
        NoApp: when it has none.
    """
    declared = environment.app
    if declared == "jupyterlab":
        return App(JUPYTERLAB, None, "/api", "/lab", jupyter=True)
    if isinstance(declared, AppDeclaration):
        return App(tuple(declared.command), declared.port, declared.health, declared.start, jupyter=False)
    raise NoApp(environment=environment.name)
