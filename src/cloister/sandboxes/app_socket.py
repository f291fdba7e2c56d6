"""Connecting to a program inside a sandbox, through the app socket.

The socket lies in a folder that the sandbox writes: its name may be a link to another socket of the host. So it is
opened as what it is, without following anything, checked to be a socket, and reached through the open descriptor.
"""

import asyncio
import os
import stat

from cloister.core.errors import Unavailable
from cloister.sandboxes.spec import Place


class AppNotListening(Unavailable):
    """The program in the sandbox does not listen."""

    code = "sandbox.app_not_listening"


async def connect_app(
    place: Place, name: str = "app.sock", limit: int = 2**20
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a socket in a sandbox's app folder.

    Raises:
        AppNotListening: when nothing listens there, or the name is no socket.
    """
    folder = os.open(place.app, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise AppNotListening from error
    finally:
        os.close(folder)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise AppNotListening
        return await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}", limit=limit)
    except OSError as error:
        raise AppNotListening from error
    finally:
        os.close(descriptor)


def link_app(place: Place, name: str = "app.sock") -> bool:
    """Make `Place.app_link` a name of ours for the socket that a program listens on now; False when there is none.

    Other programs (Caddy) dial by name. A name in a folder that the sandbox writes could be made to mean any socket of
    this machine, at any moment; the link means what was looked at, and lies where no sandbox writes.
    """
    try:
        descriptor = os.open(place.app / name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    link = place.app_link
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISSOCK(found.st_mode):
            return False
        try:
            have = link.lstat()
            if (have.st_ino, have.st_dev) == (found.st_ino, found.st_dev):
                return True
            link.unlink()
        except FileNotFoundError:
            pass  # the first time
        # With a folder named (and not used: the path is absolute), Python calls linkat(2) with AT_SYMLINK_FOLLOW.
        os.link(f"/proc/self/fd/{descriptor}", link, src_dir_fd=descriptor, follow_symlinks=True)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
