"""Saves files as a whole or not at all: nobody reads half a file, and no crash leaves one.

Jupyter's own "atomic" writing copies the old text aside, empties the file and fills it again. Whoever reads meanwhile (a
second page, a colleague, a program) gets an error, or the old text put back in place of the one being saved.
"""

import contextlib
import os
import secrets
import stat

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class WholeFiles(AsyncLargeFileManager):
    """Jupyter's contents manager, but a new text takes the old one's place in one step."""

    @contextlib.contextmanager
    def atomic_writing(self, os_path, text=True, encoding="utf-8", **kwargs):
        """Yield a file to write into. Only if all is written and on disk does it become ``os_path``.

        Raises:
            HTTPError: 403 when the old file or its folder may not be written.
        """
        path = os.path.realpath(os_path)
        if not self.use_atomic_writing or must_stay(path):
            with super().atomic_writing(os_path, text=text, encoding=encoding, **kwargs) as file:
                yield file
            return
        if text:
            kwargs = {"newline": "\n", "encoding": encoding, **kwargs}
        with self.perm_to_403(os_path):
            if os.path.exists(path) and not os.access(path, os.W_OK):
                raise PermissionError(13, "this file is read-only", path)
            fresh = os.path.join(os.path.dirname(path), f".~{secrets.token_hex(8)}")
            try:
                with open(fresh, "x" if text else "xb", **kwargs) as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileNotFoundError):  # a new file
                    os.chmod(fresh, stat.S_IMODE(os.stat(path).st_mode))
                os.replace(fresh, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(fresh)
                raise


def must_stay(path):
    """Whether a file cannot be replaced without changing what it is: it has several names, or its folder is read-only."""
    try:
        return os.stat(path).st_nlink > 1 or not os.access(os.path.dirname(path), os.W_OK)
    except FileNotFoundError:
        return False
