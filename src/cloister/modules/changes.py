"""What differs between two editions of a module. Pure."""

import difflib
from dataclasses import dataclass

DIFF_BYTES = 200_000
DIFF_LINES = 10_000
"""Of all files together: finding what changed costs up to the square of it."""


@dataclass(frozen=True)
class FileChange:
    """How a file differs between two releases."""

    path: str
    change: str
    """``added``, ``removed`` or ``changed``."""
    diff: str
    """In unified form; empty for what is no text."""


def changes_between(before: dict[str, bytes], after: dict[str, bytes]) -> list[FileChange]:
    """What differs, file by file; line by line as long as all of it is not too much."""
    changes, bytes_left, lines_left = [], DIFF_BYTES, DIFF_LINES
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        was, now, size = _lines(old), _lines(new), len(old or b"") + len(new or b"")
        diff, many = "", len(was) + len(now)
        if size <= bytes_left and many <= lines_left:
            diff = "\n".join(difflib.unified_diff(was, now, f"a/{path}", f"b/{path}", lineterm=""))
            bytes_left, lines_left = bytes_left - size, lines_left - many
        changes.append(FileChange(path, "added" if old is None else "removed" if new is None else "changed", diff))
    return changes


def _lines(content: bytes | None) -> list[str]:
    """A text's lines; none of what is no text."""
    try:
        return (content or b"").decode().splitlines()
    except UnicodeDecodeError:
        return []
