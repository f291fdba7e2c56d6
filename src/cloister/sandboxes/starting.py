"""The folder of a sandbox that is about to start, and what is left to read when it does not."""

import contextlib
import os
from pathlib import Path

from cloister.core.errors import CloisterError
from cloister.platform.objects import remove_tree
from cloister.sandboxes.errors import BackendFailed
from cloister.sandboxes.spec import Place


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
