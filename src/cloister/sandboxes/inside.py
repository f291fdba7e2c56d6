"""What an environment or an image puts into a sandbox."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Inside:
    """What an environment puts into a sandbox: a folder of packages beside the host's programs, or an image's files."""

    environment: str | None
    image: str | None
    environ: dict[str, str]
    command: tuple[str, ...]
    """What an image runs by itself."""
    cwd: str | None = None
    """Where an image runs it."""
