"""Saves files as a whole or not at all: nobody reads half a file, and no crash leaves one.

Jupyter's own "atomic" writing copies the old text aside, empties the file and fills it again. Whoever reads meanwhile (a
second page, a colleague, a program) gets an error, or the old text put back in place of the one being saved.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat

from anyio.to_thread import run_sync
from jupyter_server.services.contents.filecheckpoints import AsyncFileCheckpoints
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

CANNOT = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""What a file system answers that knows no files without names."""


class WholeWrites:
    """For Jupyter's managers of files: a new text takes the old one's place in one step."""

    @contextlib.contextmanager
    def atomic_writing(self, os_path, text=True, encoding="utf-8", **kwargs):
        """Yield a file to write into. Only if all is written and on disk does it become ``os_path``.

        Raises:
            HTTPError: 403 when the old file or its folder may not be written.
        """
        with self.perm_to_403(os_path):
            path = os.path.realpath(os_path)
            if not self.use_atomic_writing or must_stay(path):
                with super().atomic_writing(os_path, text=text, encoding=encoding, **kwargs) as file:
                    yield file
                return
            if os.path.exists(path) and not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, "this file is read-only", path)
            if text:
                kwargs = {"newline": "\n", "encoding": encoding, **kwargs}
            with beside(path) as (descriptor, put):
                with open(descriptor, "w" if text else "wb", closefd=False, **kwargs) as file:
                    yield file
                put()


class WholeFiles(WholeWrites, AsyncLargeFileManager):
    """What is saved in one piece. Large uploads come in several, of which each is there when it has come."""


class WholeCheckpoints(WholeWrites, AsyncFileCheckpoints):
    """Checkpoints that are made and gone back to in one step, too."""

    async def _copy(self, src, dest):
        await run_sync(self._copy_whole, src, dest)

    def _copy_whole(self, src, dest):
        with open(src, "rb") as old, self.atomic_writing(dest, text=False) as new:
            shutil.copyfileobj(old, new)


@contextlib.contextmanager
def beside(path):
    """A new file in a file's folder, open for writing, and what puts it in that one's place when all is written.

    It has no name until then where the file system can do that, so that a server that is killed leaves nothing.
    """
    folder = os.path.dirname(path)
    name = os.path.join(folder, f".~{secrets.token_hex(8)}")
    try:
        descriptor, named = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666), False
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        descriptor, named = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666), True

    def put():
        nonlocal named
        os.fsync(descriptor)
        with contextlib.suppress(FileNotFoundError):  # a new file
            os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))
        if not named:
            # A link replaces nothing, so this takes two steps. With a folder given, though unused, Python follows /proc's.
            os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor, follow_symlinks=True)
            named = True
        os.replace(name, path)
        named = False

    try:
        yield descriptor, put
    finally:
        os.close(descriptor)
        if named:
            os.unlink(name)


def must_stay(path):
    """Whether a file cannot be replaced without changing what it is: it has several names, or its folder is read-only."""
    try:
        return os.stat(path).st_nlink > 1 or not os.access(os.path.dirname(path), os.W_OK)
    except FileNotFoundError:
        return False
