"""Modules as ZIP files: what comes in is checked before any of it is kept. Pure."""

import io
import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable

from cloister.modules.errors import BadArchive, BadPath, ModuleTooLarge

MAX_FILES = 500
MAX_BYTES = 20 * 1024 * 1024
MAX_PATH = 200
_EPOCH = (1980, 1, 1, 0, 0, 0)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')


def check_path(path: str) -> str:
    """Return a path that may be kept.

    Raises:
        BadPath: naming it.
    """
    parts = path.split("/")
    bad = not path or len(path) > MAX_PATH or {"", ".", ".."} & set(parts) or _FORBIDDEN.search(path)
    if bad or any(part.endswith((" ", ".")) for part in parts):
        raise BadPath(f"“{path[:MAX_PATH]}” is no path that a file of a module can have.", path=path[:MAX_PATH])
    return path


def check_paths(paths: Iterable[str]) -> None:
    """Check that paths may be kept, and beside each other.

    Raises:
        BadPath: naming one that may not.
    """
    known = {check_path(path) for path in paths}
    for path in known:
        parts = path.split("/")
        if above := next((top for i in range(1, len(parts)) if (top := "/".join(parts[:i])) in known), None):
            raise BadPath(f"“{above}” cannot be a file and a folder.", path=above)


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of a ZIP file, by path. A single folder around everything is taken off.

    Raises:
        BadArchive, BadPath, ModuleTooLarge: with the entry's name.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise BadArchive("This is no ZIP file.") from error
    files: dict[str, bytes] = {}
    folded: set[str] = set()
    total = 0
    with archive:
        infos = archive.infolist()
        if len(infos) > 2 * MAX_FILES:
            raise ModuleTooLarge(f"It has {len(infos)} entries; a module has at most {MAX_FILES} files.")
        for info in infos:
            if info.is_dir():
                continue
            name = info.filename
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
                raise BadArchive(f"“{name[:MAX_PATH]}” is a link or a device; only files can be in a module.")
            if info.flag_bits & 0x1:
                raise BadArchive(f"“{name[:MAX_PATH]}” is encrypted.")
            check_path(name)
            if name.casefold() in folded:
                raise BadArchive(f"“{name}” is in it twice.")
            folded.add(name.casefold())
            content = _read(archive, info, MAX_BYTES - total)
            total += len(content)
            files[name] = content
            if len(files) > MAX_FILES:
                raise ModuleTooLarge(f"A module has at most {MAX_FILES} files; “{name[:MAX_PATH]}” is one more.")
    if not files:
        raise BadArchive("It is empty.")
    check_paths(files)
    return _unwrapped(files)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, left: int) -> bytes:
    """An entry, read no further than is left, whatever its header says of its size."""
    try:
        with archive.open(info) as file:
            content = file.read(left + 1)
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
        EOFError,
        RuntimeError,
        OSError,
    ) as error:
        raise BadArchive(f"“{info.filename[:MAX_PATH]}” is damaged.") from error
    if len(content) > left:
        raise ModuleTooLarge(f"“{info.filename[:MAX_PATH]}” is too large; a module has at most 20 MB.")
    return content


def _unwrapped(files: dict[str, bytes]) -> dict[str, bytes]:
    tops = {path.split("/", 1)[0] for path in files}
    if len(tops) == 1 and all("/" in path for path in files) and not tops & {"cloister", "src"}:
        return {path.split("/", 1)[1]: content for path, content in files.items()}
    return files


def pack(files: dict[str, bytes]) -> bytes:
    """A ZIP file; equal files make equal bytes, so its hash names the content."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(files):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[path])
    return out.getvalue()
