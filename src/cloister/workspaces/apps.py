"""What a workspace runs, by environment."""

from dataclasses import dataclass
from pathlib import Path

from cloister.spaces import AppDeclaration, EnvironmentDeclaration
from cloister.workspaces.errors import KernelMissing, NoApp

JUPYTERLAB = ("python3", "-s", "/opt/cloister/jupyter/start.py")


R_KERNEL = Path("/usr/lib/R/site-library/IRkernel")
"""Where Debian's package has it; sandboxes see the host's ``/usr``."""


@dataclass(frozen=True)
class App:
    """How an app is started, and how it is known to serve."""

    command: tuple[str, ...]
    port: int | None
    """The loopback port it listens on; None when it listens on the app socket by itself."""
    health: str
    start: str
    jupyter: bool
    static: tuple[tuple[str, str], ...] = ()
    """Folders of its address that never change, and where among its packages they are."""


def app_of(environment: EnvironmentDeclaration) -> App:
    """Return the app of an environment.

    Raises:
        NoApp: when it has none.
    """
    declared = environment.app
    if declared == "jupyterlab":
        return App(JUPYTERLAB, None, "/api", "/lab", jupyter=True)
    if isinstance(declared, AppDeclaration):
        return App(
            tuple(declared.command),
            declared.port,
            declared.health,
            declared.start,
            False,
            tuple(declared.static.items()),
        )
    raise NoApp(environment=environment.name)


def check_kernels(environment: EnvironmentDeclaration) -> None:
    """Check that this machine has what the environment's kernels need.

    Raises:
        KernelMissing: naming the packages to install.
    """
    if "r" in environment.kernels and not R_KERNEL.is_dir():
        raise KernelMissing("This machine has no R. Its operator can install it: apt-get install r-cran-irkernel")
