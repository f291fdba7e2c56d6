"""What the controller keeps of a sandbox, its folder before it starts, and what is left to read when it does not."""

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from cloister.core.errors import CloisterError
from cloister.core.ids import new_id
from cloister.platform import Settings
from cloister.platform.objects import remove_tree
from cloister.sandboxes.errors import BackendFailed
from cloister.sandboxes.inner import Connected
from cloister.sandboxes.spec import Place


@dataclass
class Live:
    """A sandbox that this process looks after."""

    id: str
    stop: asyncio.Event
    revoked: str | None = None
    connected: Connected | None = None
    task: "asyncio.Task[None] | None" = None


def node_id(settings: Settings) -> str:
    """This machine's name for itself, kept in its state directory."""
    path = settings.run_directory / "node"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(new_id("node"))
    return path.read_text()


def make_place(place: Place, token: str) -> None:
    remove_tree(place.root)
    place.sockets.mkdir(parents=True)
    place.app_mount.mkdir()
    place.root.parent.chmod(0o700)
    place.token.write_text(token)
    place.token.chmod(0o444)


def tail(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
        return file.read().decode("utf-8", "replace").strip()
    return ""


def start_error(said: str, *, ended: bool) -> CloisterError:
    what = "its first process ended" if ended else "it did not answer in time"
    return BackendFailed(f"The sandbox did not start: {what}. {said[-500:]}".strip())
