"""Reading and writing files of a volume from outside. Every step goes by descriptor and follows no link: what lies in a
volume was put there by code that nobody trusts, and may change while it is looked at.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cloister.sandboxes.errors import FileNotThere, VolumeFull

MAX_ENTRIES = 1000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Entry:
    """A file or folder of a volume."""

    name: str
    folder: bool
    size: int
    """In bytes."""
    changed_at: datetime


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    if any(part in {".", ".."} or "\0" in part for part in parts):
        raise FileNotThere
    return parts


@contextmanager
def _folder(root: Path, parts: list[str], *, make_for: int | None = None) -> Iterator[int]:
    """A descriptor of a folder beneath a root; ``make_for`` makes what is missing, for a user id."""
    here = os.open(root, _FOLDER)
    try:
        for part in parts:
            if make_for is not None:
                try:
                    os.mkdir(part, 0o755, dir_fd=here)
                    if os.geteuid() == 0:  # without root all files are its own
                        os.chown(part, make_for, make_for, dir_fd=here, follow_symlinks=False)
                except FileExistsError:
                    pass
            below = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}:
            raise FileNotThere from error
        raise
    finally:
        os.close(here)


def entries(root: Path, path: str) -> list[Entry]:
    """The files and folders in a folder, by name, hidden ones last; links and other things are left out.

    Raises:
        FileNotThere: when there is no such folder.
    """
    found = []
    with _folder(root, _parts(path)) as here:
        for name in sorted(os.listdir(here), key=lambda name: (name[:1] == ".", name))[:MAX_ENTRIES]:  # noqa: PTH208
            try:
                about = os.stat(name, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:  # it went meanwhile
                continue
            if stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode):
                changed = datetime.fromtimestamp(about.st_mtime, UTC)
                text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                found.append(Entry(text, stat.S_ISDIR(about.st_mode), about.st_size, changed))
    return found


def open_file(root: Path, path: str) -> int:
    """Open a plain file of a volume to read; the caller closes the descriptor.

    Raises:
        FileNotThere: when there is no such file.
    """
    *folders, name = _parts(path) or [""]
    with _folder(root, folders) as here, _open(name, here) as source:
        return os.dup(source)


def bring_back(snapshot: Path, volume: Path, path: str, uid: int, stamp: str) -> str | None:
    """Copy a file of a snapshot to its place in a volume; return what the file that was there is called now.

    Raises:
        FileNotThere: when there is no such file.
        VolumeFull: when it does not fit; nothing is changed then.
    """
    *folders, name = _parts(path) or [""]
    partial = f".{name[:100]}.restoring-{stamp}"
    with (
        _folder(snapshot, folders) as there,
        _open(name, there) as source,
        _folder(volume, folders, make_for=uid) as here,
    ):
        try:
            _write(source, partial, here, uid)
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=here)
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise VolumeFull from error
            raise
        kept = None
        if _is_there(name, here):
            kept = f"{name[:200]}.before-{stamp}"
            os.rename(name, kept, src_dir_fd=here, dst_dir_fd=here)
        os.rename(partial, name, src_dir_fd=here, dst_dir_fd=here)
        return kept


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _open(name: str, folder: int) -> Iterator[int]:
    try:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise FileNotThere from error
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise FileNotThere
        yield source
    finally:
        os.close(source)


def _write(source: int, partial: str, folder: int, uid: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    target = os.open(partial, flags, 0o600, dir_fd=folder)
    with os.fdopen(target, "wb") as out, os.fdopen(os.dup(source), "rb") as file:
        shutil.copyfileobj(file, out, 1024 * 1024)
        out.flush()
        os.fsync(out.fileno())
        os.fchmod(out.fileno(), stat.S_IMODE(os.fstat(source).st_mode) & 0o777)
        if os.geteuid() == 0:
            os.fchown(out.fileno(), uid, uid)
